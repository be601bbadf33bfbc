"""95 % confidence intervals of a law's parameters: Wald's, with Student's t.

Estimate +- t * standard error, on a scale on which estimates are nearly normal: the logarithm for scales (N_c, A, ...:
positive, over decades), the parameter itself for exponents and an irreducible loss. The standard error is that of the
resamples; t has the degrees of freedom that the runs leave. `percentile` gives the percentiles of the resamples, which
many papers print; of pairs of few runs they may be too short. tools/coverage.py measures how often either holds the
true value.
"""

from collections.abc import Callable

import numpy as np
from scipy import special

from fitting.inference import bootstrap

LEVEL = 0.95
LARGEST = np.finfo(float).max
# A positive quantity is not determined where the ends of its interval differ by more than this factor.
WIDEST = 1e12
UNDETERMINED = (float("nan"), float("nan"))


def wald(fitted: bootstrap.Fit, task: int, units: int, delta: float, level: float = LEVEL) -> dict[str, tuple]:
    """{name of parameter: (lo, hi)}; UNDETERMINED for a scale that the data do not determine. units: number of groups
    of runs that share no noise. delta: the fit's Huber threshold."""
    interval, natural = student(fitted, task, units, delta, level), fitted.natural(task)
    intervals = {}
    for param in fitted.law.params:
        is_scale = param.role == "scale"
        ends = interval(natural[param.name], is_scale)
        if is_scale and not determined(*ends):
            intervals[param.name] = UNDETERMINED
            continue
        intervals[param.name] = tuple(map(float, np.clip(ends, *np.clip(param.bounds, -LARGEST, LARGEST))))
    return intervals


def determined(lo: float, hi: float) -> bool:
    """Whether an interval of a positive quantity says anything about it."""
    return bool(0 < lo <= hi < LARGEST and hi / lo <= WIDEST)


def student(fitted: bootstrap.Fit, task: int, units: int, delta: float, level: float = LEVEL) -> Callable:
    """Return a function interval(value_R, log, noise=0.0) -> (lo, hi), for any quantity that is computed from a fit.

    value_R: [1 + R, ...]; row 0 is the fit's, the others are the resamples'. log: whether the logarithm of the quantity
    is nearly normal, not the quantity. noise: standard deviation of noise to add (to the logarithm, if log).
    """
    residual_dof = max(units - len(fitted.law.params), 1)
    t = special.stdtrit(fitted.dof_T[task] if fitted.method == "residuals" else residual_dof, (1 + level) / 2)
    shrink_R = noise_correction(fitted, task, delta)

    def interval(value_R: np.ndarray, log: bool, noise: float = 0.0) -> np.ndarray:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value_R = np.log(value_R) if log else np.asarray(value_R)
            shape = [1] * (value_R.ndim - 1)
            sd = np.std((value_R[1:] - value_R[0]) * shrink_R.reshape(-1, *shape), axis=0)
            sd = np.hypot(sd, noise) if noise else sd
            ends = value_R[0] + t * sd * np.array([-1, 1]).reshape(2, *shape)
            return np.nan_to_num(np.exp(ends) if log else ends, nan=np.inf)

    return interval


def noise_correction(fitted: bootstrap.Fit, task: int, delta: float) -> np.ndarray:
    """[R]: factors that each resample's deviation from the fit is multiplied by for standard errors and Wald intervals.

    They remove two parts of the simulated noise: its own uncertainty, which Student's t already allows for; and the
    excess of the residuals of Huber's fit over those of least squares. Without simulated noise they are 1.
    """
    if fitted.method != "residuals" or fitted.noise_T[task] == 0:
        return np.ones(fitted.noise_TR.shape[1])
    excess = excess_variance(delta / fitted.noise_T[task]) - 1
    inflation = np.sqrt(1 + len(fitted.law.params) * excess / fitted.dof_T[task])
    return fitted.noise_T[task] / fitted.noise_TR[task] / inflation


def excess_variance(c: float) -> float:
    """Variance of Huber's estimate divided by that of least squares, for normal noise and a threshold of c standard
    deviations (Huber 1964). For c -> 0, least absolute deviations, it is pi / 2."""
    inside, density = 2 * special.ndtr(c) - 1, np.exp(-(c**2) / 2) / np.sqrt(2 * np.pi)
    return float((inside - 2 * c * density + 2 * c**2 * special.ndtr(-c)) / inside**2) if c > 1e-6 else np.pi / 2


def percentile(fitted: bootstrap.Fit, task: int, level: float = LEVEL) -> dict[str, tuple[float, float]]:
    """{name of parameter: (lo, hi)}: the central interval that holds a share `level` of the resamples."""
    intervals = {name: bootstrap.interval(draws, level) for name, draws in fitted.resampled(task).items()}
    return {name: (float(lo), float(hi)) for name, (lo, hi) in intervals.items()}
