"""Rungs that repeat each source as often as a target will: which share of a source they read."""

from dataclasses import replace

import pytest

from ladder.config import Data, Ladder, Model, Optimizer, Phase, Rung, Source
from ladder.data_config import POSITIONS
from ladder.errors import InputError
from launch import epochs

SEQ, BATCH = 64, 1024
SOURCES = (Source("web", ("web",), 0.75), Source("code", ("code",), 0.25))
UNIQUE = (500_000 * SEQ, 20_000 * SEQ)  # tokens of each source


def rung(steps: int, label: str | None = None, **changes) -> Rung:
    model, optimizer = Model("llama", 16, 1, 2, 32, 256, SEQ), Optimizer(0.01, 1000, schedule="wsd")
    data = Data(sources=SOURCES, simulate_epochs_of="big")
    plain = Rung(label or f"s{steps}", 1, steps * BATCH, BATCH, model, optimizer, data, name=label)
    return replace(plain, **changes)


def ladder(*rungs: Rung, target: Rung | None = None) -> Ladder:
    return Ladder("tiny", rungs, (target or rung(100_000, "big"),))


def epochs_of(rung: Rung) -> list[float]:
    return [use.epochs for use in epochs.uses(rung, UNIQUE)]


@pytest.mark.parametrize("phases", [(), (Phase((0.1, 0.9), start=0.9),)], ids=["one mixture", "phases"])
def test_a_rung_reads_each_source_as_often_as_the_target(phases):
    data = Data(sources=SOURCES, phases=phases, simulate_epochs_of="big")
    made = ladder(*(rung(n, data=data) for n in (1_000, 7_777, 30_000)), target=rung(100_000, "big", data=data))
    expected = epochs_of(made.targets[0])
    assert made.targets[0].subsets == () and expected[1] > 10
    for small in made.rungs:
        assert epochs_of(small) == pytest.approx(expected, rel=0.01)
    # Without a change of the weights, the share is the ratio of all tokens.
    if not phases:
        assert made.rungs[0].subsets == (0.01, 0.01)


def test_where_the_mixtures_differ_each_source_has_a_share_of_its_own():
    heavy = Data(sources=(SOURCES[0], replace(SOURCES[1], weight=0.75)))
    made = ladder(rung(10_000), target=rung(100_000, "big", data=heavy))
    assert made.rungs[0].subsets == pytest.approx((0.1 * 0.75 / 0.5, 0.1 * 0.25 / 0.5), rel=2 / POSITIONS)


def test_one_text_is_a_source():
    data = Data(text=("web",), simulate_epochs_of="big")
    made = ladder(rung(10_000, data=data), target=rung(100_000, "big", data=data))
    assert made.rungs[0].subsets == (0.1,)


def test_shares_enter_the_run_id_and_follow_a_change_of_the_ladder():
    plain = Data(sources=SOURCES)
    none = ladder(rung(1_000, data=plain), target=rung(100_000, "big", data=plain))
    some, same = ladder(rung(1_000)), ladder(rung(100_000), target=rung(100_000, "big"))
    assert some.rungs[0].run_id != none.rungs[0].run_id
    assert same.rungs[0].subsets == (1.0, 1.0)  # all that the target reads
    assert same.rungs[0].run_id == replace(same.rungs[0], data=plain, subsets=()).run_id
    longer = some.map(lambda r: replace(r, tokens=2 * r.tokens) if r.name is None else r)
    assert longer.rungs[0].subsets == (0.02, 0.02)
    assert some.map(lambda r: replace(r, data=plain)).rungs[0].run_id == none.rungs[0].run_id
    assert Ladder("tiny", some.rungs).rungs == some.rungs  # the ladder of one run, without its target


@pytest.mark.parametrize(
    "rung, target, message",
    [
        (rung(1_000), rung(9_000, "large"), "big': the ladder has no such target (it has: large)"),
        (rung(9_000), rung(1_000, "big"), "reads 6.912e+06 tokens of source web, big 7.68e+05"),
        (rung(1_000), rung(9_000, "big", data=Data(text=("a",))), "['web', 'code'], those of big ['text']"),
        (rung(1_000, kind="trunk", multiple=None), rung(9_000, "big"), "a trunk cannot, it shares its tokens"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(rung, target, message):
    with pytest.raises(InputError) as raised:
        ladder(rung, target=target)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_shares_must_fit_the_sources():
    with pytest.raises(InputError, match=r"subsets = \(0.5,\): give a share of each source"):
        rung(1_000, subsets=(0.5,))
