"""What a ladder will cost: computed by hand for one run; a finished run costs nothing more."""

import pytest

from ladder import topologies
from ladder.errors import InputError
from launch.backends.protocol import Job
from launch.scheduler import estimate, status
from launch.scheduler.status import Status

JOBS = (
    Job("a", "a", "a", (), size="s", flops=9e20),
    Job("b", "b", "b", (), size="s", flops=4e20),
    Job("fit", "fit", "fit", (), kind="fit"),
)
RUNS = {
    "a": Status("a", "done"),
    "b": Status("b", "running", step=5, steps=10),
    "fit": Status("fit", "pending"),
}


def v5e(size):
    return topologies.parse("v5e:4x4")


def test_one_run_by_hand():
    costs = estimate.estimate(JOBS, RUNS, v5e, {"v5e": "1-3"})
    chip_seconds = 2e20 / 197e12
    assert costs.runs == 2
    assert costs.flops == 2e20
    assert costs.hours == pytest.approx((chip_seconds / 0.5 / 3600, chip_seconds / 0.2 / 3600))
    assert costs.dollars == pytest.approx((costs.hours[0], costs.hours[1] * 3))
    assert str(costs) == "2 runs to go, 2.000e+20 FLOPs, 564 to 1.41k chip-hours, $564 to $4,230"


def test_without_tpus_only_flops():
    assert str(estimate.estimate(JOBS, RUNS)) == "2 runs to go, 2.000e+20 FLOPs"


def test_a_kind_without_a_price_asks_for_one():
    def tpu7x(size):
        return topologies.parse("tpu7x:2x2x1")

    with pytest.raises(
        InputError, match=r'prices.tpu7x is not set: in ladder.toml under \[prices\], tpu7x = "LOW-HIGH"'
    ):
        estimate.estimate(JOBS, RUNS, tpu7x)
    assert estimate.estimate(JOBS, RUNS, tpu7x, {"tpu7x": "1-2"}).dollars[1] > 0


@pytest.mark.parametrize("prices", [{"v5e": "3-1"}, {"v5e": "free"}, {"v9": "1-2"}])
def test_a_wrong_price_is_refused(prices):
    with pytest.raises(InputError, match="dollars for a chip-hour"):
        estimate.estimate(JOBS, RUNS, v5e, prices)


@pytest.mark.parametrize(
    ("text", "vms", "per_vm"),
    [
        ("v5e:1x1", 1, 1),
        ("v5e:2x4", 1, 8),
        ("v5e:4x4", 4, 4),
        ("v4:2x2x1", 1, 4),
        ("v5p:8x8x8", 128, 4),
        ("v6e:16x16", 64, 4),
        ("tpu7x:2x2x1", 1, 4),
        ("tpu7x:4x4x8", 32, 4),
    ],
)
def test_slices_have_whole_vms(text, vms, per_vm):
    tpu = topologies.parse(text)
    assert (tpu.vms, tpu.chips_per_vm) == (vms, per_vm)


@pytest.mark.parametrize(
    "text", ["v5e", "v5e:4", "v5e:4x4x4", "v4:4x4", "v9:2x2", "v5e:0x4", "v5e:4x4;x", "", "v5e:3x3"]
)
def test_a_wrong_topology_is_refused(text):
    with pytest.raises(InputError, match="topology"):
        topologies.parse(text)


ROW = {"durable": None}
T0 = 1_000_000.0
ATTEMPTS = [  # submitted, begun after 5 minutes of waiting; preempted, seen and submitted after an hour; begun again
    {"by": "submit", "time": T0},
    {"by": "train", "time": T0 + 300},
    {"by": "submit", "time": T0 + 3900},
    {"by": "train", "time": T0 + 4000},
]
SECONDS = {
    "never begun": (ATTEMPTS[:1], 0.0, T0 + 999, (0, 0)),
    "begun, no heartbeat yet": (ATTEMPTS[:2], 0.0, T0 + 400, (0, 100)),
    "runs": (ATTEMPTS[:2], T0 + 390, T0 + 400, (90, 100)),
    "preempted": (ATTEMPTS[:3], T0 + 390, T0 + 4000, (0, 3600)),
    "begun again": (ATTEMPTS, T0 + 5000, T0 + 5010, (1000, 3600 + 1010)),
    "over": (ATTEMPTS, T0 + 5000, None, (1000, 3600 + 1000)),
}


@pytest.mark.parametrize("case", SECONDS)
def test_how_long_a_run_was_trained(case):
    attempts, beat, now, expected = SECONDS[case]
    assert status.seconds([ROW | row for row in attempts], beat, now) == pytest.approx(expected)


def test_what_was_spent_by_hand():
    runs = [Status("a", "done", seconds=(3600, 7200), size="s"), Status("b", "running", seconds=(0, 3600), size="s")]
    runs.append(Status("fit", "running", seconds=(3600, 3600)))
    spent = estimate.spent(runs, v5e, 2, {"v5e": "1-3"})
    assert spent.hours == (32, 96) and spent.dollars == (32, 288)
    assert str(spent) == "spent so far: 32 to 96 chip-hours, $32 to $288 (training, by the times of all attempts)"


@pytest.mark.parametrize(("limit", "refused"), [(0.0, False), (4231.0, False), (4229.0, True), (600.0, True)])
def test_the_high_end_is_compared_with_the_limit(limit, refused):
    costs = estimate.estimate(JOBS, RUNS, v5e, {"v5e": "1-3"})
    assert bool(costs.above(limit)) == refused
    if refused:
        assert f"limits.dollars = {limit:g}: the 2 runs to go cost up to $4,230 (the high end " in costs.above(limit)
