"""A scale that the data do not determine has no interval (../shared/cases/kaplan-interval-overflow, small ladders)."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from fitting.api import loss
from fitting.tables import loss_points
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


@pytest.fixture
def small_ladder(tmp_path):
    """A runs table of six runs as small as the demo's, with 2 % of noise."""
    noise, rows = np.random.default_rng(1), ["run,n_params,tokens,step,task,metric,value,batch_tokens,final"]
    for n in (1e5, 3e5, 1e6):
        for d in (20 * n, 80 * n):
            bpb = (0.9 + 40 / n**0.38 + 300 / d**0.38) * math.exp(0.02 * noise.standard_normal())
            rows.append(f"{n:.0f}-{d:.0f},{n:.0f},{d:.0f},100,validation,bpb,{bpb},{d / 100:.0f},true")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize("law", ["kaplan-n", "kaplan-d", "kaplan-c", "kaplan-cmin", "kaplan-nd", "kaplan-ns"])
def test_small_ladders_show_no_interval_rather_than_an_endless_one(small_ladder, law, tmp_path, capsys):
    out = tmp_path / "fit.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert cli.main(["fit", small_ladder, "--law", law, "--bootstrap", "60", "--json", str(out)]) == 0
    read, shown = json.loads(out.read_text()), capsys.readouterr().out
    undetermined = {name for name, ends in read["ci95"].items() if ends is None}
    assert all(name.endswith("_c") for name in undetermined) and (undetermined or law != "kaplan-ns")
    assert all(f"{name} is not determined: the ends of its interval" in shown for name in undetermined)
    ends = [end for name in ("ci95", "ci95_percentile") for pair in read[name].values() if pair for end in pair]
    assert all(abs(end) < 1e30 for end in ends) and "e+30" not in shown and "inf" not in shown and "nan" not in shown


def test_the_covariance_of_what_is_not_determined_is_nan(small_ladder):
    fitted = loss.fit_points(loss_points.read(small_ladder), "kaplan-ns", n_resamples=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        cov = fitted.cov
    unknown = np.isnan(list(fitted.stderr.values()))
    assert unknown.any() and not unknown.all()
    assert (np.isnan(cov) == unknown[:, None] | unknown).all()
    assert cov[1, 1] == pytest.approx(fitted.stderr["alpha_N"] ** 2)
