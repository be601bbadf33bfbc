"""`ladder study NAME` from the ladder to the page, with runs that follow a known law instead of being trained."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from configs import loader
from fitting.studies.catalogue import STUDIES
from ladder.rundir.record import Record
from launch import cli, prepare, study
from launch.scheduler import foreground

TINY = f"{Path(__file__).with_name('tiny_studies.py')}:noise"
SLOW = ("scaling", "branches")  # they fit laws


def loss(config: dict, step: int) -> float:
    """Of (N, D): a sum of two powers, and more where the batch is large or data repeat; with noise by run."""
    derived, unique = config["derived"], config["rung"]["unique_tokens"]
    d = step * derived["batch_tokens"]
    d /= 1 + derived["batch_tokens"] / (20 * d**0.4)  # a critical batch size that grows while the loss falls
    passes = d / unique if unique else 0.0
    value = 0.9 + 40 / derived["n_params"] ** 0.38 + 300 / min(d, unique or d) ** 0.38 + 0.02 * max(0.0, passes - 2)
    return value * float(np.exp(0.004 * np.random.default_rng(zlib.crc32(config["run_id"].encode())).standard_normal()))


def finish(directory) -> None:
    """Write what the run would have left."""
    record = Record(directory)
    config = record.read_config()
    derived = config["derived"]
    first, last = derived["parent_step"] or 0, derived["steps"]
    if first:
        record.rewind(first, origin=first, listing={})
    every = config["rung"]["eval"]["every"] or last
    for step in sorted({*range(first + every - first % every, last + 1, every), last}):
        row = {"step": step, "tokens": step * derived["batch_tokens"], "kind": derived["kind"], "task": "validation"}
        record.log([row | {"metric": "bpb", "value": loss(config, step), "stderr": None, "n_docs": None}])
    record.publish(last)
    record.finish(step=last, tokens=last * derived["batch_tokens"], loss=loss(config, last))


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """Where the command runs, and the runs it trained; `refused` names runs that fail."""
    trained, refused = [], []

    def run(jobs, console, backend):
        due = [job for job in jobs if not Record(job.directory).is_done()]
        for job in due:
            if not any(job.run_id.startswith(name) for name in refused):
                finish(job.directory)
                trained.append(job.run_id)
        if refused:
            raise foreground.Failed("some runs failed", 1)
        return foreground.Outcome(done=[job.run_id for job in jobs])

    monkeypatch.setattr(foreground, "run", run)
    monkeypatch.setattr(prepare, "check_tasks", lambda ladder: None)
    monkeypatch.setattr(prepare, "build", lambda ladder, corpora: prepare.Built(ladder, {"": tmp_path}))
    monkeypatch.chdir(tmp_path)
    return trained, refused


def test_the_command_knows_every_study_and_its_ladders():
    assert set(study.NAMES) == set(STUDIES)
    for name in study.NAMES:
        assert {f"study-{name}", f"study-{name}-tpu"} <= set(loader.BUILT_IN)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in study.NAMES])
def test_a_study_ends_in_one_page(name, staged):
    trained, _ = staged
    assert cli.main(["study", name]) == 0
    assert len(trained) == len(loader.load(f"study-{name}").rungs)
    page = Path(f"runs/study-{name}/report.html").read_text()
    assert "What cannot be concluded at this scale" in page and "Missing" not in page and "data:image/svg" in page
    result = json.loads(Path(f"runs/study-{name}/study.json").read_text())
    assert result["missing"] == [] and result["statements"]
    told = [s for s in result["statements"] if s["value"] is not None]
    assert len(told) >= 1 and all(s["ends"][0] <= s["value"] <= s["ends"][1] for s in told)


def test_missing_runs_are_named_and_the_same_command_goes_on(staged, capsys):
    trained, refused = staged
    command = ["study", "noise", "--ladder", TINY]
    assert cli.main([*command, "--dry-run"]) == 0
    assert not Path("runs").exists()
    refused.append("d8")
    assert cli.main(command) == 1
    page = Path("runs/study-tiny/report.html")
    assert "Missing runs: 2" in page.read_text()
    assert "missing: d8-0.3xC-s0" in capsys.readouterr().out
    assert len(trained) == 6
    refused.clear()
    assert cli.main(command) == 0
    assert "Missing" not in page.read_text()
    assert len(trained) == len(set(trained)) == 8


def test_before_any_run_is_done_the_command_says_so(staged, capsys):
    _, refused = staged
    refused.append("")
    assert cli.main(["study", "shape", "--ladder", TINY]) == 1
    assert "nothing to report yet" in capsys.readouterr().out
    assert not Path("runs/study-tiny/report.html").exists()


def test_a_table_is_reported_without_training(staged, capsys):
    trained, _ = staged
    assert cli.main(["study", "noise", "--ladder", TINY]) == 0
    n = len(trained)
    assert cli.main(["export", "runs/study-tiny", "-o", "runs.csv"]) == 0
    assert cli.main(["study", "noise", "runs.csv", "-o", "noise.html", "--json", "noise.json"]) == 0
    assert len(trained) == n and Path("noise.html").exists()
    of_runs, of_table = (json.loads(Path(p).read_text()) for p in ("runs/study-tiny/study.json", "noise.json"))
    assert of_table["statements"] == of_runs["statements"]
    assert cli.main(["study", "branches", "runs.csv"]) == 2
    assert "no branch and full run" in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_of_size_reads_the_batch_study_beside_it(staged):
    assert cli.main(["study", "batch"]) == 0
    assert cli.main(["study", "scaling"]) == 0
    statements = json.loads(Path("runs/study-scaling/study.json").read_text())["statements"]
    of_least = [s for s in statements if "least compute" in s["says"]]
    assert len(of_least) == 2 and all(s["value"] is not None for s in of_least), of_least
    page = Path("runs/study-scaling/report.html").read_text()
    assert "Least compute of the fresh runs" in page and "figure 13" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("shap", "no study 'shap'; did you mean 'shape'?"),
        ("errors", "name one table"),
        ("errors a.csv b.csv", "name one table, and these are 2"),
        ("shape --run 1B", "--run: no effect with ladder study shape"),
        ("shape a.csv --retry", "--retry: no effect with a table"),
        ("shape --batch-study a.json", "--batch-study: no effect with ladder study shape"),
        ("scaling runs.csv --batch-study no.json", "no.json"),
        ("shape -o page.html", "--out: no effect without a table"),
        ("no/such.csv", "no/such.csv"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, says, capsys):
    assert cli.main(["study", *arguments.split()]) == 2
    message = capsys.readouterr().err.strip()
    assert says in message and "\n" not in message
