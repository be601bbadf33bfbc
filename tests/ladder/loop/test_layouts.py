"""Two rungs and a target on text, a .npy file and a Megatron pair, with phases and simulated epochs, in every layout.

A layout is (processes, devices of each). Batches are the same everywhere. The parameters are where devices and
processes are: sums over the devices of two processes are made in another order than those of one.
"""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.config import Data, Eval, Phase, Rung
from ladder.loop.run import open_run
from ladder.rundir.record import Record
from launch import epochs
from tests.ladder.loop.test_token_runs import mixture
from tests.ladder.loop.test_token_runs import tokens as tokens  # a fixture
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import kill, run
from tests.ladder.parallel import windows_read
from tests.ladder.parallel.test_processes import Started, assert_same_bits, assert_same_to_the_last_bits, state, values

STEPS, BATCH, SEQ = 20, 16, 32
PHASE = 14  # the first step with other weights
TARGET_STEPS = 300
LAYOUTS = {"1 process, 1 device": (1, 1), "1 process, 8 devices": (1, 8), "2 processes, 8 devices": (2, 4)}
# Of each run: the layout that is killed, and where; each is resumed with one and with two processes.
KILLED = {
    "s": ("1 process, 8 devices", "step:13"),
    "m": ("2 processes, 8 devices", "manifest-written:2"),
    "t": ("1 process, 8 devices", "metrics-published:3"),
}


def ladder(world, tokens) -> tuple[list[Rung], Rung, Data]:
    """Two sizes of 20 steps, a target of 300, and their data."""
    evaluation = Eval(every=10, validation_tokens=1024)
    model = replace(world.rung().model, n_layers=1)
    length = {"batch_tokens": BATCH * SEQ, "tokens": STEPS * BATCH * SEQ, "save_every": 5, "eval": evaluation}
    small = world.rung(model=model, **length)
    rungs = [small, replace(small, size="m", model=replace(model, d_model=24))]
    target = replace(small, size="t", name="goal", tokens=TARGET_STEPS * BATCH * SEQ)
    phases = (Phase((0.2, 0.2, 0.6), start=PHASE / STEPS),)
    return rungs, target, replace(mixture(world, tokens), phases=phases, simulate_epochs_of="goal")


def prepared(world, tokens, root: Path, size: str) -> Path:
    """The run directory of the rung of that size; "t" is the target, cut to the rungs' length."""
    rungs, target, data = ladder(world, tokens)
    if size == "t":
        short = replace(target, name="short", tokens=STEPS * BATCH * SEQ)
        return world([short], root, replace(data, simulate_epochs_of=None))[0]
    made = world(rungs, root, data, [target])
    return made[["s", "m"].index(size)]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compile")
def test_rungs_repeat_as_the_target_does_and_a_kill_beside_the_phase_changes_nothing(world, tokens, tmp_path):
    rungs, target, data = ladder(world, tokens)
    built = world.build(rungs, data, [target])
    of_target, of_rungs = built.ladder.targets[0], built.ladder.rungs
    sizes = [source.windows["train"] * SEQ for source in _opened(world, tokens, tmp_path)]
    expected = [use.epochs for use in epochs.uses(of_target, sizes)]
    assert min(expected) < 1 < max(expected)
    for rung in of_rungs:
        found = [use.epochs for use in epochs.uses(rung, sizes)]
        # Subsets are whole windows: of a few, one is more than one percent.
        windows = [use.unique_tokens / SEQ for use in epochs.uses(rung, sizes)]
        assert all(abs(a / b - 1) <= max(0.01, 0.5 / n) for a, b, n in zip(found, expected, windows, strict=True))
    whole, killed = (prepared(world, tokens, tmp_path / name, "s") for name in ("whole", "killed"))
    kill(killed, f"step:{PHASE + 1}")
    assert run(killed) == run(whole) == 0
    assert_same(killed, whole)
    done = json.loads((whole / "DONE.json").read_text())["epochs_of_sources"]
    assert [done[source.name] for source in data.sources] == pytest.approx(found, rel=0.01)


def _opened(world, tokens, root: Path) -> list:
    return [source.corpus for source in open_run(Record(prepared(world, tokens, root / "open", "s"))).data.sources]


@pytest.mark.chaos
@pytest.mark.parametrize("size", KILLED)
def test_in_every_layout_killed_and_resumed_with_one_and_two_processes(world, tokens, tmp_path, size):
    def trained(directory: Path, processes: int, devices: int) -> dict:
        started = Started(directory, processes, devices)
        assert started.codes() == [0] * processes, started.logs[0].read_text()
        return windows_read.batches(directory, processes)

    whole = {name: prepared(world, tokens, tmp_path / name, size) for name in LAYOUTS}
    expected, *others = [trained(whole[name], *layout) for name, layout in LAYOUTS.items()]
    assert list(expected) == list(range(STEPS)) and all(len(rows) == BATCH for rows in expected.values())
    assert others == [expected] * 2
    one, *eight = whole.values()
    for directory in eight:
        assert_same_to_the_last_bits(values(directory), values(one))
    layout, point = KILLED[size]
    for after in ("1 process, 8 devices", "2 processes, 8 devices"):
        directory = prepared(world, tokens, tmp_path / f"killed, then {after}", size)
        killed = Started(directory, *LAYOUTS[layout], LADDER_KILL_AT=point)
        # Of two processes one may be ended by jax, because the other has gone.
        assert -signal.SIGKILL in killed.codes(), killed.logs[0].read_text()
        resumed = trained(directory, *LAYOUTS[after])
        assert 0 < min(resumed) < STEPS and max(resumed) == STEPS - 1
        assert resumed.items() <= expected.items()
        if after == layout:
            assert_same_bits(state(directory, STEPS), state(whole[after], STEPS))
            assert values(directory) == values(whole[after])
        else:
            assert_same_to_the_last_bits(values(directory), values(whole[after]))
