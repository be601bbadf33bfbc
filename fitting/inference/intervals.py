"""95 % intervals of a law's parameters that hold the truth 95 times in 100: Wald's, with Student's t.

Estimate +- t * standard error, on a scale on which estimates are nearly normal: the logarithm for parameters that are
scales of a feature (N_c, A, ...: positive, over decades), the parameter itself for exponents and an irreducible loss.
The standard error is that of the resamples, t that of the degrees of freedom the runs leave. Percentiles of the
resamples, which many papers print, stand beside it: of pairs of few runs they may be too short. How often either holds
the truth is measured in `coverage`.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from fitting.inference import bootstrap
from fitting.laws.base import Law

LEVEL = 0.95


def wald(fitted: bootstrap.Fit, task: int, units: int, delta: float, level: float = LEVEL) -> dict[str, tuple]:
    """{name of parameter: (lo, hi)}. units: how many runs share no noise. delta: Huber's threshold of the fit."""
    interval, natural = student(fitted, task, units, delta, level), fitted.natural(task)
    found = {}
    for param in fitted.law.params:
        ends = interval(natural[param.name], is_scale(fitted.law, param.name))
        found[param.name] = tuple(float(end) for end in np.clip(ends, *np.clip(param.bounds, *FINITE)))
    return found


def student(fitted: bootstrap.Fit, task: int, units: int, delta: float, level: float = LEVEL) -> Callable:
    """-> interval(value_R, log) -> (lo, hi) of any quantity [1 + R, ...] that follows from a fit and its resamples.

    Row 0 is the fit's, the others are the resamples'. log: whether it is the logarithm that is nearly normal.
    """
    simulated, n_params = fitted.method == "residuals", len(fitted.law.params)
    dof = fitted.dof_T[task] if simulated else max(units - n_params, 1)
    shrink_R = np.ones(fitted.noise_TR.shape[1])
    if simulated:
        # Simulated noise has its own uncertainty drawn in, which t allows for already; and it was estimated from the
        # residuals of Huber's fit, which are larger than those of least squares by what its variance is.
        larger = np.sqrt(1 + n_params * (excess_variance(delta / fitted.noise_T[task]) - 1) / dof)
        shrink_R = fitted.noise_T[task] / fitted.noise_TR[task] / larger
    t = stats.t.ppf((1 + level) / 2, dof)

    def interval(value_R: np.ndarray, log: bool) -> np.ndarray:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value_R = np.log(value_R) if log else np.asarray(value_R)
            off_R = (value_R[1:] - value_R[0]) * shrink_R.reshape(-1, *[1] * (value_R.ndim - 1))
            ends = value_R[0] + t * np.std(off_R, axis=0) * np.array([-1, 1]).reshape(2, *[1] * (value_R.ndim - 1))
            return np.nan_to_num(np.exp(ends) if log else ends, nan=np.inf)

    return interval


FINITE = np.finfo(float).min, np.finfo(float).max


def excess_variance(c: float) -> float:
    """Variance of Huber's estimate over that of least squares, of normal noise, with a threshold of c standard
    deviations (Huber 1964): pi / 2 for c -> 0, least absolute deviations."""
    inside, density = 2 * stats.norm.cdf(c) - 1, stats.norm.pdf(c)
    return float((inside - 2 * c * density + 2 * c**2 * stats.norm.sf(c)) / inside**2) if c > 1e-6 else np.pi / 2


def percentile(fitted: bootstrap.Fit, task: int, level: float = LEVEL) -> dict[str, tuple[float, float]]:
    """{name of parameter: (lo, hi)} between which the resamples' middle `level` lie."""
    ends = {name: bootstrap.interval(draws, level) for name, draws in fitted.resampled(task).items()}
    return {name: (float(lo), float(hi)) for name, (lo, hi) in ends.items()}


def is_scale(law: Law, name: str) -> bool:
    """Whether a parameter has a unit other than the fitted quantity's: it is positive, and spans decades."""
    [unit] = [param.unit for param in law.params if param.name == name]
    return unit not in ("1", "y")
