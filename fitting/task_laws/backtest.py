"""Backtests: hold out the largest rungs of a ladder, predict them from the others, and use the errors.

Three results, from rungs alone (rows of split "target" are not read):

- weights of the forms of step 1, proportional to 1 / (error on the task x mean error over all tasks), so that the task
  itself and all tasks together count alike;
- one interval scale factor: scaled by it, the 80 % intervals hold 80 % of the held-out rungs;
- a table of errors and coverage. Each holdout is scored with weights and a factor from the other holdouts only.
"""

from dataclasses import dataclass, replace

import numpy as np

from fitting.inference import bootstrap
from fitting.laws.forms import FORMS, Form
from fitting.tables.points import Points, ladder_points
from fitting.tables.runs_table import Table
from fitting.task_laws import accuracy, model_average
from fitting.task_laws.model_average import Average

LEVEL = 0.8
MIN_FIT_RUNS = 6
MIN_HOLDOUTS = 3
# Lengths (tokens per parameter) within this factor are the same multiple.
SAME_LENGTH = 1.2
N_STARTS, N_RESAMPLES, N_DRAWS = 6, 12, 200
# The interval scale factor where there are too few holdouts, and its least value: holdouts are few and share runs, so
# they are weak evidence for a narrow interval.
NO_FACTOR, MIN_FACTOR = 1.0, 0.6
# Half-widths of accuracies are at least this many points.
POINTS_FLOOR = 0.2


@dataclass(frozen=True)
class Holdout:
    """Runs to fit and runs to predict (bool[n]); distance: ln of the compute between the largest of each."""

    name: str
    fit_n: np.ndarray
    test_n: np.ndarray
    distance: float


def holdouts(points: Points) -> tuple[Holdout, ...]:
    """Every way to hold out the large end of the ladder that leaves at least MIN_FIT_RUNS runs of two sizes."""
    n, d = points.features["N"], points.features["D"]
    compute_n = n * d
    size_n, length_n = _levels(n, 1.01), _levels(d / n, SAME_LENGTH)
    largest_n, longest_n = size_n == size_n.max(), length_n == length_n.max()
    two_largest_n, two_longest_n = size_n >= size_n.max() - 1, length_n >= length_n.max() - 1
    share_n = compute_n / compute_n.max()
    splits = {
        "largest size": (~largest_n, largest_n),
        "two largest sizes": (~two_largest_n, two_largest_n),
        "longest": (~longest_n, longest_n),
        "two longest": (~two_longest_n, two_longest_n),
        "largest and longest": (~largest_n & ~longest_n, largest_n & longest_n),
        "largest and two longest": (~largest_n & ~two_longest_n, largest_n & two_longest_n),
        "beyond 1/8 of the compute": (share_n <= 1 / 8, share_n > 1 / 3),
        "beyond 1/20 of the compute": (share_n <= 1 / 20, share_n > 1 / 3),
    }
    return tuple(
        Holdout(name, fit_n, test_n, float(np.log(compute_n[test_n].max() / compute_n[fit_n].max())))
        for name, (fit_n, test_n) in splits.items()
        if fit_n.sum() >= MIN_FIT_RUNS and test_n.any() and len(set(size_n[fit_n])) >= 2
    )


def _levels(values: np.ndarray, same: float) -> np.ndarray:
    """Rank of each value among the distinct ones; values within a factor `same` of the next lower one are the same."""
    order = np.argsort(values)
    is_higher = np.diff(np.log(values[order])) > np.log(same)
    levels = np.empty(len(values), int)
    levels[order] = np.concatenate([[0], np.cumsum(is_higher)])
    return levels


