"""Compute-optimal N by IsoFLOP parabolas: approach 2 of Hoffmann et al. 2022."""

from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError, check_positive, check_resamples, check_seed
from fitting.loss_laws.allocation import Frontier, minima_rows, of_law
from fitting.loss_laws.loss_fit import LossFit
from fitting.tables.loss_points import LossPoints

MIN_SIZES, MIN_BUDGETS = 4, 2
# Points belong to one budget if their ln C lies within this of the named budget, or of the next point's.
SAME_BUDGET = 0.1
MIN_SHARE = 0.5  # of the resamples must have minima


def isoflop(points: LossPoints, n_resamples: int, seed: int, budgets: tuple[float, ...] = ()) -> Frontier:
    """A line through the minima of parabolas in ln N, one through the losses of each budget; residuals are resampled.

    budgets: FLOPs; points within 10 % of one belong to it. Without them, points close to each other in C form a budget.
    A budget is left out where its parabola has no minimum between its sizes. Raises InputError where fewer than two are
    left. Parabolas are biased where sizes lie far from the minimum or unevenly around it (arXiv 2603.22339): see
    `isoflop_bias`.
    """
    check_positive("isoflop", *budgets)
    check_resamples(n_resamples)
    check_seed(seed)
    log_c, log_n, y_n = np.log(points.features["C"]), np.log(points.features["N"]), points.y_n
    parabolas, notes = [], []
    for rows in _budgets(log_c, np.log(budgets)):
        parabola = _parabola(log_c[rows], log_n[rows], y_n[rows])
        if isinstance(parabola, str):
            notes.append(f"{np.exp(np.mean(log_c[rows])) if len(rows) else 0:.3g} FLOPs: {parabola}")
        else:
            parabolas.append(parabola)
    if len(parabolas) < MIN_BUDGETS:
        raise InputError(
            f"{points.source}: {len(parabolas)} budgets with a minimum between their sizes; the IsoFLOP approach needs"
            f" {MIN_BUDGETS} ({'; '.join(notes) or 'none was refused'})"
        )
    dof, rng = sum(max(len(p.y_n) - 3, 1) for p in parabolas), np.random.default_rng(seed)
    noise = np.sqrt(sum(float(np.sum((p.y_n - p.basis @ p.q) ** 2)) for p in parabolas) / dof)
    noise_R = np.append(0.0, noise * np.sqrt(dof / rng.chisquare(dof, n_resamples)))
    minima_RK = np.column_stack([p.resampled(noise_R, rng) for p in parabolas])
    minima = [(np.exp(p.log_c), np.exp(p.center + p.vertex), p.least) for p in parabolas]
    notes += points.flags
    frontier = _line_through(minima_RK, np.array([p.log_c for p in parabolas]), points, minima, notes)
    return replace(frontier, parabolas=tuple(parabolas))


def isoflop_bias(points: LossPoints, fitted: LossFit, budgets: tuple[float, ...] = ()) -> tuple[float, float]:
    """Bias of approach 2 on losses of the fitted law without noise, at the N and C of the points.

    -> (bias of the exponent a, bias of ln N_opt at the compute of the largest run).
    """
    noiseless = replace(points, y_n=fitted.values(points.features)[0])
    parabolas, law = isoflop(noiseless, 2, 0, budgets), of_law(fitted)
    n_by_parabolas, n_by_law = (frontier.n([law.largest])[0, 0] for frontier in (parabolas, law))
    return float(parabolas.a_R[0] - law.a_R[0]), float(np.log(n_by_parabolas / n_by_law))


@dataclass(frozen=True)
class Parabola:
    """loss = q0 + q1 x + q2 x^2, x = ln N - center. basis: [n, 3], columns 1, x, x^2. y_n: losses it was fitted to."""

    log_c: float
    center: float
    basis: np.ndarray
    q: np.ndarray
    y_n: np.ndarray

    @property
    def vertex(self) -> float:
        """x of the minimum."""
        return -self.q[1] / (2 * self.q[2])

    @property
    def least(self) -> float:
        """Loss at the minimum."""
        return self.q[0] + self.q[1] * self.vertex / 2

    def resampled(self, noise_R: np.ndarray, rng) -> np.ndarray:
        """[R]: ln N of the minimum with noise added to the losses; nan where there is none between the sizes."""
        shift_Rn = noise_R[:, None] * rng.standard_normal((len(noise_R), len(self.basis)))
        q_R3 = self.q + shift_Rn @ np.linalg.pinv(self.basis).T
        x_R = -q_R3[:, 1] / (2 * q_R3[:, 2])
        inside = (q_R3[:, 2] > 0) & (x_R > self.basis[:, 1].min()) & (x_R < self.basis[:, 1].max())
        return np.where(inside, self.center + x_R, np.nan)


def _budgets(log_c: np.ndarray, named: np.ndarray) -> list[np.ndarray]:
    """Indices of the points of each budget: near the named ones, or split where neighbours in C lie apart."""
    if len(named):
        return [np.flatnonzero(np.abs(log_c - c) < SAME_BUDGET) for c in named]
    order = np.argsort(log_c)
    return np.split(order, np.flatnonzero(np.diff(log_c[order]) > SAME_BUDGET) + 1)


def _parabola(log_c, log_n, y) -> Parabola | str:
    """A budget's parabola, or why it has no minimum."""
    sizes = len(np.unique(np.round(log_n, 2)))
    if sizes < MIN_SIZES:
        return f"{sizes} sizes; a parabola needs {MIN_SIZES}"
    center = float(np.mean(log_n))
    x = log_n - center
    basis = np.column_stack([np.ones_like(x), x, x**2])
    q, *_ = np.linalg.lstsq(basis, y, rcond=None)
    parabola = Parabola(float(np.mean(log_c)), center, basis, q, y)
    if q[2] <= 0:
        return "no interior minimum: the parabola opens downwards"
    if not x.min() < parabola.vertex < x.max():
        lo, hi, vertex = np.exp(center + np.array([x.min(), x.max(), parabola.vertex]))
        word = "larger" if parabola.vertex > 0 else "smaller"
        return f"no interior minimum: it would be at {vertex:.3g} parameters, not in {lo:.3g} to {hi:.3g}; train {word}"
    return parabola


def _line_through(log_n_RK, log_c_K, points: LossPoints, minima, notes) -> Frontier:
    """A line through each resample's minima; resamples with fewer than two are left out and counted."""
    has_RK = np.isfinite(log_n_RK)
    use = has_RK.sum(axis=1) >= MIN_BUDGETS
    left_out = np.sum(~use)
    if left_out > (1 - MIN_SHARE) * len(use):
        raise InputError(f"{points.source}: {left_out} of {len(use) - 1} resamples have no minimum between the sizes")
    if left_out:
        notes = [*notes, f"{left_out} of {len(use) - 1} resamples without two minima are left out"]
    has_RK, y_RK = has_RK[use], np.where(has_RK, log_n_RK, 0.0)[use]
    n_R1 = has_RK.sum(axis=1, keepdims=True)
    c_RK = np.where(has_RK, log_c_K - np.sum(has_RK * log_c_K, axis=1, keepdims=True) / n_R1, 0.0)
    a_R = np.sum(c_RK * y_RK, axis=1) / np.sum(c_RK**2, axis=1)
    k_R = (np.sum(y_RK, axis=1) - a_R * np.sum(has_RK * log_c_K, axis=1)) / n_R1[:, 0]
    largest = float(points.features["C"].max())
    return Frontier("2: IsoFLOP", points.source, k_R, a_R, largest, minima=minima_rows(minima), notes=tuple(notes))
