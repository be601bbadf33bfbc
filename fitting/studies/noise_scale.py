"""The gradient noise scale beside the critical batch size of a sweep, at the same losses.

It depends on the parameters, and so on the loss, not on the batch that it is measured with; the largest batch measures
it with the least noise (McCandlish et al. 2018, appendix A.1).
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from fitting.errors import InputError
from fitting.loss_laws.noise_scale import LEAST_STEPS, VARIANCE, measurements, ratio_of_means
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.studies.regression import student
from fitting.studies.results import Claim, Statement
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

# The papers say "roughly predicted" and draw it on logarithmic axes; a factor of two is our limit for that.
FACTOR, LEAST_LOSSES = 2.0, 3
PREDICTS = Claim(
    "The gradient noise scale roughly predicts the critical batch size at the same loss (here: within a factor of 2)",
    "Kaplan et al. 2020, figure 10; McCandlish et al. 2018",
    "ratio about 1",
    "{:.2g}",
)
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


def grids(noise_L3: np.ndarray, loss_L: np.ndarray, critical_L: np.ndarray) -> tuple[Grid, ...]:
    """The table of the page, or nothing where no run measured it. noise_L3: of `at_losses`. critical_L: B_crit of the
    sweep, in tokens."""
    rows = []
    for loss, critical, (tokens, stderr, n) in zip(loss_L, critical_L, noise_L3, strict=False):
        ratio = f"{tokens / critical:.2f}" if np.isfinite(tokens / critical) else ""
        shown = [_shown(value) for value in (tokens, stderr, critical)]
        rows.append([f"{loss:.4f}", *shown, ratio, f"{n:.0f}"])
    head = ["#loss", "#noise scale, tokens", "#standard error", "#B_crit, tokens", "#ratio", "#measured steps"]
    return (Grid("The gradient noise scale beside the sweep", head, rows, [NOTE]),) if rows else ()


def compared(claim: Claim, swept, noise_L3: np.ndarray) -> Statement:
    """The noise scale over B_crit of the sweep, averaged over the losses where both are determined (geometric mean).

    swept: batch.Sweep. noise_L3: of `at_losses` at its losses. The interval has the standard errors of the noise scale
    and the jackknife of the sweep over its batch sizes, with Student's t of the latter. Raises InputError where too few
    losses have both.
    """
    if not len(noise_L3):
        raise InputError("no run measured the noise scale; train with optimizer.noise_scale_every")
    both = np.isfinite(noise_L3[:, 0] / swept.critical()[:, 1])
    if both.sum() < LEAST_LOSSES:
        raise InputError(f"noise scale and B_crit are both determined at {both.sum()} losses; it takes {LEAST_LOSSES}")
    tokens_l, stderr_l = noise_L3[both, :2].T
    ratio = np.log(tokens_l).mean() - np.log(swept.critical()[both, 1]).mean()
    deviation_B = swept.deviations(lambda sweep: np.log(sweep.critical()[both, 1]).mean())
    # The measured steps near two losses are different ones, so the errors of the noise scale are independent.
    error = np.sqrt(np.sum(deviation_B**2) + np.sum((stderr_l / tokens_l) ** 2) / both.sum() ** 2)
    half = student(swept.dof) * error
    statement = claim.within(FACTOR, float(np.exp(ratio)), (float(np.exp(ratio - half)), float(np.exp(ratio + half))))
    return (
        replace(statement, why=f"{in_words(float(np.exp(ratio)))}; {statement.why}") if statement.value else statement
    )


def in_words(ratio: float) -> str:
    """A sentence: by what factor the noise scale lies above or below B_crit."""
    factor, where = max(ratio, 1 / ratio), "above" if ratio > 1 else "below"
    return f"the noise scale lies a factor of {factor:.2g} {where} the sweep's B_crit, on average over losses"


def _shown(value: float) -> str:
    return si(value) if np.isfinite(value) else "not determined"
