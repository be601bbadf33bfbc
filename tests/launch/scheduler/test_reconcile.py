"""reconcile: a table of single decisions."""

import pytest

from launch.backends.protocol import Job, Seen
from launch.scheduler import status
from launch.scheduler.reconcile import Delete, Mark, Submit, ladder_states, reconcile
from launch.scheduler.status import Status

TRUNK = Job("l-trunk", "trunk", "runs/trunk", ("train", "runs/trunk"), steps=10)
BRANCH = Job("l-branch", "branch", "runs/branch", ("train", "runs/branch"), after=(("trunk", 4),), first=4, steps=8)
FIT = Job("l-fit", "fit", "runs/fit", ("conclude", "runs/fit"), after=(("trunk", None), ("branch", None)), kind="fit")
LADDER = (TRUNK, BRANCH, FIT)
RUNNING, QUEUED, UNKNOWN = Seen("1", "running"), Seen("2", "queued"), Seen("3", "unknown")


def ended(code=None, reason=""):
    return Seen("4", "ended", code, reason)


def decide(trunk=("pending", {}), branch=("pending", {}), fit=("pending", {}), backend=(), now=0.0, **more):
    runs = {
        name: Status(name, state, **given)
        for name, (state, given) in {"trunk": trunk, "branch": branch, "fit": fit}.items()
    }
    actions = reconcile(LADDER, runs, dict(backend), now, **more)
    shown = []
    for action in actions:
        match action:
            case Submit(job):
                shown.append(f"submit {job.run_id}")
            case Delete(job, seen):
                shown.append(f"delete {job.run_id} {seen.id}")
            case Mark(job, state, _):
                shown.append(f"{job.run_id} is {state}")
    return shown, ladder_states(LADDER, runs, dict(backend))


