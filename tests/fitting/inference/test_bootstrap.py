"""Resamples, noise and intervals: against textbook regression, and by simulation."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fitting.errors import InputError
from fitting.inference import bootstrap, intervals
from fitting.laws.base import FREE, Law, Param
from fitting.laws.power_sum import CHINCHILLA
from fitting.tables import runs_table

# ln y = a + b N: a law whose standard errors and prediction intervals are in every textbook.
LINE = Law(
    name="line",
    formula="ln y = a + b N",
    features=("N",),
    params=(Param("a", "other", "1", FREE), Param("b", "other", "1", FREE)),
    curve=lambda p, x: jnp.exp(p.a + p.b * x.N),
    bounds=(FREE, FREE),
    scale=lambda features, y: {"N": 0.0, "y": 1.0},
    coordinates=lambda features, centre: {k: v - centre[k] for k, v in features.items()},
    form=lambda theta, x: jnp.exp(theta[..., 0] + theta[..., 1] * x["N"]),
    natural=lambda theta, centre: {"a": theta[..., 0], "b": theta[..., 1]},
    starts=lambda x, y, n, rng: np.zeros((n, 2)),
    source="",
)


def fit(law, features, y_Tn, delta=1.0, weights_Tn=None, groups_n=None, **resampling) -> bootstrap.Fit:
    """resampling: of bootstrap.Resampling."""
    points = {"weights_Tn": weights_Tn, "groups_n": groups_n}
    settings = {"solver": bootstrap.Solver(delta), "resampling": bootstrap.Resampling(**resampling)}
    return bootstrap.fit(law, features, y_Tn, **points, **settings)


def draws_of_a_run(fitted: bootstrap.Fit, target: dict) -> np.ndarray:
    """[T, R]: what one more run at the target {name: number} may measure, by resampled laws and their noise."""
    y_TR = fitted.predict({k: [v] for k, v in target.items()})[:, 1:, 0]
    return y_TR * np.exp(fitted.noise_TR * np.random.default_rng([0, 1]).standard_normal(y_TR.shape))


def student_interval(fitted: bootstrap.Fit, target: dict, units: int, delta: float = 1.0) -> tuple:
    """(lo_T, hi_T) of 80 % for one more run at the target, by Student's t."""
    y_TR = fitted.predict({k: [v] for k, v in target.items()})[:, :, 0]
    interval_of = [intervals.student(fitted, t, units, delta, level=0.8) for t in range(len(y_TR))]
    return np.transpose([of(y_TR[t], True, fitted.noise_T[t]) for t, of in enumerate(interval_of)])


def test_resamples_draw_whole_groups_and_keep_the_number_of_groups():
    groups = ["a", "a", "b", "c", "c", "c", "d"]
    weights_Rn = bootstrap.resample_weights(groups, 500, seed=0, min_groups=3)
    assert weights_Rn.shape == (500, 7) and weights_Rn.dtype.kind == "i"
    a, b, c, d = weights_Rn[:, 0], weights_Rn[:, 2], weights_Rn[:, 3], weights_Rn[:, 6]
    assert (weights_Rn[:, 1] == a).all() and (weights_Rn[:, 4] == c).all() and (weights_Rn[:, 5] == c).all()
    drawn = np.stack([a, b, c, d])
    assert (drawn.sum(axis=0) == 4).all() and ((drawn > 0).sum(axis=0) >= 3).all()
    np.testing.assert_allclose(drawn.mean(axis=1), 1.0, atol=0.12)
    assert (weights_Rn == bootstrap.resample_weights(groups, 500, seed=0)).all()
    with pytest.raises(InputError, match="2 groups"):
        bootstrap.resample_weights(["a", "b"], 10, seed=0)


@pytest.mark.parametrize("method", ["residuals", "pairs"])
def test_standard_errors_are_those_of_regression(method):
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 60)
    y = np.exp(0.3 - 0.5 * x + 0.02 * rng.standard_normal((8, 60)))
    fitted = fit(LINE, {"N": x}, y, n=300, method=method)
    for t in range(8):
        slope, intercept = np.polyfit(x, np.log(y[t]), 1)
        assert fitted.params(t) == pytest.approx({"a": intercept, "b": slope}, abs=1e-6)
    noise = np.array([np.std(np.log(y[t]) - np.polyval(np.polyfit(x, np.log(y[t]), 1), x)) for t in range(8)])
    np.testing.assert_allclose(fitted.noise_T, noise * np.sqrt(60 / 58), rtol=1e-6)
    np.testing.assert_allclose(fitted.dof_T, 58, rtol=1e-6)
    se = np.array([np.std(fitted.resampled(t)["b"]) for t in range(8)])
    expected = fitted.noise_T / np.sqrt(np.sum((x - x.mean()) ** 2))
    np.testing.assert_allclose(se.mean(), expected.mean(), rtol=0.1)


