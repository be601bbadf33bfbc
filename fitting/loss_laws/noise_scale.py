"""The simple gradient noise scale of a run, in tokens: tr(Sigma) / |G|^2 (McCandlish et al. 2018, section 2.2).

It is the ratio of two means over many steps, because the estimates of one step are unbiased but noisy. A run with
optimizer.noise_scale_every logs both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.tables.runs_table import Table

TASK, VARIANCE, SQUARED = "train", "grad_variance", "grad_squared"
LEAST_STEPS = 8  # measured steps that a standard error is estimated from
LEAST_RATIO = 2.0  # of the mean of |G|^2 to its standard error; below, the ratio has no useful upper end


@dataclass(frozen=True)
class NoiseScale:
    """B_simple in tokens, nan where the mean of |G|^2 is not above LEAST_RATIO standard errors.

    stderr: of B_simple, for the steps that it was measured at. n: measured steps, the first at step `first`, the last
    at step `last`. autocorrelation: of consecutive measured steps, which stderr accounts for.
    """

    tokens: float
    stderr: float
    n: int
    first: int
    last: int
    autocorrelation: float


def ratio_of_means(variance_n: np.ndarray, squared_n: np.ndarray) -> tuple[float, float, float]:
    """(mean of tr(Sigma) / mean of |G|^2, its standard error, autocorrelation), by the delta method.

    The ratio B deviates by the mean of e = (tr(Sigma) - B |G|^2) / mean |G|^2. With the correlation r > 0 of
    consecutive e, the variance of that mean is larger than that of independent steps by (1 + r) / (1 - r), as of a
    first-order autoregression. It includes a trend within the window.
    """
    mean_variance, mean_squared = variance_n.mean(), squared_n.mean()
    n, squared_error = len(squared_n), squared_n.std(ddof=1) / np.sqrt(len(squared_n))
    if not mean_squared > LEAST_RATIO * squared_error:
        return np.nan, np.nan, np.nan
    b = mean_variance / mean_squared
    e_n = (variance_n - b * squared_n) / mean_squared
    total = np.sum(e_n**2)
    r = float(np.sum(e_n[1:] * e_n[:-1]) / total) if total > 0 else 0.0
    inflation = (1 + max(r, 0.0)) / (1 - max(r, 0.0))
    return float(b), float(np.sqrt(total / (n - 1) / n * inflation)), r


def of_runs(table: Table, runs: Sequence[str], first: float = 0, last: float = np.inf) -> NoiseScale:
    """The noise scale over the measured steps of the runs between two steps, both included.

    Raises InputError where fewer than LEAST_STEPS were measured there.
    """
    steps, values = measurements(table, runs)
    inside = (steps >= first) & (steps <= last)
    steps, values = steps[inside], values[inside]
    if len(steps) < LEAST_STEPS:
        raise InputError(
            f"{table.source}: the noise scale was measured at {len(steps)} steps of {', '.join(runs)}, and"
            f" {LEAST_STEPS} are needed; train with optimizer.noise_scale_every, or with a smaller one"
        )
    b, stderr, r = ratio_of_means(*values.T)
    return NoiseScale(b, stderr, len(steps), int(steps.min()), int(steps.max()), r)


def windows(table: Table, run: str, most: int = 6) -> list[NoiseScale]:
    """The noise scale of a run in windows of equally many measured steps; [] below LEAST_STEPS."""
    steps, _ = measurements(table, [run])
    n = min(most, len(steps) // LEAST_STEPS)
    return [of_runs(table, [run], part[0], part[-1]) for part in np.array_split(steps, n)] if n else []


def measurements(table: Table, runs: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(steps[n], [n, 2]: estimates of tr(Sigma) and |G|^2), run after run, in the order of the steps."""
    rows = table.select(task=TASK, run=list(runs))
    found = [rows.select(metric=metric) for metric in (VARIANCE, SQUARED)]
    by_step = [
        {(run, step): value for run, step, value in zip(r["run"], r["step"], r["value"], strict=True)} for r in found
    ]
    keys = sorted(by_step[0].keys() & by_step[1].keys())
    values = np.array([[metric[key] for metric in by_step] for key in keys]).reshape(-1, 2)
    return np.array([step for _, step in keys], int), values