SAVED_4 = {"saved": (4,), "durable": 4}
DONE = ("done", {})
DECISIONS = {
    "first the trunk": ({}, ["submit trunk"]),
    "it runs": ({"backend": {"l-trunk": (RUNNING,)}}, []),
    "it waits": ({"backend": {"l-trunk": (QUEUED,)}}, []),
    "nobody knows": ({"backend": {"l-trunk": (UNKNOWN,)}}, []),
    "trained by hand": ({"trunk": ("running", {})}, []),
    "the branch's checkpoint is there": (
        {"trunk": ("running", SAVED_4), "backend": {"l-trunk": (RUNNING,)}},
        ["submit branch"],
    ),
    "no room": ({"trunk": ("running", SAVED_4), "backend": {"l-trunk": (RUNNING,)}, "max_jobs": 1}, []),
    "room for one of two": ({"trunk": ("stale", SAVED_4), "max_jobs": 1}, ["submit trunk"]),
    "room for both": ({"trunk": ("stale", SAVED_4), "max_jobs": 2}, ["submit trunk", "submit branch"]),
    "then the fit": ({"trunk": DONE, "branch": DONE}, ["submit fit"]),
    "all done": ({"trunk": DONE, "branch": DONE, "fit": DONE}, []),
    "done, its job still ends": ({"trunk": DONE, "branch": DONE, "fit": DONE, "backend": {"l-fit": (RUNNING,)}}, []),
    "done, a machine that knows no end": (
        {"trunk": DONE, "branch": DONE, "fit": DONE, "backend": {"l-fit": (RUNNING,)}, "keeps_machines": True},
        ["delete fit 1"],
    ),
    "done, its job holds a name": (
        {"trunk": DONE, "branch": DONE, "fit": DONE, "backend": {"l-fit": (ended(0),)}},
        ["delete fit 4"],
    ),
    "done, another of it waits": (
        {"trunk": DONE, "branch": DONE, "fit": DONE, "backend": {"l-trunk": (QUEUED,)}},
        ["delete trunk 2"],
    ),
    "preempted: first delete it": (
        {"trunk": ("stale", {}), "backend": {"l-trunk": (ended(),)}},
        ["delete trunk 4"],
    ),
    "preempted: then again": ({"trunk": ("stale", {"tries": 1, "last_try": -1.0})}, ["submit trunk"]),
    "not at once": ({"trunk": ("stale", {"tries": 2, "last_try": 90.0}), "now": 100.0, "retry_delay": 10.0}, []),
    "after a while": (
        {"trunk": ("stale", {"tries": 2, "last_try": 80.0}), "now": 100.0, "retry_delay": 10.0},
        ["submit trunk"],
    ),
    "new checkpoint: at once": (
        {"trunk": ("stale", {"last_try": 99.0}), "now": 100.0, "retry_delay": 10.0},
        ["submit trunk"],
    ),
    "three tries": ({"trunk": ("stale", {"tries": 3})}, ["trunk is stuck"]),
    "three tries and what is left": (
        {"trunk": ("stale", {"tries": 3}), "backend": {"l-trunk": (ended(),)}},
        ["trunk is stuck", "delete trunk 4"],
    ),
    "the third try waits": (
        {"trunk": ("stale", {"tries": 3}), "backend": {"l-trunk": (QUEUED,)}},
        ["trunk is stuck", "delete trunk 2"],
    ),
    "the third try runs": ({"trunk": ("running", {"tries": 3}), "backend": {"l-trunk": (RUNNING,)}}, []),
    "a backend that restarts for ever": (
        {"trunk": ("running", {"tries": 4}), "backend": {"l-trunk": (RUNNING,)}},
        ["trunk is stuck", "delete trunk 1"],
    ),
    "stuck, its job still there": (
        {"trunk": ("stuck", {"tries": 4}), "backend": {"l-trunk": (RUNNING,)}},
        ["delete trunk 1"],
    ),
    "cancelled": ({"trunk": ("cancelled", {}), "backend": {"l-trunk": (RUNNING,)}}, ["delete trunk 1"]),
    "bad input": ({"backend": {"l-trunk": (ended(2),)}}, ["trunk is failed", "delete trunk 4"]),
    "failed before it could say so": ({"backend": {"l-trunk": (ended(127),)}}, ["trunk is failed", "delete trunk 4"]),
    "nothing done": ({"backend": {"l-trunk": (ended(0),)}}, ["trunk is failed", "delete trunk 4"]),
    "diverged, unsaid": ({"backend": {"l-trunk": (ended(78),)}}, ["trunk is diverged", "delete trunk 4"]),
    "infrastructure": ({"backend": {"l-trunk": (ended(137),)}}, ["delete trunk 4"]),
    "killed": ({"backend": {"l-trunk": (ended(-9),)}}, ["delete trunk 4"]),
    "diverged: its branch is skipped, the fit goes on": ({"trunk": ("diverged", {})}, ["submit fit"]),
    "diverged after the branch's checkpoint": ({"trunk": ("diverged", SAVED_4)}, ["submit branch"]),
    "failed: the rest is blocked": ({"trunk": ("failed", {})}, []),
    "two of one run": (
        {"backend": {"l-trunk": (QUEUED, RUNNING)}},
        ["delete trunk 2"],
    ),
}


@pytest.mark.parametrize("case", DECISIONS)
def test_decisions(case):
    given, wanted = DECISIONS[case]
    actions, _ = decide(**given)
    assert actions == wanted


def test_ladder_states():
    assert decide()[1] == {"trunk": "ready", "branch": "waiting", "fit": "waiting"}
    assert decide(trunk=("diverged", {}))[1] == {"trunk": "diverged", "branch": "skipped", "fit": "ready"}
    assert decide(trunk=("failed", {}))[1] == {"trunk": "failed", "branch": "blocked", "fit": "blocked"}
    assert decide(trunk=("stale", {"tries": 3}))[1]["trunk"] == "ended"


@pytest.mark.parametrize(
    ("attempts", "durable", "tries"),
    [
        ([], None, 0),
        (["submit:", "train:"], None, 1),
        (["submit:", "train:", "submit:", "submit:"], None, 3),
        (["submit:", "train:", "train:", "train:"], None, 3),
        (["submit:", "train:", "train:"], 5, 0),
        (["submit:", "train:", "train:5", "train:5"], 5, 2),
        (["train:5", "train:5", "retry:5", "submit:5"], 5, 1),
    ],
)
def test_tries_are_counted_since_the_newest_checkpoint(attempts, durable, tries):
    rows = [
        {"by": by, "durable": int(step) if step else None} for by, step in (attempt.split(":") for attempt in attempts)
    ]
    assert status.tries(rows, durable) == tries
