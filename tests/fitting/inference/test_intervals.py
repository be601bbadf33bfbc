"""Default intervals hold the truth as often as they say, in simulations and in closed form."""

import numpy as np
import pytest
from scipy import stats

from fitting.errors import InputError
from fitting.inference import bootstrap, intervals
from fitting.laws.catalogue import LAWS
from fitting.loss_laws import loss_fit
from fitting.tables import loss_points
from fitting.tables.loss_points import LossPoints
from tools import coverage

SIMULATIONS = 400
# Four standard errors of a share of 0.95 (and a little at the upper end, which is 0.98 in 2,000 simulations).
BOUNDS = 0.95 - 4 * np.sqrt(0.95 * 0.05 / SIMULATIONS), 0.99


@pytest.mark.parametrize("law,runs", [("kaplan-n", 10), ("power-d", 30)])
def test_the_default_interval_holds_the_truth(law, runs):
    found = coverage.study(law, runs, SIMULATIONS, resamples=60)
    assert found.converged > 0.999 and found.method == ("residuals" if runs < 20 else "pairs")
    for name, share in found.default.items():
        assert BOUNDS[0] <= share <= BOUNDS[1], name
        assert 0.85 < found.percentile[name] <= 1


def test_every_law_of_the_loss_with_published_constants_is_simulated():
    without = {"transfer", "power-s", "power-t"}  # nobody's constants are at hand
    known = {name for name, law in LAWS.items() if set(law.features) <= loss_fit.FEATURES}
    assert known - set(coverage.truths()) <= without
    for law, (_, params) in coverage.truths().items():
        y = LAWS[law].at(params, coverage.runs(law, 12, 0))
        assert set(params) == {p.name for p in LAWS[law].params} and np.isfinite(y).all() and (y > 0).all()


def test_the_default_interval_of_a_line_is_that_of_regression():
    """L = (N_c/N)^alpha is a line in logarithms; with a large delta the fit is least squares, and simulated residuals
    give its standard error."""
    rng = np.random.default_rng(3)
    x = np.linspace(0, 5, 10)
    y = np.exp(3 - 0.1 * x + 0.01 * rng.standard_normal(10))
    points = LossPoints({"N": np.exp(x), "L": y}, y, np.arange(10), "simulated", "", "loss", "params")
    fitted = loss_fit.fit(points, "kaplan-n", delta=1.0, n_resamples=4000)
    line = stats.linregress(x, np.log(y))
    half = stats.t.ppf(0.975, 8) * line.stderr
    lo, hi = fitted.json()["ci95"]["alpha_N"]
    assert (lo, hi) == pytest.approx((-line.slope - half, -line.slope + half), abs=0.05 * half)
    assert fitted.standard_errors()["alpha_N"] == pytest.approx(line.stderr, rel=0.05)
    assert "percentile intervals of so few may be too short" in " ".join(fitted.flags)


@pytest.mark.parametrize("units,flagged", [(25, True), (32, False)])
def test_intervals_known_to_be_too_wide_are_flagged(units, flagged, monkeypatch):
    monkeypatch.setattr(loss_fit, "MANY_UNITS", 32)
    x = np.linspace(0, 5, units)
    points = LossPoints({"N": np.exp(x)}, np.exp(3 - 0.1 * x), np.arange(units), "simulated", "", "loss", "params")
    flags = loss_fit.fit(points, "kaplan-n", n_resamples=2).flags
    assert (
        flags == [f"{units} runs, drawn with replacement: 95 % intervals may be too wide (docs/intervals.md)"] * flagged
    )


def test_hubers_variance_is_that_of_the_literature():
    assert intervals.excess_variance(1e-9) == pytest.approx(np.pi / 2)
    assert intervals.excess_variance(1e-3) == pytest.approx(np.pi / 2, rel=2e-3)
    assert 1 / intervals.excess_variance(1.345) == pytest.approx(0.95, abs=5e-4)  # Holland and Welsch 1977
    assert intervals.excess_variance(8.0) == pytest.approx(1)


def test_huber_residuals_exceed_those_of_least_squares_as_allowed_for():
    """A location: the residuals' sum of squares about the median of 9 normal numbers."""
    z = np.random.default_rng(0).standard_normal((200_000, 9))
    about = np.mean(np.sum((z - np.median(z, axis=1, keepdims=True)) ** 2, axis=1))
    assert about == pytest.approx(8 * (1 + (intervals.excess_variance(0.0) - 1) / 8), rel=0.02)


@pytest.mark.slow
def test_float32_agrees_or_is_refused(shared):
    of = loss_points.read(str(shared("chinchilla_points.csv")))
    counts_Rn = bootstrap.resample_weights(np.arange(240), 1024, 0)
    exact = loss_fit.fit(of, resamples_Rn=counts_Rn).bootstrap.resampled(0)
    rough = loss_fit.fit(of, resamples_Rn=counts_Rn, precision="float32")
    assert "resamples float32" in rough.json()["settings"]["solver"]
    for name, values in rough.bootstrap.resampled(0).items():
        assert np.quantile(np.abs(values / exact[name] - 1), 0.99) <= 2e-3, name
        assert not np.array_equal(values, exact[name])
    with pytest.raises(InputError, match=r"float32: .* differs from float64 by .*; use float64") as error:
        loss_fit.fit(of, delta=1e-7, resamples_Rn=counts_Rn[:256], precision="float32")
    assert error.value.argument == "precision"