@dataclass(frozen=True)
class Backtest:
    """Held-out errors of H holdouts, F forms, T tasks, n runs (nan where a run is not tested), in ln bpb.

    form_error_HFTn: ln predicted - ln measured of every form. error_HTn: of the average, with weights from the other
    holdouts. half_HTn: (below, above) half-widths of its 80 % interval before scaling. draws_HTRn: R draws of bpb.
    """

    holdouts: tuple[Holdout, ...]
    tasks: tuple[str, ...]
    forms: tuple[Form, ...]
    form_error_HFTn: np.ndarray
    error_HTn: np.ndarray
    half_HTn: tuple[np.ndarray, np.ndarray]
    draws_HTRn: np.ndarray

    def table(self) -> list[dict]:
        """A row for each holdout: errors, coverage of raw and of scaled intervals, widths and interval scores."""
        best_H = np.nanmin(np.nanmean(np.abs(self.form_error_HFTn), axis=(2, 3)), axis=1)
        return [
            _row(h, holdout, self.error_HTn, self.half_HTn) | {"best_form_error": float(best_H[h])}
            for h, holdout in enumerate(self.holdouts)
        ]


def weights(form_error_HFTn: np.ndarray, without: int | None = None) -> np.ndarray:
    """weights_FT from mean absolute errors; equal where there are fewer than MIN_HOLDOUTS holdouts."""
    n_holdouts, n_forms, n_tasks = form_error_HFTn.shape[:3]
    keep = [h for h in range(n_holdouts) if h != without]
    if len(keep) < MIN_HOLDOUTS:
        return equal_weights(n_forms, n_tasks)
    error_FT = np.ma.masked_invalid(np.abs(form_error_HFTn[keep])).mean(axis=3).mean(axis=0).filled(np.nan)
    # A task that no holdout tests has only the errors of the other tasks.
    own_FT = np.nan_to_num(error_FT / error_FT.mean(axis=0), nan=1.0)
    raw_FT = 1 / (own_FT * own_FT.mean(axis=1, keepdims=True))
    return raw_FT / raw_FT.sum(axis=0)


def scale_factor(error_HXn: np.ndarray, half_HXn, without: int | None = None) -> float:
    """The interval scale factor, from all holdouts but one.

    It is the 80 % quantile (or a little more) of |error| / half-width, with the half-width on the side of the error.
    Every holdout has the same weight.
    """
    keep = [h for h in range(len(error_HXn)) if h != without]
    if len(keep) < MIN_HOLDOUTS:
        return NO_FACTOR
    below, above = half_HXn
    # An error above 0 is a prediction that was too high: the measurement lies below it.
    ratio = np.abs(error_HXn) / np.where(error_HXn > 0, below, above)
    tested = [ratio[h][~np.isnan(ratio[h])] for h in keep]
    weights_k = np.concatenate([np.full(len(ratios), 1 / len(ratios)) for ratios in tested])
    ratio_k = np.concatenate(tested)
    order = np.argsort(ratio_k)
    # Not np.quantile(weights=...): it divides by another sum, and the level often equals a step of this function.
    share_k = np.cumsum(weights_k[order]) / weights_k.sum()
    # Of m errors of independent tasks and holdouts the interval must hold ceil(0.8 (m + 1)): the finite-sample rule of
    # conformal prediction. It keeps a short ladder from shrinking its intervals on little evidence.
    m = len(keep) * error_HXn.shape[1]
    level = min(np.ceil(LEVEL * (m + 1)) / m, 1.0)
    return max(float(ratio_k[order][min(np.searchsorted(share_k, level), len(ratio_k) - 1)]), MIN_FACTOR)


@dataclass(frozen=True)
class Report:
    """What a prediction uses of the backtests.

    factor_bpb, factor_acc: interval scale factors. acc_rows: of accuracies in points, a row for each holdout. why: what
    was held out, in words.
    """

    bpb: Backtest
    weights_FT: np.ndarray
    factor_bpb: float
    factor_acc: float
    acc_rows: list[dict]
    why: str


def equal_weights(n_forms: int, n_tasks: int) -> np.ndarray:
    return np.full((n_forms, n_tasks), 1 / n_forms)


