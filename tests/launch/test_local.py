"""The local backend against a stub of `ladder train`: a script that ends as the test tells it to."""

import io
import json
import os
import signal
import sys
import threading

import pytest
from rich.console import Console

from ladder.errors import Preempted
from ladder.record import Record
from launch import logs
from launch.backends import local

# Each start takes the next word of plan.txt in the run directory; the last one is repeated.
STUB = """
import json, os, signal, sys, time
directory = sys.argv[1]
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

def beat(step):
    put("heartbeat.json", {"step": step, "loss": 1.0, "rate": 9.0, "time": 0})

def finish():
    put("DONE.json", {"schema_version": 1, "step": 10, "loss": 1.0})

if word == "done":
    beat(10)
    finish()
elif word == "on":
    beat(n + 1)
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
elif word != "nothing":
    print("error: words to read")
    sys.exit(int(word))
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    return (sys.executable, str(path))


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def make(root, name, plan, parent=None):
    record = Record(root / name)
    derived = {"flops_per_token": 100, "batch_tokens": 64, "steps": 10, "parent_run": parent}
    record.write_config({"run_id": name, "rung": {"parent_step": 4 if parent else None}, "derived": derived})
    (root / name / "plan.txt").write_text(plan)
    return root / name


def starts(directory):
    path = directory / "starts.txt"
    return len(path.read_text()) if path.exists() else 0


def test_runs_one_after_another_and_not_again(tmp_path, stub, console):
    directories = [make(tmp_path, name, "done") for name in ("a", "b", "c")]
    for _ in range(2):
        outcome = local.run(directories, console, stub)
        assert outcome == local.Outcome(done=["a", "b", "c"])
        assert [starts(d) for d in directories] == [1, 1, 1]
    assert logs.tail(directories[0], 5) == ["start 0 done"]


@pytest.mark.parametrize("ended", ["75", "kill", "on"])
def test_a_preempted_run_is_tried_again(tmp_path, stub, console, ended):
    directory = make(tmp_path, "a", f"{ended} {ended} done")
    assert local.run([directory], console, stub).done == ["a"]
    assert starts(directory) == 3


def test_a_run_that_gets_on_is_tried_as_often_as_it_takes(tmp_path, stub, console):
    directory = make(tmp_path, "a", "on " * (local.RETRIES + 3) + "done")
    assert local.run([directory], console, stub).done == ["a"]


def test_a_run_that_never_gets_on_is_given_up(tmp_path, stub, console):
    directory = make(tmp_path, "a", "75")
    with pytest.raises(local.Failed, match="75 3 times without a new step") as raised:
        local.run([directory], console, stub)
    assert raised.value.code == 75
    assert starts(directory) == local.RETRIES


def test_divergence_is_recorded_and_its_branches_are_skipped(tmp_path, stub, console):
    trunk, other = make(tmp_path, "trunk", "78"), make(tmp_path, "other", "done")
    branch, leaf = make(tmp_path, "branch", "done", "trunk"), make(tmp_path, "leaf", "done", "other")
    outcome = local.run([trunk, branch, other, leaf], console, stub)
    assert outcome == local.Outcome(done=["other", "leaf"], diverged=["trunk"], skipped=["branch"])
    assert starts(branch) == 0


@pytest.mark.parametrize(
    ("plan", "code", "says"),
    [
        ("1", 1, "a ended with exit code 1"),
        ("2", 2, "exit code 2 .*: error: words to read$"),
        ("3", 1, "words to read"),
        ("nothing", 1, "no DONE.json"),
    ],
)
def test_anything_else_stops_with_the_end_of_the_log(tmp_path, stub, console, plan, code, says):
    first, second = make(tmp_path, "a", plan), make(tmp_path, "b", "done")
    with pytest.raises(local.Failed, match=says) as raised:
        local.run([first, second], console, stub)
    assert raised.value.code == code
    assert starts(first) == 1
    assert starts(second) == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_the_run_and_the_same_command_takes_it_up(tmp_path, stub, console, sent):
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
        local.run([directory], console, stub)
    thread.join()
    assert logs.tail(directory, 1) == ["saved"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert local.run([directory], console, stub).done == ["a"]


def test_progress_is_counted_from_where_a_branch_begins(tmp_path):
    w = local._Work.read(make(tmp_path, "b", "done", "a"))
    assert (w.first, w.last, w.flops) == (4, 10, 100 * 64 * 6)
    assert [w.share(step) for step in (None, 0, 4, 7, 10, 99)] == [0, 0, 0, 0.5, 1, 1]


def test_following_a_log_ends_with_the_run(tmp_path):
    directory = make(tmp_path, "a", "done")
    (directory / "log.txt").write_text("before\n")

    def later():
        with (directory / "log.txt").open("a") as file:
            file.write("after\n")
        (directory / "DONE.json").write_text(json.dumps({"step": 10, "loss": 1.0}))

    timer = threading.Timer(0.2, later)
    timer.start()
    assert "".join(logs.follow(directory)) == "after\n"
    timer.join()
