"""../shared/cases/kaplan-interval-overflow: a scale that the data do not determine has no interval."""

import json
import warnings
from pathlib import Path

import pytest

from launch import cli

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"


def test_a_scale_over_many_decades_has_no_interval_but_a_flag(tmp_path, monkeypatch, capsys):
    points = CASES / "kaplan-interval-overflow" / "points.csv"
    if not points.exists():
        pytest.skip("the cases are not beside the repository")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        arguments = ["fit", str(points), "--law", "kaplan-n", "--bootstrap", "60", "--json", "fit.json"]
        assert cli.main(arguments) == 0
    read, shown = json.loads(Path("fit.json").read_text()), capsys.readouterr().out
    for results in ("se", "ci95", "ci95_percentile"):
        assert {name for name, value in read[results].items() if value is None} == {"N_c"}
    assert "N_c is not determined" in " ".join(shown.split())
    assert "e+308" not in shown and "nan" not in shown
