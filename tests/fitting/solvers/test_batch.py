"""The solver against numpy, SciPy and published optima."""

import csv
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from fitting.laws import power_sum
from fitting.solvers import batch
from fitting.solvers.objective import residuals

INF = float("inf")


FREE = ((-INF, INF), (-INF, INF))
X = np.linspace(-1, 1, 9)


@lru_cache
def line():
    return lambda p, data, lane: p[0] + p[1] * data["x"] - lane["y"]


def fit_lines(y_Gn, weights_Rn, bounds=FREE, start=(0.1, 0.0)):
    return batch.solve(
        line(), np.array([start]), data={"x": X}, weights_Rn=weights_Rn, lanes={"y": y_Gn}, bounds=bounds
    )


def lstsq(y_n, weights_n):
    root = np.sqrt(weights_n)
    params, rest, *_ = np.linalg.lstsq(np.column_stack([root, root * X]), root * y_n, rcond=None)
    return params, rest[0] / 2


def test_weighted_linear_least_squares_is_exact():
    rng = np.random.default_rng(0)
    y_Rn, weights_Rn = rng.standard_normal((5, 9)), rng.integers(0, 4, (5, 9))
    found = fit_lines(y_Rn, weights_Rn)
    for r in range(5):
        params, objective = lstsq(y_Rn[r], weights_Rn[r])
        np.testing.assert_allclose(found.params_RP[r], params, atol=1e-7)
        np.testing.assert_allclose(found.objective_R[r], objective, rtol=1e-9)
    assert found.converged_R.all() and (found.agree_R == 1).all()


def test_integer_weights_are_repeated_rows():
    y_n, counts = np.random.default_rng(2).standard_normal(9), np.array([2, 0, 1, 3, 1, 1, 0, 0, 4])
    slope, intercept = np.polyfit(np.repeat(X, counts), np.repeat(y_n, counts), 1)
    np.testing.assert_allclose(fit_lines(y_n[None], counts[None]).params_RP[0], [intercept, slope], atol=1e-7)


def test_more_problems_than_a_chunk_and_lanes_that_serve_groups():
    half = batch.CHUNK[batch.LEVENBERG_MARQUARDT] // 2 + 22
    found = fit_lines(np.stack([X, 3 + 0 * X]), np.ones((2 * half, 9)))
    np.testing.assert_allclose(found.params_RP[:half], np.tile([0.0, 1.0], (half, 1)), atol=1e-7)
    np.testing.assert_allclose(found.params_RP[half:], np.tile([3.0, 0.0], (half, 1)), atol=1e-7)


@pytest.mark.parametrize("bounds", [((-0.1, 0.5), (0.3, 0.4)), ((0.0, INF), (-INF, -1.0))])
def test_bounds_hold_and_the_optimum_is_scipys(bounds):
    y_n = np.random.default_rng(1).standard_normal(9) + 1
    start = [np.clip(0.05, lo + 0.01, hi - 0.01) for lo, hi in bounds]
    found = fit_lines(y_n[None], np.ones((1, 9)), bounds, start)
    expected = optimize.lsq_linear(np.column_stack([np.ones(9), X]), y_n, bounds=np.array(bounds).T)
    np.testing.assert_allclose(found.objective_R[0], expected.cost, rtol=1e-6)
    for value, (lo, hi) in zip(found.params_RP[0], bounds, strict=True):
        assert lo <= value <= hi


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(batch, "FAST_COMPILE", {"xla_cpu_no_such_option": True})
    settings = {"data": {"x": X}, "weights_Rn": np.ones((1, 9)), "lanes": {"y": (1 - 2 * X)[None]}, "bounds": FREE}
    fits = batch.solve(
        lambda p, data, lane: p[0] + p[1] * data["x"] - lane["y"],
        np.array([[0.1, 0.0]]),
        method=batch.NEWTON,
        loss=lambda u, data: u**2 / 2,
        **settings,
    )
    np.testing.assert_allclose(fits.params_RP[0], [1.0, -2.0], atol=1e-7)


def test_a_start_on_a_bound_stays_there():
    found = fit_lines((1 - 2 * X)[None], np.ones((1, 9)), ((0.0, INF), (-INF, -1.0)), (0.0, -1.5))
    np.testing.assert_allclose(found.params_RP[0], [0.0, -2.0], atol=1e-7)


def test_float64_stays_inside():
    assert fit_lines(X[None], np.ones((1, 9))).params_RP.dtype == np.float64
    assert jnp.ones(1).dtype == jnp.float32


