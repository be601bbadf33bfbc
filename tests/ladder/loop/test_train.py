"""A run that is killed anywhere and run again gives the numbers of the uninterrupted run, bit for bit."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.wsd import trunk_and_branches
from ladder.config import Rung
from ladder.loop import step
from ladder.overrides import from_dict
from ladder.parallel import sharding
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.lease import read_lease
from ladder.rundir.record import Record
from ladder.sizes import n_params
from launch import goodput
from launch.backends.protocol import TRY_AGAIN
from launch.profiling import trace
from tests.ladder.loop.training import command, kill, run

SEQ, STEPS = 32, 60  # of world.rung()


pytestmark = pytest.mark.usefixtures("quick_compile")


def numbers(directory: Path):
    """What must be identical: the final state as arrays by name, and every row of the metrics."""
    config = Record(directory).read_config()
    trained = from_dict(Rung, config["rung"])
    program = step.build(trained, sharding.make_mesh(trained.mesh))
    state = Checkpoints(directory / "checkpoints").read(trained.steps, program.abstract_state)
    leaves = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}
    return leaves, list(Record(directory).rows())


def assert_same_state(one: Path, other: Path) -> None:
    leaves, other_leaves = numbers(one)[0], numbers(other)[0]
    assert leaves.keys() == other_leaves.keys()
    for name, x in leaves.items():
        assert x.tobytes() == other_leaves[name].tobytes(), name


def assert_same(one: Path, other: Path) -> None:
    assert_same_state(one, other)
    assert numbers(one)[1] == numbers(other)[1]


@pytest.fixture(scope="module")
def uninterrupted(world, tmp_path_factory):
    (directory,) = world([world.rung()], tmp_path_factory.mktemp("reference"))
    assert run(directory) == 0
    return directory


def test_a_run_leaves_its_record(uninterrupted):
    record = Record(uninterrupted)
    rows = list(record.rows())
    assert record.state().name == "done" and record.state().step == STEPS
    assert [row["step"] for row in rows if row["metric"] == "acc"] == [20, 40, 60]
    losses = [row["value"] for row in rows if (row["task"], row["metric"]) == ("train", "loss")]
    assert len(losses) == STEPS // 10 and losses[-1] < losses[0] - 1
    assert all(row["tokens"] == row["step"] * 4 * SEQ for row in rows)
    assert read_lease(uninterrupted) is None
    epochs = json.loads((uninterrupted / "DONE.json").read_text())["epochs"]
    card = json.loads((Path(record.read_config()["corpus_dir"]) / "card.json").read_text())
    assert epochs == pytest.approx(STEPS * 4 / card["windows"]["train"])
    assert Checkpoints(uninterrupted / "checkpoints").steps() == [45, 60]
    before = (uninterrupted / "DONE.json").read_bytes()
    assert run(uninterrupted) == 0  # again: nothing to do
    assert (uninterrupted / "DONE.json").read_bytes() == before


def test_killed_three_times(world, tmp_path, uninterrupted):
    (directory,) = world([world.rung()], tmp_path)
    kill(directory, "before-manifest:2")  # between orbax's rename and the manifest
    kill(directory, "metrics-published:2")  # but not the checkpoint
    assert Checkpoints(directory / "checkpoints").steps() == [15, 30]
    kill(directory, "eval:1")
    assert run(directory, "--profile", "47:49") == 0
    assert_same(directory, uninterrupted)
    assert trace.read(directory / "profile").steps == 2
    seconds = goodput.of_run(Record(directory))
    wall = os.stat(directory / "DONE.json").st_mtime - Record(directory).attempts()[0]["time"]
    assert sum(seconds.values()) == pytest.approx(wall, rel=0.01)
    assert min(seconds.values()) > 0, seconds


PHASES = ("save-started", "before-manifest", "manifest-written", "metrics-written", "metrics-published", "eval", "step")


@pytest.mark.chaos
@pytest.mark.parametrize("at", [*(f"{phase}:{n}" for phase in PHASES for n in (1, 2)), "before-done:1", "step:47"])
def test_killed_at_every_phase(world, tmp_path, uninterrupted, at):
    (directory,) = world([world.rung()], tmp_path)
    kill(directory, at)
    assert run(directory) == 0
    assert_same(directory, uninterrupted)


@pytest.mark.chaos
def test_killed_at_random_moments(world, tmp_path):
    """SIGKILL, SIGTERM or SIGINT, 60 in all, over as many runs as they need; each run goes on where it was."""
    longer = world.rung(tokens=6000 * 4 * SEQ, save_every=100)
    [reference] = world([longer], tmp_path / "reference")
    assert run(reference) == 0
    draw, sent = random.Random(1), Counter()
    for i in itertools.count():
        [directory] = world([longer], tmp_path / str(i))
        while not Record(directory).is_done():
            process = subprocess.Popen(command(directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if sent.total() < 60:
                time.sleep(draw.uniform(1, 9))
                number = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
                sent[number.name] += process.poll() is None
                process.send_signal(number)
            code = process.wait(timeout=300)
            assert code == 0 or code < 0 or code in TRY_AGAIN, code
            assert Record(directory).state().name in ("pending", "stale", "done")
        assert_same(directory, reference)
        if sent.total() >= 60:
            break
    print(f"{i + 1} runs, {dict(sent)}")


def test_a_damaged_newest_checkpoint_is_set_aside(tmp_path, uninterrupted, caplog):
    directory = Path(shutil.copytree(uninterrupted, tmp_path / uninterrupted.name))
    (directory / "DONE.json").unlink()
    largest = max((p for p in (directory / "checkpoints/60").rglob("*") if p.is_file()), key=os.path.getsize)
    damaged = bytearray(largest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    largest.write_bytes(damaged)
    assert run(directory) == 0
    assert f"{largest.name}: its hash differs" in caplog.text
    assert (directory / "checkpoints/bad-60-0").is_dir()
    assert_same(directory, uninterrupted)


def test_branches_are_the_ends_of_full_runs(world, tmp_path, uninterrupted):
    trunk, branch = trunk_and_branches(
        world.rung(save_every=0), [STEPS * 4 * SEQ / (20 * n_params(world.rung().model))]
    )
    assert branch.steps == STEPS
    directories = world([trunk, branch], tmp_path)
    assert run(directories[1]) == 2  # its trunk has no checkpoint yet
    assert [run(directory) for directory in directories] == [0, 0]
    assert_same_state(directories[1], uninterrupted)
    rows, full_rows = numbers(directories[1])[1], numbers(uninterrupted)[1]
    last = [row | {"kind": "branch"} for row in full_rows if row["step"] == STEPS]
    assert [row for row in rows if row["step"] == STEPS] == last


@pytest.mark.slow
def test_a_trunk_is_made_longer_for_a_later_branch(world, tmp_path):
    short, long = (trunk_and_branches(world.rung(save_every=0), multiples) for multiples in ([0.02], [0.02, 0.03]))
    assert short[0].run_id == long[0].run_id and short[0].steps < long[0].steps
    (trunk,) = world([short[0]], tmp_path)
    assert run(trunk) == 0
    assert world([long[0]], tmp_path) == [trunk]
    assert run(trunk) == 0
    assert Checkpoints(trunk / "checkpoints").steps() == list(long[0].save_at)
    (long_from_start,) = world([long[0]], tmp_path / "long")
    assert run(long_from_start) == 0
    assert_same_state(trunk, long_from_start)


def test_sigterm_saves_and_the_run_can_be_resumed(world, tmp_path, uninterrupted):
    (directory,) = world([world.rung()], tmp_path)
    process = subprocess.Popen(command(directory), stderr=subprocess.PIPE, text=True)
    while not (directory / "metrics").exists() or not list((directory / "metrics").glob("*.jsonl")):
        assert process.poll() is None
        time.sleep(0.005)
    process.terminate()
    _, error = process.communicate()
    assert process.returncode == 75, error
    assert "run it again" in error
    stopped = Checkpoints(directory / "checkpoints").steps()[-1]
    assert 0 < stopped < STEPS
    assert run(directory) == 0
    assert_same(directory, uninterrupted)


def test_a_diverged_run_ends_with_78_and_publishes_nothing(world, tmp_path, capsys):
    wild = world.rung()
    wild = replace(wild, optimizer=replace(wild.optimizer, peak_lr=0.9, eps=1e-30, weight_decay=1e38))
    (directory,) = world([wild], tmp_path)
    assert run(directory) == 78 and "lower optimizer.peak_lr" in capsys.readouterr().err
    assert Record(directory).state().name == "diverged"
    assert Checkpoints(directory / "checkpoints").steps() == []
