"""Two trainers of one run, where file locks do not work: one is paused until its lease expires, and goes on too late.

The run has one history: the numbers are those of a single trainer, every file is as its listing says, and what was
published after the second trainer took the lease is all its own.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ladder.rundir import lease
from ladder.rundir.files import as_path, read_json
from ladder.rundir.record import Record
from launch import prepare, verify
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import run

pytestmark = pytest.mark.usefixtures("quick_compile")
SECONDS = 0.5  # of a lease
# Where the first trainer is paused, and how often each is reached in a run with three saves and three evaluations.
PHASES = {
    **{"save-started": 3, "before-manifest": 3, "lease-checked": 3, "manifest-written": 3},
    **{"metrics-written": 3, "metrics-published": 3, "eval": 3, "step": 40, "before-done": 1},
}
PAUSED = f"""
import signal, sys, types
from ladder.rundir import kill_points, lease
kill_points.signal = types.SimpleNamespace(SIGKILL=signal.SIGSTOP)
lease.SECONDS, lease._try_lock = {SECONDS}, lambda path: (True, None)
from launch import cli
sys.exit(cli.main(["train", sys.argv[1]]))
"""


@pytest.fixture
def without_locks(monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", SECONDS)
    monkeypatch.setattr(lease, "_try_lock", lambda path: (True, None))


@pytest.fixture(scope="module")
def built(world):
    return world.build([world.rung(save_every=20)])


@pytest.fixture(scope="module")
def alone(built, tmp_path_factory):
    [directory] = prepare.write(built, built.ladder.all, tmp_path_factory.mktemp("alone"))
    assert run(directory) == 0
    return directory


def manifests(directory):
    return {
        step: read_json(directory / "checkpoints" / str(step) / "MANIFEST.json")["data"] for step in saved(directory)
    }


def saved(directory):
    return Record(directory).saved_steps()


def is_stopped(process) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def race(directory, at: str, log: Path) -> str:
    """The first trainer is paused at a phase, a second one trains the run, the first goes on; returns what it said."""
    env = os.environ | {"LADDER_KILL_AT": at}
    with log.open("wb") as output:
        first = subprocess.Popen([sys.executable, "-c", PAUSED, str(directory)], env=env, stdout=output, stderr=output)
    while not is_stopped(first):
        assert first.poll() is None, f"{at} was not reached: {log.read_text()}"
        time.sleep(0.01)
    before = manifests(directory)
    time.sleep(SECONDS + 0.1)
    assert run(directory) == 0
    after = manifests(directory)
    first.send_signal(signal.SIGCONT)
    code = first.wait(timeout=120)
    said = log.read_text()
    assert code == 75, (at, code, said[-2000:])
    assert manifests(directory) == after, at
    [second] = {data for step, data in after.items() if before.get(step) != data} or {"data-2"}
    assert second == "data-2", (at, before, after)
    return said


def races(built, alone, folder, root, n: int, seed: int) -> Counter:
    draw, counts = random.Random(seed), Counter()
    for i in range(n):
        phase = list(PHASES)[i % len(PHASES)]
        at = f"{phase}:{draw.randint(1, PHASES[phase])}"
        [directory] = prepare.write(built, built.ladder.all, root / str(i))
        said = race(directory, at, folder / f"{i}.log")
        assert "stopped: " in said, (at, said)
        assert_same(directory, alone)
        checked = verify.check(directory)
        assert checked.problems == (), (at, checked.problems)
        counts[phase] += 1
    print(json.dumps(counts))
    return counts


@pytest.mark.slow
def test_a_paused_trainer_publishes_nothing(built, alone, tmp_path, without_locks):
    assert races(built, alone, tmp_path, tmp_path, 3, seed=0).total() == 3


@pytest.mark.chaos
def test_fifty_races_on_a_disk(built, alone, tmp_path, without_locks):
    assert races(built, alone, tmp_path, tmp_path, 50, seed=1).total() == 50


@pytest.mark.chaos
def test_fifty_races_in_a_bucket(built, alone, tmp_path, without_locks, bucket):
    assert races(built, alone, tmp_path, as_path(bucket.url), 50, seed=2).total() == 50
