"""Critical batch size: steps and tokens to reach a loss against the batch size, and B_crit as a power of the loss.

McCandlish et al. 2018, section 2; Kaplan et al. 2020, section 5.1: (S / S_min - 1) (E / E_min - 1) = 1, where E = B S.
With B_crit = E_min / S_min that is S = S_min (1 + B_crit / B). The noise of a run is the same in all the losses that it
reaches, so intervals are made by leaving out one batch size at a time (jackknife).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.laws.published import PUBLISHED
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.report.style import INK, MUTED, SIZES, TARGET, few_ticks, new_figure
from fitting.studies import critical_batch, noise_scale, regression
from fitting.studies.critical_batch import CriticalBatch
from fitting.studies.ends import groups, need
from fitting.studies.results import Claim, Statement, Study, corpora
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

LEAST_BATCHES, N_LOSSES = 4, 8
HIGHEST = 1.35  # of the lowest loss that all batch sizes reach
# B_crit is searched between the smallest batch over FAR and the largest times FAR; nearer than EDGE to an end it is not
# determined.
FAR, GRID, EDGE = 30.0, 800, 1.05
PUBLISHED_ALPHA = PUBLISHED["kaplan", "kaplan-bcrit"].params["alpha_B"]
EXPONENT = Claim(
    "The critical batch size grows as L^(-1/alpha_B) while the loss falls",
    "Kaplan et al. 2020, equation 5.3",
    "0.21",
)
LIMITS = (
    "B_crit is that of AdamW with the rates tried here. With a rate tuned finely for every batch size, steps would be"
    " fewer where the grid missed the best one.",
    "One size was trained: whether B_crit depends on the size only through the loss is not tested.",
    "B* is in tokens of your tokenizer at a loss in bits per byte; only the exponent compares with the published one.",
)
CAPTION = (
    "Left: steps against tokens to reach each loss; a point is a batch size with its best rate, a line the fitted"
    " hyperbola (McCandlish et al. 2018, figure 1). Right: the critical batch size against the loss, with 95 %"
    " intervals and its power law, and the gradient noise scale of the largest batch (Kaplan et al. 2020, figure 10)."
)


@dataclass(frozen=True)
class Sweep:
    """steps_LB: to reach loss_L with batch_B tokens, at the best rate; nan where it is not reached."""

    loss_L: np.ndarray
    batch_B: np.ndarray
    steps_LB: np.ndarray

    def critical(self) -> np.ndarray:
        """[L, 2]: S_min in steps and B_crit in tokens for each loss; nan where it is not determined."""
        return np.array([critical(self.batch_B, steps_B) for steps_B in self.steps_LB])

    def exponent(self) -> float:
        """1 / alpha_B: how fast ln B_crit rises while ln L falls; nan for fewer than three losses with a B_crit."""
        return float(self.law()[1])

    def law(self, at: float = 1.0) -> np.ndarray:
        """[2]: ln B_crit at the loss `at`, and 1 / alpha_B, by a straight line through ln B_crit against ln L."""
        b_crit_L = self.critical()[:, 1]
        known = np.isfinite(b_crit_L)
        if known.sum() < 3:
            return np.full(2, np.nan)
        slope, level = np.polyfit(np.log(self.loss_L[known] / at), np.log(b_crit_L[known]), 1)
        return np.array([level, -slope])

    def jackknife(self, quantity: Callable[["Sweep"], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(lo, hi) of a quantity: 95 % intervals with Student's t, from the sweeps without one batch size each."""
        deviation = self.deviations(quantity)
        half = regression.student(self.dof) * np.sqrt(np.sum(deviation**2, axis=0))
        return quantity(self) - half, quantity(self) + half

    def deviations(self, quantity: Callable[["Sweep"], np.ndarray]) -> np.ndarray:
        """[B, ...]: the jackknife's deviations of a quantity, one for each batch size that is left out."""
        keep = ~np.eye(len(self.batch_B), dtype=bool)
        left_out = np.array([quantity(Sweep(self.loss_L, self.batch_B[k], self.steps_LB[:, k])) for k in keep])
        return regression.jackknife(left_out)

    @property
    def dof(self) -> int:
        return len(self.batch_B) - 2

    def measured(self, corpora: Sequence[str]) -> CriticalBatch | None:
        """The power law B_crit(L) with its covariance; None if the sweep has too few losses to fit it."""
        centre = float(np.exp(np.log(self.loss_L).mean()))
        law, deviation_B2 = self.law(centre), self.deviations(lambda swept: swept.law(centre))
        if not np.isfinite([*law, *deviation_B2.ravel()]).all():
            return None
        cov = tuple(map(tuple, (deviation_B2.T @ deviation_B2).tolist()))
        ends_ = float(self.loss_L[0]), float(self.loss_L[-1])
        return CriticalBatch(centre, *map(float, law), cov, self.dof, ends_, tuple(corpora))