def report(table: Table, points: Points, step2: dict, n_convention: str, seed: int = 0) -> Report | None:
    """Backtests of both steps on the rungs of a table; None where no holdout is possible.

    step2: the tasks' AccuracyFits; those above chance are scored through the chain, (N, D) -> bpb -> accuracy.
    """
    tested = run(points, seed, model_average.forms_for(points))
    if tested is None:
        return None
    acc_rows, factor_acc = _accuracy(tested, table, points, step2, n_convention, seed)
    why = f"{len(tested.holdouts)} holdouts of {len(points.runs)} runs: {', '.join(h.name for h in tested.holdouts)}"
    factor_bpb = scale_factor(tested.error_HTn, tested.half_HTn)
    return Report(tested, weights(tested.form_error_HFTn), factor_bpb, factor_acc, acc_rows, why)


def run(points: Points, seed: int = 0, forms: tuple[Form, ...] = FORMS) -> Backtest | None:
    """Fit every form to every holdout and predict what was held out; None where no holdout is possible."""
    has_Tn = ~np.isnan(points.bpb_Tn)
    kept = tuple(h for h in holdouts(points) if (has_Tn & h.fit_n).sum(axis=1).min() >= MIN_FIT_RUNS)
    if not kept:
        return None
    n_tasks = len(points.tasks)
    use_Xn = np.concatenate([has_Tn & holdout.fit_n for holdout in kept])  # X = H * T
    fitted = model_average.fit_forms(points, use_Xn, seed, N_RESAMPLES, N_STARTS, forms)
    every = Average(forms, np.full((len(forms), len(use_Xn)), 1 / len(forms)), fitted)
    log_FXn = np.log(every.form_predictions(points.features)[:, :, 0])
    log_HFTn = log_FXn.reshape(len(forms), len(kept), n_tasks, -1).swapaxes(0, 1)
    tested_HTn = np.stack([np.where(has_Tn & holdout.test_n, np.log(points.bpb_Tn), np.nan) for holdout in kept])
    form_error_HFTn = log_HFTn - tested_HTn[:, None]
    nested_HFT = np.stack([weights(form_error_HFTn, h) for h in range(len(kept))])
    error_HTn = np.einsum("hft,hftn->htn", nested_HFT, log_HFTn) - tested_HTn
    mixed = Average(forms, nested_HFT.swapaxes(0, 1).reshape(len(forms), -1), fitted)
    log_draws_HTRn = np.log(mixed.draws(points.features, N_DRAWS, seed)).reshape(len(kept), n_tasks, N_DRAWS, -1)
    half = _half_widths(error_HTn + tested_HTn, log_draws_HTRn, model_average.NOISE_FLOOR)
    return Backtest(kept, points.tasks, forms, form_error_HFTn, error_HTn, half, np.exp(log_draws_HTRn))


def _half_widths(center_HXn, draws_HXRn, floor: float):
    """(below, above): distances from the predictions to the ends of their intervals."""
    lo, hi = bootstrap.interval(draws_HXRn, LEVEL, axis=2)
    return np.maximum(center_HXn - lo, floor), np.maximum(hi - center_HXn, floor)


def _accuracy(
    tested: Backtest, table: Table, points: Points, step2: dict, n_convention: str, seed: int
) -> tuple[list[dict], float]:
    """(a row for each holdout, interval scale factor) of accuracies predicted through both steps, in points."""
    tasks = [t for t in points.tasks if t in step2 and step2[t].fit]
    grid = accuracy.checkpoints(table.select(split="train"), tasks)
    if not tasks:
        return [], NO_FACTOR
    measured_Xn = np.concatenate([_ends(table, t, step2[t].metric, points, n_convention) for t in tasks])
    row_of = {run: i for i, run in enumerate(points.runs)}
    run_n = np.array([row_of.get(g, -1) for g in grid.groups_n])
    use_Yn = np.concatenate([grid.weights_Tn * _visible(grid, run_n, points, holdout) for holdout in tested.holdouts])
    task_Y = list(range(len(tasks))) * len(tested.holdouts)
    sigmoids = accuracy.fit_sigmoids(grid, task_Y, use_Yn, N_RESAMPLES, seed, starts=N_STARTS)
    errors, centers, draws = [], [], []
    for h, holdout in enumerate(tested.holdouts):
        for x, task in enumerate(tasks):
            sigmoid = replace(step2[task], fit=sigmoids, row=h * len(tasks) + x)
            t = points.tasks.index(task)
            bpb_n = np.exp(tested.error_HTn[h, t]) * points.bpb_Tn[t]  # nan where it is not tested
            centers.append(100 * sigmoid.predict(np.where(np.isnan(bpb_n), 1.0, bpb_n))[0])
            draws.append(100 * sigmoid.draws(tested.draws_HTRn[h, t], seed))
            errors.append(centers[-1] - np.where(holdout.test_n, 100 * measured_Xn[x], np.nan))
    shape = len(tested.holdouts), len(tasks)
    error_HXn, center_HXn, draws_HXRn = (np.reshape(a, (*shape, *np.shape(a)[1:])) for a in (errors, centers, draws))
    half = _half_widths(center_HXn, draws_HXRn, POINTS_FLOOR)
    rows = [_row(h, holdout, error_HXn, half) for h, holdout in enumerate(tested.holdouts)]
    return rows, scale_factor(error_HXn, half)


