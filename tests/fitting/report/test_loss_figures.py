"""Figures of loss laws hold what they say they do, and the landscape is the profile that SciPy finds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from fitting.errors import InputError
from fitting.laws.catalogue import LAWS
from fitting.loss_laws import loss_fit, profile
from fitting.report import loss_figures
from fitting.tables.loss_points import LossPoints

DELTA = 1e-2


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(17, 22, 48)), np.exp(rng.uniform(21, 25, 48))
    y = (1.8 + 400 / n**0.34 + 1500 / d**0.36) * np.exp(0.003 * rng.standard_normal(48))
    points = LossPoints({"N": n, "D": d, "C": 6 * n * d}, y, np.arange(48), "simulated", "", "loss", "params")
    return loss_fit.fit(points, delta=DELTA, n_resamples=60)


def test_the_landscape_is_the_objective_with_all_else_refitted(fitted):
    surface = profile.profile(fitted, profile.exponents(fitted))
    assert surface.names == ("alpha", "beta") and surface.objective.shape == (28, 28)
    assert surface.best == tuple(fitted.json()["params"][name] for name in surface.names)
    best = fitted.json()["objective"]
    assert best <= surface.objective.min() * (1 + 1e-9) and surface.objective.min() < 1.02 * best
    points = fitted.points
    for i, j in ((0, 0), (27, 5), (14, 27)):
        alpha, beta = surface.axes[0][j], surface.axes[1][i]
        x, z = (points.features["N"] / 1e8) ** -alpha, (points.features["D"] / 1e10) ** -beta

        def objective(p, x=x, z=z):
            error = np.abs(np.log(points.y_n) - np.log(p[0] + p[1] * x + p[2] * z))
            return 1e4 * np.sum(np.where(error < DELTA, error**2 / 2, DELTA * (error - DELTA / 2)))

        found = optimize.minimize(objective, [1.8, 0.8, 0.4], method="BFGS", options={"gtol": 1e-7})
        assert surface.objective[i, j] == pytest.approx(found.fun / 1e4, rel=1e-4)


def test_every_figure_is_drawn(fitted, tmp_path):
    for name, draw in loss_figures.FIGURES.items():
        figure = draw(fitted)
        figure.savefig(tmp_path / f"{name}.png")
        if name == "against":
            labels = [a.get_xlabel() for a in figure.axes if a.get_xlabel()]
            assert labels == [loss_figures.LABELS[k] for k in "NDC"]
        if name == "pairs":
            shown = [a for a in figure.axes if a.get_visible()]
            assert len(shown) == 15 and shown[0].get_xlabel() == "" and shown[-1].get_xlabel() == "beta"
            assert len(shown[1].lines[0].get_xdata()) == 60  # every resample


def test_figures_that_a_law_does_not_have_are_refused(fitted):
    one = replace(fitted, law=LAWS["power-c"])
    with pytest.raises(InputError, match="needs a law of N and D, which power-c is not") as refused:
        loss_figures.against(one)
    assert refused.value.argument == "figure"
    with pytest.raises(InputError, match="power-c has fewer than two exponents") as refused:
        loss_figures.FIGURES["landscape"](one)
    assert refused.value.argument == "figure"