def critical(batch_B: np.ndarray, steps_B: np.ndarray) -> tuple[float, float]:
    """(S_min, B_crit) of S = S_min (1 + B_crit / B) by least squares of ln S; nan where they are not determined."""
    known = np.isfinite(steps_B)
    if known.sum() < LEAST_BATCHES - 1:
        return np.nan, np.nan
    batch_B, log_steps_B = batch_B[known], np.log(steps_B[known])
    grid_G = np.geomspace(batch_B.min() / FAR, batch_B.max() * FAR, GRID)
    left_GB = log_steps_B - np.log1p(grid_G[:, None] / batch_B)
    objective_G = left_GB.var(axis=1)
    best = int(np.argmin(objective_G))
    if not grid_G[0] * EDGE < grid_G[best] < grid_G[-1] / EDGE:
        return np.nan, np.nan
    return float(np.exp(left_GB[best].mean())), float(grid_G[best])


def analyse(table: Table) -> Study:
    """Learning curves of one size at several batch sizes. Raises InputError where fewer than four are there."""
    need(table, "batch_tokens", "peak_lr")
    swept = sweep(table)
    fits = swept.critical()
    statement = EXPONENT.tried(lambda claim: _exponent(claim, swept))
    lo, hi = swept.jackknife(lambda s: np.log(s.critical()[:, 1]))
    law, noise_L3 = swept.measured(corpora(table)), noise_scale.at_losses(table, swept.loss_L)
    predicts = noise_scale.PREDICTS.tried(lambda claim: noise_scale.compared(claim, swept, noise_L3))
    return Study(
        title="Critical batch size: how many steps and tokens does a loss take at each batch size?",
        lead=(
            f"{len(swept.batch_B)} batch sizes, {si(swept.batch_B.min())} to {si(swept.batch_B.max())} tokens, to"
            f" {len(swept.loss_L)} losses. At the lowest, {swept.loss_L[-1]:.3f} bits per byte, the critical batch size"
            f" is {_tokens(fits[-1, 1])} tokens."
        ),
        statements=(statement, predicts),
        tables=(
            _table(swept, fits, np.exp(lo), np.exp(hi)),
            *noise_scale.grids(noise_L3, swept.loss_L, fits[:, 1]),
        ),
        figures=((CAPTION, _figure(swept, fits, np.exp(lo), np.exp(hi), noise_L3)),),
        limits=LIMITS,
        measured={} if law is None else {critical_batch.KEY: law.json()},
    )


def _exponent(claim: Claim, swept: Sweep) -> Statement:
    value = swept.exponent()
    lo, hi = swept.jackknife(Sweep.exponent)
    if not np.isfinite([value, lo, hi]).all():
        raise InputError("the steps do not determine B_crit at three losses; add larger or smaller batches")
    if lo <= 0:
        return claim.unknown(f"1/alpha_B is {value:.2g}, {lo:.2g} to {hi:.2g}: whether B_crit grows is not determined")
    return claim.equals(PUBLISHED_ALPHA, 1 / value, (1 / hi, 1 / lo))


def sweep(table: Table) -> Sweep:
    """The fewest steps over the rates of each batch size, to losses that all batch sizes reach."""
    curves = table.select(task=TASK, metric=METRIC, split="train")
    sizes = curves.unique("n_params")
    if len(sizes) != 1:
        raise InputError(f"{table.source}: runs of {len(sizes)} sizes; this study compares batch sizes of one")
    by_batch: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {}
    for (_, batch), i in groups(curves, "run", "batch_tokens").items():
        i = i[np.argsort(curves["step"][i])]
        if len(i) > 1:
            lowest = np.minimum.accumulate(curves["value"][i])
            by_batch.setdefault(batch, []).append((curves["step"][i], lowest))
    if len(by_batch) < LEAST_BATCHES:
        raise InputError(f"{table.source}: curves of {len(by_batch)} batch sizes; the fit needs {LEAST_BATCHES}")
    batch_B = np.array(sorted(by_batch))
    lowest = max(min(loss[-1] for _, loss in by_batch[b]) for b in batch_B)
    highest = min(HIGHEST * lowest, min(max(loss[0] for _, loss in by_batch[b]) for b in batch_B) * 0.999)
    if highest <= lowest * 1.01:
        raise InputError(
            f"{table.source}: no loss that all batch sizes reach after their first evaluation; train longer"
        )
    loss_L = np.geomspace(highest, lowest * 1.001, N_LOSSES)
    steps_LB = np.array([[min(_steps(curve, loss) for curve in by_batch[b]) for b in batch_B] for loss in loss_L])
    return Sweep(loss_L, batch_B, np.where(np.isfinite(steps_LB), steps_LB, np.nan))


