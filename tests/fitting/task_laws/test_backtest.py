"""Backtests: what is held out, how forms are weighted, and that a target is never read."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitting.laws.forms import FORMS
from fitting.tables import points
from fitting.task_laws import accuracy, backtest


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


def test_forms_that_predict_better_weigh_more_and_a_scored_holdout_has_no_say():
    rng = np.random.default_rng(0)
    error = np.abs(rng.normal(0.02, 0.002, (5, 3, 2, 4)))
    error[:, 1] /= 10
    weights = backtest.weights(error)
    assert weights.shape == (3, 2) and np.allclose(weights.sum(axis=0), 1) and (weights[1] > 0.8).all()
    changed = error.copy()
    changed[2] *= 100
    assert np.array_equal(backtest.weights(error, without=2), backtest.weights(changed, without=2))
    assert np.allclose(backtest.weights(error[:2]), 1 / 3)
    error[:, :, 1] = np.nan  # a task that no holdout tests
    only = backtest.weights(error)
    assert np.allclose(only.sum(axis=0), 1) and only[1, 1] > only[0, 1]


def test_the_scaled_interval_holds_its_share():
    error = np.random.default_rng(1).normal(0, 1, (6, 8, 50))
    half = np.ones_like(error), np.ones_like(error)
    factor = backtest.scale_factor(error, half)
    assert factor == pytest.approx(1.2816, abs=0.1)
    assert 0.78 < backtest.coverage(error, factor * half[0], factor * half[1]) < 0.85
    assert backtest.interval_score(np.array([[0.0, 3.0]]), 1.0, 1.0) == pytest.approx(2 + 10 * 2 / 2)


@pytest.fixture(scope="module")
def reported(published):
    return report(published)


def report(runs):
    at = points.ladder_points(runs, None, "n_params")
    return backtest.report(runs, at, accuracy.fit_all(runs, at.tasks, 20, 0), "n_params")


def test_on_the_published_rungs_coverage_is_calibrated_and_the_average_beats_its_forms(reported):
    for rows in (reported.bpb.table(), reported.acc_rows):
        covered = np.array([r["coverage"] for r in rows])
        assert 0.72 <= covered.mean() <= 0.88 and covered.min() >= 0.6
        assert np.mean([r["score"] for r in rows]) < np.mean([r["constant_score"] for r in rows])
    errors = np.nanmean(np.abs(reported.bpb.form_error_HFTn), axis=(2, 3)).mean(axis=0)
    assert np.mean([r["error"] for r in reported.bpb.table()]) < errors.min()
    assert len(errors) == len(FORMS)


def test_a_target_is_never_read(published, reported):
    columns = {k: v.copy() for k, v in published.columns.items()}
    columns["value"][columns["split"] == "target"] *= 3
    again = report(replace(published, columns=columns))
    assert np.array_equal(again.weights_FT, reported.weights_FT) and again.factor_acc == reported.factor_acc


def test_the_interval_score_is_width_and_ten_times_the_miss_and_no_number_without_a_width():
    error = np.array([[0.0, 3.0, np.nan]])
    assert backtest.interval_score(error, 1.0, 1.0) == pytest.approx((2 + (2 + 10 * 2)) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(backtest.interval_score(error, np.nan, np.nan))