def test_intervals_of_a_line_are_students():
    """80 % prediction intervals from 5 points: t with 3 degrees of freedom, not a normal; in closed form, and as
    percentiles of draws, each of which has a noise level of its own."""
    rng = np.random.default_rng(1)
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    y = np.exp(0.01 * rng.standard_normal((200, 5)))
    fitted = fit(LINE, {"N": x}, y, n=120)
    truth = np.exp(0.01 * rng.standard_normal(200))
    for lo, hi in (
        bootstrap.interval(draws_of_a_run(fitted, {"N": 3.0}), 0.8),
        student_interval(fitted, {"N": 3.0}, units=5),
    ):
        assert 0.75 < np.mean((lo < truth) & (truth < hi)) < 0.86
        width = np.mean(np.log(hi / lo)) / 2
        assert width == pytest.approx(1.638 * 0.01 * 0.92 * np.sqrt(1 + 1 / 5 + 9 / 10), rel=0.08)


def test_noise_shared_by_a_trunk_is_estimated_as_a_whole():
    """Branches share half of the variance; the estimate of the variance is unbiased."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(4), 3)
    x = np.repeat(np.arange(4.0), 3) + np.tile([0.0, 0.1, 0.2], 4)
    own, shared = rng.standard_normal((800, 12)), rng.standard_normal((800, 4))[:, groups]
    y = np.exp(0.01 * (own + shared) * np.sqrt(0.5))
    fitted = fit(LINE, {"N": x}, y, groups_n=groups, n=1)
    assert np.mean(fitted.noise_T**2) == pytest.approx(0.01**2, rel=0.06)


def test_tasks_may_lack_points():
    x = np.arange(8.0)
    y = np.exp(np.stack([0.1 * x, -0.2 * x]))
    weights = np.ones((2, 8))
    weights[1, 5:] = 0
    y[1, 5:] = 99.0
    fitted = fit(LINE, {"N": x}, y, weights_Tn=weights, n=5)
    assert fitted.points_T.tolist() == [8, 5]
    assert fitted.params(1) == pytest.approx({"a": 0.0, "b": -0.2}, abs=1e-6)
    with pytest.raises(InputError, match="has 2 parameters and needs at least 3 points; there are 2"):
        fit(LINE, {"N": x[:2]}, y[:, :2])


def test_the_noise_floor_widens_intervals():
    """Points without noise: the prediction interval of a line, with the floor as its standard deviation."""
    x = np.arange(6.0)
    exact = fit(LINE, {"N": x}, np.exp(0.1 * x), n=400, noise_floor=0.01)
    assert exact.noise_T[0] == 0.01
    half = stats.t.ppf(0.9, 4) * 0.01 * np.sqrt(1 + 1 / 6 + (7 - 2.5) ** 2 / np.sum((x - 2.5) ** 2))
    for lo, hi in (
        bootstrap.interval(draws_of_a_run(exact, {"N": 7.0}), 0.8),
        student_interval(exact, {"N": 7.0}, units=6),
    ):
        assert np.log(hi / lo)[0] / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_of_a_prediction_holds_the_prediction():
    assert bootstrap.point_interval(np.array([2.0, 3.0]), 1.0)[0] == 1.0
    assert bootstrap.point_interval(np.array([2.0, 3.0]), 4.0)[1] == 4.0


def laws_of_nature(n, d):
    """Three truths: the fitted form, Kaplan's interaction of N and D, and curved power laws."""
    n, d = n / 4e4, d / 3e7
    yield 1.0 + 0.8 * n**-0.35 + 0.5 * d**-0.35
    yield 1.0 + 1.2 * (n ** (-0.3 / 0.4) + 1.5 / d) ** 0.4
    yield 1.0 + 0.8 * n**-0.35 * np.exp(-0.02 * np.log(n) ** 2) + 0.5 * d**-0.35 * np.exp(-0.02 * np.log(d) ** 2)


