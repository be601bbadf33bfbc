"""A ladder in a bucket, as TPU jobs have it: killed and resumed there, its numbers are those of a disk."""

import json
import shutil
from dataclasses import replace

import pytest

from fitting.tables import runs_table
from ladder.config import Eval
from ladder.rundir.files import as_path, files_under
from ladder.rundir.record import Record
from launch import cli, prepare
from launch.scheduler import jobs, status, worker
from tests.ladder.conftest import World
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import kill, run
from tests.launch import stand_ins

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def corpora(bucket, tmp_path, monkeypatch):
    """Where corpora are in the bucket; jobs copy them to a folder of this test."""
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "stage"))
    return as_path(bucket.url) / "corpora"


@pytest.mark.slow
def test_a_run_killed_in_a_bucket_ends_as_on_a_disk(bucket, corpora, tmp_path, capsys):
    world = World(tmp_path)
    model = replace(world.rung().model, n_layers=1)
    rung = world.rung(model=model, tokens=30 * 4 * 32, eval=Eval((), validation_tokens=1024))
    built = world.build([rung])
    [on_disk] = prepare.write(built, built.ladder.all, tmp_path / "runs")
    assert run(on_disk) == 0

    in_bucket = prepare.build(built.ladder, corpora)
    [directory] = prepare.write(in_bucket, in_bucket.ladder.all, as_path(bucket.url) / "runs")
    kill(directory, at="manifest-written:1")
    assert Record(directory).saved_steps() == [15]
    assert run(directory) == 0
    assert_same(on_disk, directory)
    capsys.readouterr()
    assert cli.main(["status", str(directory.parent)]) == 0
    assert "1 of 1 runs done" in capsys.readouterr().out
    assert cli.main(["verify", "tiny", "--root", f"{bucket.url}/runs"]) == 0
    assert cli.main(["export", str(directory.parent), "-o", str(tmp_path / "runs.csv")]) == 0
    exported, expected = runs_table.read(tmp_path / "runs.csv"), runs_table.read(on_disk.parent)
    assert exported["value"].tolist() == expected["value"].tolist()


@pytest.mark.slow
def test_a_run_on_a_mounted_bucket_copies_nothing_and_ends_as_on_a_disk(bucket, corpora, tmp_path, monkeypatch):
    """The mount is a folder with the objects of the bucket; gcsfuse itself does not run here."""
    world = World(tmp_path)
    rung = world.rung(tokens=30 * 4 * 32, eval=Eval((), validation_tokens=1024))
    built = world.build([rung])
    [on_disk] = prepare.write(built, built.ladder.all, tmp_path / "runs")
    assert run(on_disk) == 0
    shutil.rmtree(tmp_path / "stage")  # of the run on the disk
    in_bucket = prepare.build(built.ladder, corpora)
    [directory] = prepare.write(in_bucket, in_bucket.ladder.all, as_path(bucket.url) / "runs")
    [folder] = in_bucket.corpora.values()
    mount = tmp_path / "gcs" / bucket.name
    for name, path in files_under(folder).items():
        copy = mount / "corpora" / folder.name / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setenv("LADDER_MOUNT", str(tmp_path / "gcs"))
    assert run(directory) == 0
    assert_same(on_disk, directory)
    assert not (tmp_path / "stage").exists()


def test_training_steps_ask_the_bucket_for_nothing(bucket, tmp_path):
    """One evaluation and one save, at the end, cost about 125 requests; one request a step would be 150 more."""
    world = World(tmp_path)
    rung = world.rung(tokens=150 * 4 * 32, eval=Eval((), validation_tokens=1024), save_every=0)
    [directory] = world([rung], as_path(bucket.url) / "runs")
    with bucket.counted() as kinds:
        assert run(directory) == 0
    assert kinds.total() < 150
    assert Record(directory).saved_steps() == [150]
    assert cli.main(["verify", "tiny", "--root", f"{bucket.url}/runs"]) == 0
    with bucket.counted() as kinds:
        assert cli.main(["status", str(directory.parent)]) == 0
    assert kinds.total() <= 12  # one of them for submit.json: what was spent is shown


def test_the_status_of_many_runs_takes_a_few_requests_each(bucket, tmp_path):
    root = as_path(bucket.url)
    directories = [stand_ins.run(root / "mine", f"r{i}") for i in range(20)]
    for directory in directories:
        record = Record(directory)
        record.attempt("submit")
        record.heartbeat(5, 2.5, 100.0)
    submitted = jobs.read(directories)
    with bucket.counted() as kinds:
        states = {run.state for run in status.read(root / "mine")}
    assert states == {"stale"} and kinds.total() <= 4 * 20 + 4
    status.read_jobs(submitted)
    with bucket.counted() as kinds:
        states = {run.state for run in status.read_jobs(submitted).values()}
    assert states == {"stale"} and kinds.total() <= 4


@pytest.mark.chaos
def test_a_ladder_killed_twice_in_a_bucket_ends_as_on_a_disk(bucket, corpora, tmp_path, capsys):
    """Trunks and branches, each killed twice; then status, verify, export, an evaluation and the fit."""
    built = stand_ins.small_ladder(tmp_path)
    rungs = built.ladder.rungs
    on_disk = prepare.write(built, rungs, tmp_path / "runs")
    assert [run(directory) for directory in on_disk] == [0] * len(rungs)

    built, root = prepare.build(built.ladder, corpora), as_path(bucket.url) / "runs"
    directories = prepare.write(built, rungs, root)
    for directory in directories:
        kill(directory, at="save-started:1")
        kill(directory, at="manifest-written:1")
        assert len(Record(directory).saved_steps()) == 1
        assert run(directory) == 0
    for expected, directory in zip(on_disk, directories, strict=True):
        assert_same(expected, directory)

    folder = root / built.ladder.name
    capsys.readouterr()
    assert cli.main(["status", str(folder), "--json", str(tmp_path / "status.json")]) == 0
    states = [status["state"] for status in json.loads((tmp_path / "status.json").read_text())["runs"]]
    assert states == ["done"] * len(rungs)
    assert cli.main(["verify", str(folder), "--json", str(tmp_path / "verify.json")]) == 0
    checked = json.loads((tmp_path / "verify.json").read_text())["runs"]
    assert not any(run["problems"] or run["unchecked"] for run in checked)
    assert [run["checkpoints"] > 0 and run["rows"] > 0 for run in checked] == [True] * len(rungs) + [
        False
    ]  # the corpus

    assert cli.main(["export", str(folder), "-o", str(tmp_path / "runs.csv")]) == 0
    in_bucket, expected = runs_table.read(folder), runs_table.read(on_disk[0].parent)
    assert in_bucket.columns.keys() == expected.columns.keys()
    assert in_bucket["value"].tolist() == expected["value"].tolist()
    assert runs_table.read(tmp_path / "runs.csv")["value"].tolist() == expected["value"].tolist()

    fit = prepare.write_fit(built, rungs, root)
    worker.conclude(fit)
    assert Record(fit).is_done()
    on_disk_fit = prepare.write_fit(built, rungs, tmp_path / "runs")
    worker.conclude(on_disk_fit)
    predicted, expected = (json.loads((path / "prediction.json").read_text()) for path in (fit, on_disk_fit))
    assert predicted["predictions"] == expected["predictions"]