def _visible(grid, run_n: np.ndarray, points: Points, holdout: Holdout) -> np.ndarray:
    """bool[n]: the checkpoints that a holdout may use: of its fitted runs, and of trunks whose branches are all fitted.

    run_n: index of each checkpoint's run among the points; -1 for a trunk.
    """
    is_fitted_n = np.append(holdout.fit_n, False)[run_n]
    return is_fitted_n | (run_n < 0) & ~np.isin(grid.groups_n, points.groups_n[~holdout.fit_n])


def _ends(table: Table, task: str, metric: str, points: Points, n_convention: str) -> np.ndarray:
    """[1, n] end accuracies in the order of the points; nan where a run lacks it."""
    ends = ladder_points(table, [task], n_convention, metric)
    value = dict(zip(ends.runs, ends.bpb_Tn[0], strict=True))
    return np.array([[value.get(run, np.nan) for run in points.runs]])


def _row(h: int, holdout: Holdout, error_HXn: np.ndarray, half_HXn) -> dict:
    """Errors of one holdout. The scale factor and the interval of constant width come from the other holdouts."""
    error_Xn = error_HXn[h]
    factor = scale_factor(error_HXn, half_HXn, without=h)
    below, above = (half[h] for half in half_HXn)
    others = np.abs(np.delete(error_HXn, h, axis=0))
    constant = float(np.nanquantile(others, LEVEL)) if np.isfinite(others).any() else np.nan
    return {
        "holdout": holdout.name,
        "fitted": int(holdout.fit_n.sum()),
        "tested": int(holdout.test_n.sum()),
        "distance": holdout.distance,
        "error": float(np.nanmean(np.abs(error_Xn))),
        "bias": float(np.nanmean(error_Xn)),
        "coverage_raw": coverage(error_Xn, below, above),
        "factor": factor,
        "coverage": coverage(error_Xn, factor * below, factor * above),
        "width": float(np.nanmean(np.where(np.isnan(error_Xn), np.nan, factor * (below + above)))),
        "score": interval_score(error_Xn, factor * below, factor * above),
        "constant_width": 2 * constant,
        "constant_coverage": coverage(error_Xn, constant, constant),
        "constant_score": interval_score(error_Xn, constant, constant),
    }


def coverage(error_Tn: np.ndarray, below, above) -> float:
    """Share of measurements inside [prediction - below, prediction + above]."""
    inside = (error_Tn <= below) & (-error_Tn <= above)
    return float(inside[~np.isnan(error_Tn)].mean())


def interval_score(error_Tn: np.ndarray, below, above) -> float:
    """Mean interval score (Gneiting and Raftery 2007): width + 2 / (1 - level) times the miss; lower is better.

    nan where no measurement has an interval: a single holdout has no other one to take a constant width from.
    """
    miss = np.maximum(error_Tn - below, 0) + np.maximum(-error_Tn - above, 0)
    score_Tn = below + above + 2 / (1 - LEVEL) * miss
    return float(np.nanmean(score_Tn)) if np.isfinite(score_Tn).any() else float("nan")
