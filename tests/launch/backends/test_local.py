"""The local backend against a stub of `ladder`: a script that ends as the test tells it to."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from ladder.errors import Preempted
from ladder.rundir.record import Record
from launch import run_log
from launch.backends.local import Local, is_running
from launch.backends.protocol import TRIES
from launch.scheduler import foreground, jobs, loop, status
from launch.scheduler.foreground import Failed, Outcome
from tests.launch import stand_ins

# Each start takes the next word of plan.txt in the run directory; the last one is repeated.
STUB = """
import json, os, signal, sys, time
verb, directory = sys.argv[1:]
assert verb in ("train", "conclude")
plan = open(f"{directory}/plan.txt").read().split()
starts = open(f"{directory}/starts.txt", "a+")
starts.seek(0)
n = len(starts.read())
starts.write("x")
starts.close()
word = plan[min(n, len(plan) - 1)]
print("start", n, word, flush=True)

def put(name, value):
    json.dump(value, open(f"{directory}/new", "w"))
    os.replace(f"{directory}/new", f"{directory}/{name}")

def save(step):
    put("heartbeat.json", {"schema_version": 1, "step": step, "loss": 1.0, "rate": 9.0, "time": 0})
    os.makedirs(f"{directory}/checkpoints/{step}", exist_ok=True)
    put(f"checkpoints/{step}/MANIFEST.json", {"step": step})

def finish():
    put("DONE.json", {"schema_version": 1, "step": 10, "loss": 1.0})

if word == "done":
    save(10)
    finish()
elif word == "on":
    save(n + 1)
    sys.exit(75)
elif word == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif word == "wait":
    def stop(*_):
        print("saved", flush=True)
        sys.exit(75)
    signal.signal(signal.SIGTERM, stop)
    print("waiting", flush=True)
    time.sleep(60)
elif word == "slow":
    time.sleep(1)
    save(10)
    finish()
elif word == "pair":
    k = os.environ["LADDER_PROCESS"]
    print(os.environ["LADDER_COORDINATOR"], os.environ["LADDER_PROCESSES"], k, flush=True)
    if k == "0":
        finish()
elif word != "nothing":
    print("error: words to read")
    sys.exit(int(word))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr(foreground, "SECONDS", 0.01)
    monkeypatch.setattr(Local, "retry_delay", 0.01)
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    return (sys.executable, str(path))


@pytest.fixture
def train(program):
    def train(directories, **more):
        console = Console(file=io.StringIO(), width=200)
        return foreground.train(directories, console, Local(program=program, **more))

    return train


def make(root, name, plan, parent=None, split="train"):
    directory = stand_ins.run(root, name, parent, split)
    (directory / "plan.txt").write_text(plan)
    return directory


def starts(directory):
    path = directory / "starts.txt"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("max_jobs", [1, 2])
def test_runs_in_order_and_not_again(tmp_path, train, max_jobs):
    directories = [make(tmp_path, name, "done") for name in ("a", "b", "c")]
    for _ in range(2):
        assert train(directories, max_jobs=max_jobs) == Outcome(done=["a", "b", "c"])
        assert [starts(d) for d in directories] == [1, 1, 1]
    assert run_log.tail(directories[0], 5) == ["start 0 done"]
    assert status.read_run(directories[0]).restarts == 0


def test_targets_come_after_all_rungs_and_the_fit_after_all(tmp_path):
    target, rung = make(tmp_path, "t", "done", split="target"), make(tmp_path, "r", "done")
    branch = make(tmp_path, "b", "done", "r")
    fit = tmp_path / "fit" / "fit-1"
    Record(fit).write_config({"run_id": "fit-1", "ladder": "mine", "derived": {"steps": 0}})
    ladder_jobs = {job.run_id: job for job in jobs.read([target, branch, rung], fit)}
    assert list(ladder_jobs) == ["r", "b", "t", "fit-1"]
    assert ladder_jobs["b"].after == (("r", 4),)
    assert ladder_jobs["t"].after == (("r", None), ("b", None))
    assert ladder_jobs["fit-1"].after == (("r", None), ("b", None), ("t", None))
    assert ladder_jobs["fit-1"].argv == ("conclude", str(fit))