def test_unfinished_lanes_are_counted():
    law = power_sum.CHINCHILLA
    y, lanes, starts_SP = _simulated_ladder(noise=0.005, seed=3)
    settings = {"data": {"delta": 1e-3}, "weights_Rn": np.ones((1, len(y))), "bounds": law.bounds, "lanes": lanes}
    assert batch.solve(residuals(law), starts_SP, **settings).converged_R.all()
    assert not batch.solve(residuals(law), starts_SP[:1], max_iterations=2, **settings).converged_R.any()


def _simulated_ladder(noise, seed, n_starts=24):
    rng = np.random.default_rng(seed)
    n, d = np.repeat([1e4, 2e4, 4e4, 8e4], 3), np.tile([1.0, 2.0, 4.0], 4) * np.repeat([2e5, 4e5, 8e5, 16e5], 3)
    y = (1.0 + 0.8 * (n / 4e4) ** -0.35 + 0.5 * (d / 1e6) ** -0.35) * np.exp(noise * rng.standard_normal(12))
    law = power_sum.CHINCHILLA
    centre = law.scale({"N": n, "D": d}, y)
    x = law.coordinates({"N": n, "D": d}, centre)
    y = y / centre["y"]
    return y, {k: v[None] for k, v in (x | {"y": y}).items()}, law.starts(x, y, n_starts, rng)


def _scipy_chinchilla(y, x_n, x_d, delta):
    """Best of 12 L-BFGS-B runs, polished, in another parametrisation: (E, ln A, alpha, ln B, beta), centred."""

    def objective(p):
        fitted = p[0] + np.exp(p[1] - p[2] * x_n) + np.exp(p[3] - p[4] * x_d)
        u = np.abs(np.log(y) - np.log(fitted)) / delta
        return np.sum(np.where(u < 1, u**2 / 2, u - 0.5))

    rng, found = np.random.default_rng(9), []
    box = [(0, None), (-15, 5), (1e-4, 2), (-15, 5), (1e-4, 2)]
    for _ in range(12):
        e, a, b = rng.dirichlet((3, 1, 1))
        p = [e, np.log(a), rng.uniform(0.1, 0.9), np.log(b), rng.uniform(0.1, 0.9)]
        found.append(optimize.minimize(objective, p, method="L-BFGS-B", bounds=box))
    best = min(found, key=lambda f: f.fun)
    for _ in range(3):  # finite differences stop early in the valley
        best = optimize.minimize(objective, best.x, method="Nelder-Mead", bounds=box, options={"fatol": 1e-12})
    return best.fun


@pytest.mark.parametrize("noise,seed,delta", [(0.003, 0, 1e-2), (0.01, 2, 1e-2), (0.005, 4, 1e-3)])
def test_small_ladders_reach_scipys_optimum(noise, seed, delta):
    law = power_sum.CHINCHILLA
    y, lanes, starts_SP = _simulated_ladder(noise, seed)
    found = batch.solve(
        residuals(law),
        starts_SP,
        data={"delta": delta},
        weights_Rn=np.ones((1, 12)),
        lanes=lanes,
        bounds=law.bounds,
    )
    assert found.objective_R[0] <= _scipy_chinchilla(y, lanes["N"][0], lanes["D"][0], delta) * (1 + 1e-6)


def test_chinchillas_points_give_the_published_optimum(shared):
    with open(shared("chinchilla_points.csv")) as file:
        rows = [r for r in csv.DictReader(file)]
    names = {k.lower(): k for k in rows[0]}
    n, d, y = (np.array([float(r[names[k]]) for r in rows]) for k in ("params", "tokens", "loss"))
    keep = y < 3.446995
    assert keep.sum() == 240
    law, features = power_sum.CHINCHILLA, {"N": n[keep], "D": d[keep]}
    centre = law.scale(features, y[keep])
    x = law.coordinates(features, centre) | {"y": y[keep] / centre["y"]}
    found = batch.solve(
        residuals(law),
        law.starts(x, x["y"], 24, np.random.default_rng(0)),
        data={"delta": 1e-3},
        weights_Rn=np.ones((1, 240)),
        lanes={k: v[None] for k, v in x.items()},
        bounds=law.bounds,
    )
    assert found.objective_R[0] * 1e-6 == pytest.approx(0.00101827401780, abs=1e-10)
    params = law.natural(found.params_RP[0], centre)
    published = {"A": 477.8259, "B": 2143.417, "E": 1.8172181, "alpha": 0.3473105, "beta": 0.3671724}
    for name, value in published.items():
        assert params[name] == pytest.approx(value, rel=1e-5), name
