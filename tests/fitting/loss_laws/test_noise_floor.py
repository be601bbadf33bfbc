"""Measured noise between seeds as the least noise of a fit's intervals."""

import numpy as np
import pytest

from fitting.loss_laws import loss_fit
from fitting.tables.loss_points import LossPoints
from tests.fitting.studies.simulated import chinchilla


def test_intervals_take_no_less_noise_than_that_between_seeds():
    n, d = (v.ravel() for v in np.meshgrid([1e6, 4e6, 16e6], [1e8, 4e8, 16e8]))
    y = chinchilla(n, d) * np.exp(1e-4 * np.random.default_rng(0).standard_normal(len(n)))
    points = LossPoints({"N": n, "D": d}, y, np.arange(len(n)).astype(str), "simulated", "", "loss", "n_params")
    alone, larger, smaller = (
        loss_fit.fit(points, "chinchilla", delta=0.1, n_resamples=60, noise=v) for v in (0.0, 1e-3, 1e-9)
    )
    assert larger.bootstrap.noise_T[0] == 1e-3 > alone.bootstrap.noise_T[0]
    ratio = larger.standard_errors()["beta"] / alone.standard_errors()["beta"]
    assert ratio == pytest.approx(1e-3 / alone.bootstrap.noise_T[0], rel=0.3)
    assert smaller.bootstrap.params(0) == alone.bootstrap.params(0)
    assert smaller.bootstrap.noise_T[0] == alone.bootstrap.noise_T[0]