def test_80_percent_intervals_of_small_ladders_cover_70_to_90_percent():
    """4 sizes x 3 branches with 0.5 % of noise, half of it the trunk's; the target is 3.3 times larger."""
    rng, each = np.random.default_rng(3), 40
    groups = np.repeat(np.arange(4), 3)
    n = np.repeat([16e3, 30e3, 52e3, 90e3], 3)
    d = 400 * n * np.tile([1, 2, 4], 4)
    target = {"N": 300e3, "D": 400 * 300e3}
    y, truth = [], []
    for law, at in zip(laws_of_nature(n, d), laws_of_nature(*target.values()), strict=True):
        shared, own = rng.standard_normal((each, 4))[:, groups], rng.standard_normal((each, 12))
        y.append(law * np.exp(0.005 * np.sqrt(0.5) * (shared + own)))
        truth.append(at * np.exp(0.005 * rng.standard_normal(each)))
    y, truth, features = np.concatenate(y), np.concatenate(truth), {"N": n, "D": d}
    fitted = fit(CHINCHILLA, features, y, delta=1e-2, groups_n=groups, n=60)
    lo, hi = bootstrap.interval(draws_of_a_run(fitted, target), 0.8)
    point = fitted.predict({k: [v] for k, v in target.items()})[:, 0, 0]
    inside = (lo < truth) & (truth < hi)
    half_width = (hi - lo) / 2 / point
    assert 0.70 <= inside.mean() <= 0.90
    assert all(inside[i * each : (i + 1) * each].mean() > 0.6 for i in range(3))
    assert np.median(half_width) < 0.04 and np.quantile(half_width, 0.9) < 0.06
    assert np.mean(np.abs(point / truth - 1) < 0.03) > 0.8
    assert fitted.resamples_converged_T.mean() > 0.98 and fitted.converged_T.all()


def test_resamples_whose_floor_is_nearly_zero_converge():
    """There Levenberg-Marquardt is slow along the softplus of E; at first 3 of these 300 stopped before the optimum."""
    n = np.repeat([190e6, 370e6, 760e6, 1.3e9], 4)
    d = 20 * n * np.tile([1, 2, 5, 10], 4)
    noise = 0.005 * np.random.default_rng(0).standard_normal((3, 16))
    y = (0.3 + 20 / n**0.2 + 60 / d**0.2) * np.exp(noise)
    fitted = fit(CHINCHILLA, {"N": n, "D": d}, y, delta=1e-2, n=100, method="pairs")
    assert 0.1 < np.mean([fitted.resampled(t)["E"] < 1e-3 for t in range(3)]) < 0.9
    assert fitted.resamples_converged_T.min() == 1.0


def test_step_1_of_the_paper(shared):
    """The paper's own points and objective (mean of the last 5 rows, Huber 1e-3): its parameters."""
    rows = runs_table.read(shared("olmo_ladder_runs.csv.gz")).select(split="train", metric="bpb")
    expected = json.loads(shared("task_ladder_expected.json").read_text())["tasks"]
    runs, tasks = rows.unique("run"), list(expected)
    y_Tn, n, d = np.zeros((len(tasks), len(runs))), np.zeros(len(runs)), np.zeros(len(runs))
    for i, run in enumerate(runs):
        of_run = rows.select(run=run)
        n[i], d[i] = of_run["n_params"][0], of_run["tokens"].max()
        for t, task in enumerate(tasks):
            of_task = of_run.select(task=task)
            y_Tn[t, i] = of_task["value"][np.argsort(of_task["step"])[-5:]].mean()
    assert len(runs) == 16
    fitted = fit(CHINCHILLA, {"N": n, "D": d}, y_Tn, delta=1e-3, n=1)
    for t, task in enumerate(tasks):
        published = {k: expected[task]["step1_params"][k] for k in ("E", "alpha", "beta", "A", "B")}
        ours = fitted.params(t)
        fit_of = [p["E"] + p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"] for p in (ours, published)]
        np.testing.assert_allclose(*fit_of, rtol=2e-6, err_msg=task)
        loss = [np.abs(np.log(y_Tn[t]) - np.log(f)) for f in fit_of]
        ours_sum, their_sum = (np.where(u < 1e-3, u**2 / 2, 1e-3 * (u - 5e-4)).sum() for u in loss)
        assert ours_sum <= their_sum * (1 + 1e-10), task
        assert fitted.objective_T[t] == pytest.approx(ours_sum, rel=1e-9)
        assert ours["alpha"] == pytest.approx(published["alpha"], rel=1e-4), task
        assert ours["E"] == pytest.approx(published["E"], abs=1e-4), task


def test_tasks_do_not_change_each_others_fits():
    """A task's fit does not depend on the other tasks that are solved beside it."""
    rng = np.random.default_rng(5)
    x = np.arange(8.0)
    y = np.exp(0.1 * x + 0.01 * rng.standard_normal((3, 8)))
    alone = fit(LINE, {"N": x}, y[1], n=2).params(0)
    assert fit(LINE, {"N": x}, y, n=2).params(1) == pytest.approx(alone, abs=1e-9)
