"""`ladder track`: which runs it copies, when it ends, and what it says of runs that cannot be read."""

import shutil
import threading
import time
from dataclasses import asdict

import pytest

from ladder.errors import InputError, Preempted
from ladder.rundir.files import as_path, sealed, write_atomic
from ladder.rundir.record import Record
from launch import cli
from launch.scheduler import submission
from launch.trackers import batch, follow
from launch.trackers.tensorboard import TensorBoard
from launch.trackers.tracker import alone_in
from tests.launch.trackers import readers, simulated


def track(tmp_path, *more: str) -> int:
    return cli.main(["track", str(tmp_path / "mine"), "--to", "tensorboard", "--dir", str(tmp_path / "tb"), *more])


@pytest.fixture
def two(tmp_path):
    runs = [simulated.Run(tmp_path, f"d{d}-1xC-s0-01234567", size=f"d{d}", steps=60) for d in (8, 12)]
    for run in runs:
        run.train(30)
    return runs


def test_once_it_copies_what_is_there_and_ends(two, tmp_path, capsys):
    assert track(tmp_path) == 0
    assert capsys.readouterr().out.startswith("20 values written; 0 of 2 runs are over\nto look at them: tensorboard")
    for run in two:
        assert len(readers.tensorboard(tmp_path / "tb/mine" / run.directory.name)) == len(run.points()) == 10
    assert track(tmp_path) == 0
    assert capsys.readouterr().out.startswith("0 values written")


def test_one_run_by_its_name(two, tmp_path):
    assert track(tmp_path, "--rung", "d12") == 0
    assert [path.name for path in (tmp_path / "tb/mine").iterdir()] == ["d12-1xC-s0-01234567"]
    assert cli.main(["track", str(two[0].directory), "--to", "tensorboard", "--dir", str(tmp_path / "tb")]) == 0
    assert len(list((tmp_path / "tb/mine").iterdir())) == 2


def test_it_follows_until_every_run_is_over(two, tmp_path, monkeypatch):
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: threading.Event().wait(0.01))
    ended = []
    follower = threading.Thread(target=lambda: ended.append(track(tmp_path, "--follow")), daemon=True)
    follower.start()
    two[0].train(60)
    two[0].finish()
    two[1].train(50)
    assert not ended
    Record(two[1].directory).stop("diverged", 50, None, "loss nan")
    follower.join(timeout=20)
    assert ended == [0]
    for run in two:
        assert len(readers.tensorboard(tmp_path / "tb/mine" / run.directory.name)) == len(run.points())


def test_what_is_wrong_in_one_run_does_not_stop_the_others(two, tmp_path, capsys):
    segment = two[0].directory / "metrics/000000000-000000030.jsonl"
    segment.write_text(segment.read_text() + '{"step":')
    assert track(tmp_path) == 2
    assert f"error: {segment}:8: truncated in the middle of a line\n" == capsys.readouterr().err
    assert [path.name for path in (tmp_path / "tb/mine").iterdir()] == [two[1].directory.name]


def test_a_segment_that_a_resumed_run_deletes_meanwhile(tmp_path, monkeypatch):
    run = simulated.Run(tmp_path)
    run.train(30)
    run.train(60)
    real = batch.segments.rows

    def rows(path):
        monkeypatch.setattr(batch.segments, "rows", real)
        run.resume(30)
        run.train(45)
        raise FileNotFoundError

    monkeypatch.setattr(batch.segments, "rows", rows)
    new = batch.after(run.directory, 20)
    assert (new.first, new.last, [step.step for step in new.steps]) == (21, 45, [30, 40])
    shutil.rmtree(run.directory / "metrics")
    assert batch.after(run.directory, 20) is None


def test_a_bucket(bucket, tmp_path, monkeypatch):
    run = simulated.Run(tmp_path, steps=60)
    for until in (30, 60):
        run.train(until)
    run.finish()
    folder = as_path(f"{bucket.url}/runs/mine")
    for path in [path for path in run.directory.rglob("*") if path.is_file()]:
        name = path.relative_to(run.directory.parent)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
    before = time.time()
    progress = follow.follow(folder, TensorBoard(tmp_path / "tb"), again=True, show=lambda progress: None)
    assert (progress.runs, progress.over, progress.values) == (1, 1, 21)
    assert len(readers.tensorboard(tmp_path / "tb/mine" / run.directory.name)) == 21
    assert batch.after(folder / run.directory.name, -1).steps[0].time >= before


def test_only_one_process_writes_a_ladder_to_a_folder(tmp_path):
    busy = pytest.raises(Preempted, match="another `ladder track` writes the ladder mine there")
    with alone_in(tmp_path, "mine"), alone_in(tmp_path, "yours"), busy, alone_in(tmp_path, "mine"):
        pass
    with alone_in(tmp_path, "mine"):
        pass
    (tmp_path / "file").write_text("")
    for folder, reason in {
        tmp_path / "file": "cannot be written",
        as_path("gs://b/tb"): "of this machine only",
    }.items():
        with pytest.raises(InputError, match=reason), alone_in(folder, "mine"):
            pass


def test_of_a_submitted_ladder_it_waits_for_the_fit_but_not_for_what_never_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    trunk = simulated.Run(tmp_path, "d8-trunk-s0-01234567", kind="trunk")
    branch = simulated.Run(tmp_path, "d8-1xC-s0-11234567", parent="d8-trunk-s0-01234567")
    folder, fit = tmp_path / "mine", Record(tmp_path / "mine/fit/fit-01234567")
    about = {"run_id": "fit-01234567", "ladder": "mine", "runs": [], "targets": [], "resamples": 1}
    fit.write_config(about | {"derived": {"steps": 0}})
    names = [run.directory.name for run in (trunk, branch)]
    submitted = {"runs": names, "fit": "fit-01234567", "engine": asdict(submission.BackendConfig())}
    write_atomic(folder / submission.FILE, sealed(submitted))
    trunk.train(30)
    Record(trunk.directory).stop("diverged", 30, None, "loss nan")
    looks, pages = [], []

    def show(progress):
        looks.append((progress.over, len(pages)))
        if len(looks) == 2:
            (fit.directory / "report.html").write_text("what the target will score")
            fit.finish(step=0, loss=None)

    tracker = TensorBoard(tmp_path / "tb")
    monkeypatch.setattr(tracker, "page", lambda run: pages.append(run.run_id))
    progress = follow.follow(folder, tracker, again=True, show=show)
    assert looks == [(2, 0), (2, 0), (2, 1)] and pages == ["fit-01234567"]
    assert (progress.runs, progress.values) == (2, 10)
