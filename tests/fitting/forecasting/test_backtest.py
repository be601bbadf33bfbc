"""Backtests: what is held out, that a holdout's own runs are not fitted, and that a target is never read."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitting.forecasting import backtest, measurements, scores
from fitting.tables import points


def grid(sizes=4, lengths=4):
    n = np.repeat(1e6 * 2.0 ** np.arange(sizes), lengths)
    d = 20 * n * np.tile(2.0 ** np.arange(lengths), sizes)
    bpb = 0.5 + (n / 1e6) ** -0.3 + (d / 1e7) ** -0.3
    runs = tuple(f"r{i}" for i in range(len(n)))
    return points.Points(("t",), runs, tuple(map(str, n)), {"N": n, "D": d}, np.array(runs), bpb[None])


def test_holdouts_hide_the_large_end_and_only_that():
    ladder = grid()
    ways = backtest.holdouts(ladder)
    assert len(ways) == 8
    compute = ladder.features["N"] * ladder.features["D"]
    for way in ways:
        assert not (way.fit_n & way.test_n).any() and way.fit_n.sum() >= backtest.MIN_FIT_RUNS
        assert compute[way.test_n].max() == compute.max() and way.distance > 0


@given(st.integers(1, 5), st.integers(1, 5))
def test_any_grid_gives_holdouts_that_can_be_fitted(sizes, lengths):
    for way in backtest.holdouts(grid(sizes, lengths)):
        assert way.fit_n.sum() >= backtest.MIN_FIT_RUNS and way.test_n.any()


def test_the_runs_of_an_exact_law_are_predicted_and_a_hidden_run_is_not_fitted():
    exact = measurements.Measurements(grid(), {}, {}, {})
    rows = backtest.report(exact).loss
    assert len(rows) == 8 and all(row["error"] < 0.02 for row in rows)
    lied = replace(exact, points=replace(exact.points, bpb_Tn=exact.points.bpb_Tn * np.where(np.arange(16) < 12, 1, 2)))
    [row] = [r for r in backtest.report(lied).loss if r["holdout"] == "largest size"]
    honest = next(r for r in rows if r["holdout"] == "largest size")
    assert row["bias"] == pytest.approx(honest["bias"] - np.log(2), abs=1e-9)  # the same forecast of doubled losses


@pytest.fixture(scope="module")
def reported(published):
    return backtest.report(measurements.read(published, None, "n_params"))


def test_on_the_published_rungs_intervals_beat_a_constant_width(reported):
    assert len(reported.loss) == len(reported.accuracy) == len(reported.holdouts) >= 6
    for rows in (reported.loss, reported.accuracy):
        assert 0.6 <= np.mean([r["coverage"] for r in rows]) <= 1
    assert np.mean([r["error"] for r in reported.loss]) < 0.02
    assert np.mean([r["score"] for r in reported.loss]) < np.mean([r["constant_score"] for r in reported.loss])


def test_a_target_is_never_read(published, reported):
    columns = {k: v.copy() for k, v in published.columns.items()}
    columns["value"][columns["split"] == "target"] *= 3
    again = backtest.report(measurements.read(replace(published, columns=columns), None, "n_params"))
    assert (again.loss, again.accuracy) == (reported.loss, reported.accuracy)


def test_the_interval_score_is_width_and_ten_times_the_miss_and_no_number_without_a_width():
    error = np.array([[0.0, 3.0, np.nan]])
    assert scores.interval_score(error, 1.0) == pytest.approx((2 + (2 + 10 * 2)) / 2)
    assert scores.coverage(error, 1.0) == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(scores.interval_score(error, np.nan)) and np.isnan(scores.coverage(error[:, 2:], 1.0))