@pytest.mark.parametrize("ended", ["75", "kill", "on"])
def test_a_preempted_run_is_tried_again(tmp_path, train, ended):
    directory = make(tmp_path, "a", f"{ended} {ended} done")
    assert train([directory]).done == ["a"]
    assert starts(directory) == 3


def test_a_run_that_makes_progress_is_tried_without_limit(tmp_path, train):
    directory = make(tmp_path, "a", "on " * (TRIES + 3) + "done")
    assert train([directory]).done == ["a"]


def test_a_run_without_progress_is_stuck_until_someone_says_retry(tmp_path, train):
    directory = make(tmp_path, "a", "75 75 75 done")
    with pytest.raises(
        Failed, match=r"a stuck: 3 tries without any checkpoint; .*start 2 75 \| error: words to read"
    ) as raised:
        train([directory])
    assert raised.value.code == 75
    assert starts(directory) == TRIES
    assert Record(directory).state().name == "stuck"
    assert train([directory]).done == ["a"]  # the demo's command is a retry


def test_divergence_is_recorded_and_its_branches_are_skipped(tmp_path, train):
    trunk, other = make(tmp_path, "trunk", "78"), make(tmp_path, "other", "done")
    branch, leaf = make(tmp_path, "branch", "done", "trunk"), make(tmp_path, "leaf", "done", "other")
    assert train([trunk, branch, other, leaf]) == Outcome(
        done=["other", "leaf"], diverged=["trunk"], skipped=["branch"]
    )
    assert starts(branch) == 0


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("1", "a failed: exit code 1; last output: start 0 1 . error: words to read"),
        ("2", "a failed: exit code 2: error: words to read"),
        ("3", "words to read"),
        ("nothing", "no DONE.json"),
    ],
)
def test_what_fails_is_said_and_the_rest_goes_on(tmp_path, train, plan, says):
    first, leaf, other = make(tmp_path, "a", plan), make(tmp_path, "b", "done", "a"), make(tmp_path, "c", "done")
    with pytest.raises(Failed, match=says) as raised:
        train([first, leaf, other])
    assert raised.value.code == 1
    assert [starts(first), starts(leaf), starts(other)] == [1, 0, 1]


