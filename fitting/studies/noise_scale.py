"""The gradient noise scale beside the critical batch size of a sweep, at the same losses.

It depends on the parameters, and so on the loss, not on the batch that it is measured with; the largest batch measures
it with the least noise (McCandlish et al. 2018, appendix A.1).
"""

from itertools import pairwise

import numpy as np

from fitting.loss_laws.noise_scale import LEAST_STEPS, VARIANCE, measurements, ratio_of_means
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

NOTE = "Measured in the runs of the largest batch that measured it, on the steps that are nearest to each loss."


def at_losses(table: Table, loss_L: np.ndarray) -> np.ndarray:
    """[L, 3]: noise scale in tokens, its standard error, and measured steps near each falling loss; nan where it is not
    determined. [0, 3] where no run measured it."""
    measured = table.select(metric=VARIANCE)
    if not len(measured):
        return np.empty((0, 3))
    runs = measured.select(batch_tokens=measured["batch_tokens"].max()).unique("run")
    by_run = [(*_losses(table, run), *measurements(table, [run])) for run in runs]
    middles = np.sqrt(loss_L[1:] * loss_L[:-1])
    edges = np.concatenate([[loss_L[0] ** 2 / middles[0]], middles, [loss_L[-1] ** 2 / middles[-1]]])
    return np.array([_between(by_run, high, low) for high, low in pairwise(edges)])


def _losses(table: Table, run: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, the lowest loss so far) of a run's evaluations."""
    curve = table.select(task=TASK, metric=METRIC, run=run)
    order = np.argsort(curve["step"])
    return curve["step"][order], np.minimum.accumulate(curve["value"][order])


def _between(by_run, high: float, low: float) -> tuple[float, float, int]:
    pairs = []
    for curve_steps, curve, steps, values in by_run:
        if len(curve) and len(steps):
            loss = np.interp(steps, curve_steps, curve, left=np.inf, right=np.nan)
            pairs.append(values[(loss < high) & (loss >= low)])
    pooled = np.concatenate([*pairs, np.empty((0, 2))])
    if len(pooled) < LEAST_STEPS:
        return np.nan, np.nan, len(pooled)
    return *ratio_of_means(*pooled.T)[:2], len(pooled)


def grids(table: Table, loss_L: np.ndarray, critical_L: np.ndarray) -> tuple[Grid, ...]:
    """The table of the page, or nothing where no run measured it. critical_L: B_crit of the sweep, in tokens."""
    rows = []
    for loss, critical, (tokens, stderr, n) in zip(loss_L, critical_L, at_losses(table, loss_L), strict=False):
        ratio = f"{tokens / critical:.2f}" if np.isfinite(tokens / critical) else ""
        shown = [_shown(value) for value in (tokens, stderr, critical)]
        rows.append([f"{loss:.4f}", *shown, ratio, f"{n:.0f}"])
    head = ["#loss", "#noise scale, tokens", "#standard error", "#B_crit, tokens", "#ratio", "#measured steps"]
    return (Grid("The gradient noise scale beside the sweep", head, rows, [NOTE]),) if rows else ()


def _shown(value: float) -> str:
    return si(value) if np.isfinite(value) else "not determined"
