"""How a job ended is recorded in its run directory; the failure of a machine is not recorded as the user's."""

import json

import pytest

from ladder.errors import Diverged, InputError, Preempted
from ladder.loop import train as training
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record
from launch import verify
from launch.scheduler import conclude, worker
from tests.launch import stand_ins


class JaxRuntimeError(RuntimeError):
    pass


class HttpError(Exception):
    """As gcsfs raises it: not an OSError."""

    __module__ = "gcsfs.retry"


@pytest.fixture
def run(tmp_path):
    return stand_ins.run(tmp_path, "a")


ENDS = {
    "bad input": (InputError("line 3: no"), InputError, "failed", "line 3: no"),
    "a bug": (ZeroDivisionError("by zero"), ZeroDivisionError, "failed", "ZeroDivisionError: by zero"),
    "out of memory": (JaxRuntimeError("RESOURCE_EXHAUSTED: 16G"), JaxRuntimeError, "failed", "RESOURCE_EXHAUSTED"),
    "a peer is gone": (JaxRuntimeError("UNAVAILABLE: peer"), Preempted, "stale", ""),
    "a heartbeat is late": (JaxRuntimeError("DEADLINE_EXCEEDED: barrier"), Preempted, "stale", ""),
    "a connection is gone": (JaxRuntimeError("UNKNOWN: Gloo AllGather failed: closed by peer"), Preempted, "stale", ""),
    "the bucket does not answer": (HttpError("503"), Preempted, "stale", ""),
    "the disk is full": (OSError(28, "No space left on device"), InputError, "failed", "device; make room on the disk"),
    "a full quota": (
        OSError(122, "Disk quota exceeded", "a.json"),
        InputError,
        "failed",
        "exceeded: 'a.json'; make room",
    ),
    "no room for a checkpoint": (
        OSError("RESOURCE_EXHAUSTED: No space left on device"),
        InputError,
        "failed",
        "make room",
    ),
    "a disk that fails": (OSError(5, "Input/output error"), Preempted, "stale", ""),
    "preempted": (Preempted("stopped"), Preempted, "stale", ""),
    "diverged": (Diverged("nan"), Diverged, "stale", ""),  # the training loop itself writes STOPPED.json
}


@pytest.mark.parametrize("case", ENDS)
def test_how_it_ended(run, monkeypatch, case):
    raised, seen, state, detail = ENDS[case]

    def train(directory, *_):
        Record(directory).heartbeat(3, 2.0, None)
        raise raised

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(seen):
        worker.train(run)
    recorded = Record(run).state()
    assert (recorded.name, recorded.step) == (state, 3)
    assert detail in recorded.detail
    assert [row["by"] for row in Record(run).attempts()] == ["train"]


def test_what_is_done_or_another_has_is_no_attempt(run, monkeypatch):
    monkeypatch.setattr(training, "train", lambda directory, *_: Lease(directory).__enter__())
    with Lease(run), pytest.raises(Preempted):
        worker.train(run)
    Record(run).finish(step=10, loss=1.0)
    worker.train(run)
    assert Record(run).attempts() == []


@pytest.mark.parametrize(
    "steps, left",
    [((3, 6), "steps 4 to 10 are left"), ((8, 11), "steps 4 to 10 are left"), ((4, 10), None), ((6, 7), None)],
)
def test_a_profile_needs_steps_that_are_left(tmp_path, monkeypatch, steps, left):
    """A wrong window fails the command, not the run."""
    branch, windows = stand_ins.run(tmp_path, "b", parent="a"), []  # from step 4 to 10
    monkeypatch.setattr(training, "train", lambda directory, began, window: windows.append((window.first, window.last)))
    if left:
        with pytest.raises(InputError, match=f"cannot profile steps {steps[0]}:{steps[1]}; {left}"):
            worker.train(branch, steps=steps)
        assert Record(branch).state().name == "pending" and Record(branch).attempts() == []
    else:
        worker.train(branch, steps=steps)
    assert windows == ([] if left else [steps])


def test_a_finished_run_has_no_steps_left(run):
    Record(run).finish(step=10, loss=1.0)
    with pytest.raises(InputError, match="no steps are left, the run is trained"):
        worker.train(run, steps=(1, 2))


def test_only_process_0_writes(run, monkeypatch):
    def train(directory, *_):
        raise InputError("no")

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(InputError):
        worker.train(run, lambda: 1)
    assert Record(run).state().name == "pending"


def test_a_diverged_run_is_left_out_of_the_fit_with_a_note(tmp_path):
    folder = stand_ins.ladder_that_follows_a_law(tmp_path)
    fit = folder / "fit" / "fit-1"
    runs = sorted(path.name for path in folder.iterdir() if (path / "config.json").exists())
    targets = [{"name": "big", "n_params": 1e6, "tokens": 2e7}]
    config = {"run_id": "fit-1", "ladder": "mine", "runs": runs, "targets": targets, "resamples": 20}
    Record(fit).write_config(config | {"derived": {"steps": 0}})
    bad = Record(folder / runs[0])
    (bad.directory / "DONE.json").unlink()
    with pytest.raises(InputError, match=f"{runs[0]} not over yet"):
        conclude.conclude(fit)
    bad.stop("diverged", 3, None, "loss nan at step 3")
    conclude.conclude(fit)
    assert Record(fit).state().name == "done"
    assert json.loads((fit / "DONE.json").read_text())["left_out"] == {runs[0]: "diverged: loss nan at step 3"}
    assert "loss nan at step 3" in (fit / "report.html").read_text()
    predicted = json.loads((fit / "prediction.json").read_text())
    assert sorted(predicted["settings"]["runs_used"]) == runs[1:]
    [entry] = [e for e in predicted["predictions"] if e["task"] == "validation"]
    assert entry["bpb"] == pytest.approx(stand_ins.law(1e6, 2e7), rel=0.02)


def test_verify_finds_what_is_damaged(tmp_path):
    folder = stand_ins.ladder_that_follows_a_law(tmp_path)
    run = next(path for path in sorted(folder.iterdir()))
    checked = verify.check(run)
    assert "the run is done, but the checkpoint of its last step is missing" in checked.problems
    assert checked.rows == 2
    [segment] = (run / "metrics").iterdir()
    segment.write_text(segment.read_text()[:-5])
    for problem in ("not as it was written (its hash differs)", "truncated in the middle of a line"):
        assert any(problem in line for line in verify.check(run).problems)
    (run / "checkpoints" / "10").mkdir(parents=True)
    (run / "checkpoints" / "10" / "MANIFEST.json").write_text("{}")
    assert any(problem.startswith("checkpoint 10: MANIFEST.json") for problem in verify.check(run).problems)