def _steps(curve: tuple[np.ndarray, np.ndarray], loss: float) -> float:
    """Steps after which a falling curve crosses a loss, interpolated in ln S; inf where it never does."""
    step, value = curve
    below = np.flatnonzero(value <= loss)
    if not below.size or below[0] == 0:
        return np.inf
    pair = [below[0], below[0] - 1]
    return float(np.exp(np.interp(loss, value[pair], np.log(step[pair]))))


def _tokens(value: float) -> str:
    return si(value) if np.isfinite(value) else "not determined"


def _table(swept: Sweep, fits: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> Grid:
    body = []
    for loss, steps, (s_min, b_crit), low, high in zip(swept.loss_L, swept.steps_LB, fits, lo, hi, strict=True):
        misfit = np.nanstd(np.log(steps) - np.log(s_min * (1 + b_crit / swept.batch_B)))
        shown = [_tokens(value) for value in (s_min, s_min * b_crit, b_crit)]
        ends = f"{_tokens(low)} to {_tokens(high)}"
        body.append([f"{loss:.4f}", *shown, ends, f"{100 * misfit:.1f}", *map(_tokens, steps)])
    head = ["#loss", "#S_min, steps", "#E_min, tokens", "#B_crit, tokens", "#95 % interval", "#misfit of steps, %"]
    return Grid("Each loss: fewest steps and tokens", [*head, *(f"#steps at {si(b)}" for b in swept.batch_B)], body)


def _figure(swept: Sweep, fits: np.ndarray, lo: np.ndarray, hi: np.ndarray, noise_L3: np.ndarray):
    with new_figure(9.6, 4.0) as figure:
        left, right = figure.subplots(1, 2)
        batch_m = np.geomspace(swept.batch_B.min(), swept.batch_B.max(), 80)
        for i, (loss, steps, (s_min, b_crit)) in enumerate(zip(swept.loss_L, swept.steps_LB, fits, strict=True)):
            colour = SIZES(i / max(len(swept.loss_L) - 1, 1))
            left.plot(steps * swept.batch_B, steps, "o", color=colour, ms=4, label=f"{loss:.2f}")
            steps_m = s_min * (1 + b_crit / batch_m)
            left.plot(steps_m * batch_m, steps_m, color=colour, lw=1)
        left.set(xscale="log", yscale="log", xlabel="tokens E = B S", ylabel="steps S")
        left.legend(title="loss", fontsize=7)
        known = np.isfinite(fits[:, 1]) & np.isfinite(lo) & np.isfinite(hi)
        value, ends = fits[known, 1], np.array([fits[known, 1] - lo[known], hi[known] - fits[known, 1]])
        right.errorbar(swept.loss_L[known], value, np.abs(ends), fmt="o", color=SIZES(0.6), ms=5, capsize=3)
        if known.sum() >= 3:
            slope, level = np.polyfit(np.log(swept.loss_L[known]), np.log(value), 1)
            loss_m = np.geomspace(swept.loss_L.min(), swept.loss_L.max(), 40)
            right.plot(loss_m, np.exp(level + slope * np.log(loss_m)), color=TARGET, label=f"B* / L^{-slope:.2f}")
            at_lowest = value[-1] * (swept.loss_L[known][-1] / loss_m) ** (1 / PUBLISHED_ALPHA)
            right.plot(
                loss_m, at_lowest, color=MUTED, ls=":", label=f"published exponent, L^{-1 / PUBLISHED_ALPHA:.2f}"
            )
        measured = np.isfinite(noise_L3[:, 0]) if len(noise_L3) else np.zeros(len(swept.loss_L), bool)
        if measured.any():
            tokens, error = noise_L3[measured, :2].T
            right.errorbar(
                swept.loss_L[measured], tokens, 1.96 * error, fmt="s", mfc="white", color=INK, ms=4, label="noise scale"
            )
        if right.get_legend_handles_labels()[0]:
            right.legend()
        right.set(xscale="log", yscale="log", xlabel="loss, bits per byte", ylabel="critical batch size, tokens")
        right.xaxis.set_major_formatter("{x:.3g}")
        right.xaxis.set_minor_formatter("{x:.2g}")
        for axis in (left.xaxis, left.yaxis, right.yaxis):
            few_ticks(axis)
    return figure
