"""A process that hangs writes its stacks, ends with exit code 75, and the next one goes on with the same bits."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ladder.errors import InputError
from ladder.monitor import watchdog
from ladder.rundir import kill_points
from ladder.rundir.record import Record
from tests.ladder.loop.test_train import assert_same, uninterrupted  # noqa: F401 (a fixture)
from tests.ladder.loop.training import command, run

# Waits in C, in a lock that another thread never gives back, as the loop would wait for the loader.
HANGS = """
import threading
from ladder.monitor import watchdog
from ladder.rundir.kill_points import phase
with watchdog.watch():
    phase("step"), phase("step")
    print("waits", flush=True)
    threading.Lock().acquire() and threading.Event().wait()
"""


def hanging(seconds: float) -> subprocess.Popen:
    env = os.environ | {watchdog.VARIABLE: str(seconds)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HANGS], env=env, **pipes)
    assert process.stdout.readline() == "waits\n"
    return process


def test_a_process_that_hangs_ends_with_75_and_its_stacks_are_in_its_log():
    process = hanging(2)
    process.send_signal(signal.SIGUSR1)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 75
    asked_for, line, at_the_end = log.partition("watchdog: nothing has happened for 2 s, since phase 'step'")
    assert line and all("most recent call first" in part for part in (asked_for, at_the_end))
    assert '<string>", line ' in asked_for and '<string>", line 8' in at_the_end  # asked for as early as line 7


@pytest.mark.parametrize(
    "signs, late_after",
    [
        ([("step", 5, 0.0)], 10),
        ([("step", 1, 0.0)], 40),  # compiles
        ([("start", 2, 0.0)], 40),  # copies, restores and compiles
        ([("step", 5, 0.0), ("eval", 1, 8.0)], 48),
        ([("step", 5, 0.0), ("step", 6, 8.0), ("save-started", 2, 9.0)], 19),
    ],
)
def test_how_long_a_phase_may_take(monkeypatch, signs, late_after):
    now, ended = [0.0], []

    class Clock(threading.Event):
        def wait(self, seconds):
            now[0] += seconds

    def latest():
        return [kill_points.Sign(*sign) for sign in signs if sign[2] <= now[0]][-1]

    monkeypatch.setattr(watchdog, "latest_sign", latest)
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watchdog, "_end", lambda what, delay: ended.append((now[0], what)))
    watchdog._end_if_late(10, 0.0, Clock())
    [(at, what)] = ended
    assert at == pytest.approx(late_after) and f"since phase {signs[-1][0]!r}" in what


@pytest.mark.parametrize("text", ["", "ten", "-1", "nan", "inf"])
def test_a_setting_that_is_no_number_is_one_line(monkeypatch, text):
    monkeypatch.setenv(watchdog.VARIABLE, text)
    with pytest.raises(InputError, match=r"LADDER_WATCHDOG_SECONDS = .*: write a number of seconds"), watchdog.watch():
        pass


def test_the_watchdog_ends_with_the_training(monkeypatch):
    monkeypatch.setattr(watchdog, "_end", lambda what, delay: pytest.fail(what))
    monkeypatch.setenv(watchdog.VARIABLE, "0.5")
    before = threading.active_count()
    with watchdog.watch():
        assert threading.active_count() == before + 1
    monkeypatch.setenv(watchdog.VARIABLE, "0")
    with watchdog.watch():
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() == before


@pytest.mark.chaos
@pytest.mark.parametrize("at, frame", [("step:23", "_loop"), ("read:23", "read"), ("eval:2", "evaluate"),
                                       ("before-manifest:2", "commit")])  # fmt: skip
def test_a_hang_in_training_ends_with_75_and_the_run_resumes_exactly(world, tmp_path, uninterrupted, at, frame):  # noqa: F811
    (directory,) = world([world.rung()], tmp_path)
    env = os.environ | {"LADDER_HANG_AT": at, watchdog.VARIABLE: "15"}
    began = time.time()
    process = subprocess.run(command(directory), env=env, stderr=subprocess.PIPE, text=True, timeout=300)
    hung_at = max(path.stat().st_mtime for path in (directory / "heartbeat.json", directory / "metrics"))
    print(f"{at}: exit code {process.returncode}, {time.time() - hung_at:.1f} s after the last file was written")
    assert process.returncode == 75, process.stderr
    assert began < hung_at and time.time() - hung_at < 15 + 10
    assert "watchdog: nothing has happened for 15 s" in process.stderr and f"in {frame}\n" in process.stderr
    assert Record(directory).state().name == "stale"  # not stopped: the scheduler tries again
    assert run(directory) == 0
    assert_same(directory, uninterrupted)
