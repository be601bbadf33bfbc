"""The noise scale of a run: the standard error beside the spread of simulated runs; windows; what is refused."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.loss_laws import noise_scale
from fitting.tables import runs_table

VARIANCE, SQUARED = 6000.0, 2.0  # a noise scale of 3,000 tokens


def simulated(rng, n: int, r: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of n measured steps: each 40 % noise, correlated with each other, and r from step to step."""
    white = rng.standard_normal((n + 50, 2)) @ [[1.0, 0.5], [0.0, 0.8]]
    series = np.zeros_like(white)
    for i in range(1, len(white)):
        series[i] = r * series[i - 1] + np.sqrt(1 - r**2) * white[i]
    return tuple((np.array([VARIANCE, SQUARED]) * (1 + 0.4 * series[50:])).T)


@pytest.mark.parametrize("r", [0.0, 0.4, 0.7])
def test_the_standard_error_is_the_spread_of_runs(r):
    rng = np.random.default_rng(0)
    found = np.array([noise_scale.ratio_of_means(*simulated(rng, 300, r)) for _ in range(300)])
    value, stderr, correlation = found.T
    assert value.mean() == pytest.approx(VARIANCE / SQUARED, rel=0.01)
    assert np.sqrt((stderr**2).mean()) == pytest.approx(value.std(), rel=0.12)
    assert correlation.mean() == pytest.approx(r, abs=0.03)


def test_it_is_not_determined_where_the_gradient_is_lost_in_its_noise():
    rng = np.random.default_rng(1)
    assert np.isnan(noise_scale.ratio_of_means(1 + rng.random(50), rng.standard_normal(50) - 0.1)).all()


def table(steps=range(10, 410, 10), run="a", metrics=(noise_scale.VARIANCE, noise_scale.SQUARED)):
    series = simulated(np.random.default_rng(2), len(steps))
    return [
        dict(run=run, n_params=10, tokens=64 * step, step=step, task="train", metric=metric, value=value, place="x:1")
        for metric, values in zip(metrics, series, strict=False)
        for step, value in zip(steps, values, strict=True)
    ]


def test_windows_cover_the_run_and_each_says_what_it_is_of():
    rows = runs_table.from_rows([*table(), *table(run="b", steps=range(5, 35, 5))], "x")
    windows = noise_scale.windows(rows, "a")
    assert [(w.first, w.last, w.n) for w in windows] == [
        (10, 80, 8),
        (90, 160, 8),
        (170, 240, 8),
        (250, 320, 8),
        (330, 400, 8),
    ]
    whole = noise_scale.of_runs(rows, ["a"])
    variance, squared = simulated(np.random.default_rng(2), 40)
    assert whole.tokens == pytest.approx(variance.mean() / squared.mean()) and whole.n == 40
    assert np.mean([w.tokens for w in windows]) == pytest.approx(whole.tokens, rel=0.2)
    assert noise_scale.of_runs(rows, ["a", "b"]).n == 46
    assert noise_scale.windows(rows, "b") == []


@pytest.mark.parametrize("metrics", [(noise_scale.VARIANCE,), ("loss", "grad_norm")])
def test_runs_that_did_not_measure_it_are_refused(metrics):
    with pytest.raises(InputError, match="measured at 0 steps of a, and 8 are needed; train with optimizer"):
        noise_scale.of_runs(runs_table.from_rows(table(metrics=metrics), "x"), ["a"])
