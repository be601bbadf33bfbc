"""ladder predict, backtest and design as a user calls them, on the paper's published runs."""

import json
from pathlib import Path

import pytest

from launch import cli
from launch.cli.verbs import task_law
from tests.launch import stand_ins

RUNS = Path(__file__).resolve().parents[4] / "shared" / "data" / "olmo_ladder_runs.csv.gz"
TARGET = "7B-4T=6887575552,3945065873408"


@pytest.fixture
def runs():
    if not RUNS.exists():
        pytest.skip("the paper's published runs are not beside the repository")
    return str(RUNS)


def test_the_papers_method_writes_what_programs_read(runs, tmp_path):
    out = tmp_path / "pred.json"
    arguments = ["predict", runs, "--target", TARGET, "--method", "paper", "--tasks", "piqa_val", "--json", str(out)]
    assert cli.main(arguments) == 0
    read = json.loads(out.read_text())
    assert read["method"] == "paper" and read["schema_version"] == 1
    [entry] = read["predictions"]
    assert entry["task"] == "piqa_val" and set(entry["fits"]) == {"step1", "step2"}


def test_design_names_runs_within_the_budget(runs, tmp_path, capsys):
    out = tmp_path / "design.json"
    assert cli.main(["design", runs, "--target", TARGET, "--budget", "7e20", "--json", str(out)]) == 0
    [row] = json.loads(out.read_text())["frontier"]
    assert row["flops"] <= 7e20 and len(row["runs"]) >= 8
    assert cli.main(["design", runs, "--target", TARGET, "--budget", "1e19"]) == 2
    err = capsys.readouterr().err
    assert "no set of runs within it determines the law" in err and err.endswith(" (--budget)\n")


def test_paper_c_needs_flops(runs, capsys):
    assert cli.main(["predict", runs, "--target", TARGET, "--method", "paper-c", "--tasks", "piqa_val"]) == 2
    assert "paper-c needs its FLOPs: NAME=N,D,FLOPS (--target)\n" in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_says_how_noisy_a_task_is_and_what_less_compute_costs(runs, tmp_path, capsys, monkeypatch):
    from fitting.bhagia2024 import error_analysis
    from fitting.tables import runs_table

    monkeypatch.setattr(error_analysis, "PERTURBED", 1)
    nine = [f"{size}-{multiple}xC" for size in ("370M", "760M", "1B") for multiple in (2, 5, 10)]
    few = runs_table.read(runs).select(task=["piqa_val"], run=[*nine, "7B-4T"])
    runs_table.write(few, tmp_path / "few.csv")
    out = tmp_path / "study.json"
    assert cli.main(["study", str(tmp_path / "few.csv"), "--run", "1B-10xC", "--json", str(out)]) == 0
    read = json.loads(out.read_text())
    assert read["variance"][0]["task"] == "piqa_val" and len(read["compute_versus_error"]) == 3 + 3 + 9
    assert cli.main(["study", str(tmp_path / "few.csv"), "--run", "2B"]) == 2
    assert "no run '2B'" in capsys.readouterr().err


def test_a_damaged_run_is_named_wherever_a_table_is_read(tmp_path, capsys):
    folder = stand_ins.ladder_that_follows_a_law(tmp_path)
    [segment] = (folder / "n20000-1xC" / "metrics").iterdir()
    segment.write_text(segment.read_text().replace("2", "3", 1))
    assert len(task_law._runs(str(folder)).unique("run")) == 11
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: n20000-1xC: " in said and "not as it was written (its hash differs)" in said
