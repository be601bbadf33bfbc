"""Compute-optimal N by the envelope of learning curves: approach 1 of Hoffmann et al. 2022."""

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.loss_laws.allocation import Frontier, minima_rows
from fitting.tables.loss_points import LossPoints

N_BUDGETS = 1500  # as published


def envelope(curves: LossPoints, n_resamples: int, seed: int) -> Frontier:
    """A line through the sizes of the best runs at 1,500 budgets; curves: points of learning curves, grouped by run.

    A budget is left out where the best run has the smallest or the largest size that reaches it. Whole runs are
    resampled. Raises InputError where no line can be drawn.
    """
    runs, run_n = np.unique(curves.groups_n, return_inverse=True)
    log_c_n, log_n_n = np.log(curves.features["C"]), np.log(curves.features["N"])
    log_c_m = np.linspace(log_c_n.min(), log_c_n.max(), N_BUDGETS)
    loss_Km, log_n_K = np.full((len(runs), N_BUDGETS), np.inf), np.empty(len(runs))
    for k in range(len(runs)):
        rows = np.flatnonzero(run_n == k)
        rows = rows[np.argsort(log_c_n[rows])]
        log_n_K[k] = log_n_n[rows[0]]
        loss_Km[k] = np.interp(log_c_m, log_c_n[rows], curves.y_n[rows], left=np.inf, right=np.inf)
    fit = _line_through_best(loss_Km, log_n_K, log_c_m)
    if fit is None:
        raise InputError(
            f"{curves.source}: no interior minimum: the best run is always of the smallest or the largest size; the"
            " envelope needs learning curves of three sizes that cross"
        )
    weights_RK = bootstrap.resample_weights(runs, n_resamples, seed)
    lines = [_line_through_best(loss_Km[w > 0], log_n_K[w > 0], log_c_m) for w in weights_RK]
    lines = [fit, *(line for line in lines if line is not None)]
    n_left_out = n_resamples + 1 - len(lines)
    notes = (f"{n_left_out} of {n_resamples} resamples without a minimum are left out",) if n_left_out else ()
    notes += curves.flags
    k_R, a_R = np.array([line[:2] for line in lines]).T
    shown = fit[2][:: max(len(fit[2]) // 100, 1)]  # about 100 of the budgets used
    best = loss_Km[:, shown].argmin(axis=0)
    minima = minima_rows(np.transpose([np.exp(log_c_m[shown]), np.exp(log_n_K[best]), loss_Km[best, shown]]))
    largest = float(curves.features["C"].max())
    return Frontier("1: envelope", curves.source, k_R, a_R, largest, minima=minima, notes=notes)


def _line_through_best(loss_Km, log_n_K, log_c_m):
    """(k, a, indices of the budgets used) of the line through the best runs' sizes; None where there is none.

    loss_Km: inf where the curve of a run does not reach a budget.
    """
    reaches_Km = np.isfinite(loss_Km)
    log_n_m = log_n_K[loss_Km.argmin(axis=0)]
    smallest = np.where(reaches_Km, log_n_K[:, None], np.inf).min(axis=0)
    largest = np.where(reaches_Km, log_n_K[:, None], -np.inf).max(axis=0)
    used = np.flatnonzero((log_n_m > smallest + 1e-9) & (log_n_m < largest - 1e-9))
    if len(np.unique(log_n_m[used])) < 2:
        return None
    a, k = np.polyfit(log_c_m[used], log_n_m[used], 1)
    return k, a, used