@pytest.fixture
def heeds_ctrl_c():
    """As on a terminal: a process that a shell starts in the background ignores SIGINT."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_the_run_and_the_same_command_resumes_it(tmp_path, train, sent):
    directory = make(tmp_path, "a", "wait done")
    before = signal.getsignal(signal.SIGTERM)

    def when_it_waits():
        while "waiting" not in (directory / "log.txt").read_text():
            pass
        os.kill(os.getpid(), sent)

    (directory / "log.txt").touch()
    thread = threading.Thread(target=when_it_waits)
    thread.start()
    with pytest.raises(Preempted, match="same command"):
        train([directory])
    thread.join()
    assert run_log.tail(directory, 1) == ["saved"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert train([directory]).done == ["a"]


def test_cancelled_runs_save_and_stay_so_until_submitted_again(tmp_path, program):
    ladder_jobs = jobs.read([make(tmp_path, "a", "wait done"), make(tmp_path, "b", "done", "a")])
    Local(program=program).submit(ladder_jobs[0])
    wait_for(lambda: "waiting" in (tmp_path / "a" / "log.txt").read_text())
    other = Local(program=program)  # another process: it finds the job by its lock
    assert loop.cancel(ladder_jobs, other) == ["a", "b"]
    assert not is_running(tmp_path / "a")
    assert run_log.tail(tmp_path / "a", 1) == ["saved"]
    round_ = loop.once(ladder_jobs, other)
    assert (round_.settled, set(round_.states.values())) == (True, {"cancelled"})
    assert loop.retry(ladder_jobs, ("cancelled",)) == ["a", "b"]
    assert set(loop.once(ladder_jobs, other).states.values()) == {"ready", "waiting"}
    wait_for(lambda: Record(tmp_path / "a").is_done())


def test_processes_of_a_run_know_each_other(tmp_path, train):
    directory = make(tmp_path, "a", "pair")
    assert train([directory], processes=2).done == ["a"]
    lines = [line.split() for line in run_log.tail(directory, 10) if line.startswith("127")]
    assert sorted(words[1:] for words in lines) == [["2", "0"], ["2", "1"]]
    assert len({words[0] for words in lines}) == 1


def test_a_fit_has_one_process(tmp_path, program):
    fit = tmp_path / "fit" / "fit-1"
    Record(fit).write_config({"run_id": "fit-1", "ladder": "mine", "derived": {"steps": 0}})
    (fit / "plan.txt").write_text("done")
    ladder_jobs = jobs.read([make(tmp_path, "a", "pair")], fit)
    foreground.run(ladder_jobs, Console(file=io.StringIO()), Local(1, 2, program))
    assert (starts(tmp_path / "a"), starts(fit)) == (2, 1)


SUBMIT = """
import io, sys
from pathlib import Path
from rich.console import Console
from ladder.errors import Preempted
from launch.scheduler import foreground, jobs
from launch.backends.local import Local
foreground.SECONDS = 0.01
program, *directories = sys.argv[1:]
try:
    console = Console(file=io.StringIO())
    foreground.run(jobs.read(map(Path, directories)), console, Local(2, program=(sys.executable, program)))
except Preempted as error:
    sys.exit(75)
"""


def submitter(program, directories):
    command = [sys.executable, "-c", SUBMIT, program[1], *map(str, directories)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_submitter_killed_twice_leaves_nothing_twice(tmp_path, program):
    directories = [make(tmp_path, name, "slow") for name in ("a", "b", "c", "d")]
    for i in (0, 2):
        killed = submitter(program, directories)
        wait_for(lambda i=i: starts(directories[i]) == 1)
        killed.kill()
        killed.communicate()
    last = submitter(program, directories)
    assert (last.communicate()[1], last.returncode) == (b"", 0)
    assert [starts(d) for d in directories] == [1, 1, 1, 1]
    assert all(Record(d).is_done() for d in directories)


def test_of_twenty_submitters_one_submits(tmp_path, program):
    """All at once: nobody starts a run that another has started, and at the end all is done once."""
    directories = [make(tmp_path, name, "slow") for name in ("a", "b")]
    racers = [submitter(program, directories) for _ in range(20)]
    codes = sorted(racer.wait(timeout=120) for racer in racers)
    [racer.communicate() for racer in racers]
    assert codes.count(0) >= 1
    assert {*codes} <= {0, 75}
    assert [starts(d) for d in directories] == [1, 1]


def test_following_a_log_ends_with_the_run(tmp_path):
    directory = make(tmp_path, "a", "done")
    (directory / "log.txt").write_text("before\n")

    def later():
        with (directory / "log.txt").open("a") as file:
            file.write("after\n")
        (directory / "DONE.json").write_text(json.dumps({"schema_version": 1, "step": 10, "loss": 1.0}))

    timer = threading.Timer(0.2, later)
    timer.start()
    assert "".join(run_log.follow(directory)) == "after\n"
    timer.join()


def test_progress_is_counted_from_where_a_branch_begins(tmp_path):
    directory = make(tmp_path, "b", "done", "a")
    [job] = jobs.read([directory])
    assert (job.first, job.steps, job.flops) == (4, 10, 100 * 64 * 6)
    for step, share in ((0, 0), (4, 0), (7, 0.5), (10, 1), (99, 1)):
        Record(directory).heartbeat(step, 1.0, None)
        assert status.read_run(Path(directory)).share == share
