"""Backtests: hold out the largest rungs of a ladder, predict them from the others, and compare.

They say how the forecast does on this table within its own range. They do not scale its intervals: over 54 public cases
the factor that a table's own backtests would choose and the one that its target needed correlated by -0.11.
Rows of split "target" are not read.
"""

from dataclasses import dataclass

import numpy as np

from fitting.forecasting import posterior, scores
from fitting.forecasting.measurements import Measurements
from fitting.inference.calibration import LEVEL
from fitting.tables.points import Points, Target

MIN_FIT_RUNS = 6
# Lengths (tokens per parameter) within this factor are the same multiple.
SAME_LENGTH = 1.2


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
class Report:
    """Errors of H holdouts, in every task: loss in ln units, accuracy in points. loss, accuracy: a row for each holdout
    (`_row`). why: what was held out, in words."""

    holdouts: tuple[Holdout, ...]
    loss: list[dict]
    accuracy: list[dict]

    @property
    def why(self) -> str:
        return f"{len(self.holdouts)} holdouts: {', '.join(h.name for h in self.holdouts)}"


def report(read: Measurements) -> Report | None:
    """Forecast what each holdout hides; None where no holdout is possible."""
    points = read.points
    has_Tn = ~np.isnan(points.bpb_Tn)
    has_Tn = has_Tn[has_Tn.any(axis=1)]
    if not len(has_Tn):
        return None
    kept = tuple(h for h in holdouts(points) if (has_Tn & h.fit_n).sum(axis=1).min() >= MIN_FIT_RUNS)
    if not kept:
        return None
    losses, accuracies = [], []
    for holdout in kept:
        tested = [_tested(read, t, holdout) for t, task in enumerate(points.tasks)]
        for rows, metric in ((losses, "loss"), (accuracies, "accuracy")):
            errors = [pair for test in tested for pair in test[metric]]
            rows.append(np.array(errors).reshape(-1, 2).T)
    accuracy = [_row(h, kept, accuracies) for h in range(len(kept))] if any(a.size for a in accuracies) else []
    return Report(kept, [_row(h, kept, losses) for h in range(len(kept))], accuracy)


def _tested(read: Measurements, t: int, holdout: Holdout) -> dict[str, list]:
    """{"loss", "accuracy"}: (error, half-width) of every hidden run of one task. One law serves all hidden runs."""
    points = read.points
    n, d, loss_n = points.features["N"], points.features["D"], points.bpb_Tn[t]
    has_n = ~np.isnan(loss_n)
    fit_n, test_n = holdout.fit_n & has_n, np.flatnonzero(holdout.test_n & has_n)
    pairs = {"loss": [], "accuracy": []}
    if not fit_n.any() or not len(test_n):
        return pairs
    middle_n, middle_d = (float(np.exp(np.log(values[test_n]).mean())) for values in (n, d))
    law = posterior.fit(n[fit_n], d[fit_n], loss_n[fit_n], middle_n, middle_d)
    whole = read.accuracies.get(points.tasks[t])
    measured = dict(zip(whole.runs, whole.acc_n, strict=True)) if whole else {}
    step2 = whole and whole.of_runs([run for run, is_fitted in zip(points.runs, fit_n, strict=True) if is_fitted])
    for i in test_n:
        forecast = law.forecast(n[i], d[i])
        pairs["loss"].append((forecast.log_loss - np.log(loss_n[i]), forecast.half_width))
        if points.runs[i] in measured:
            predicted = step2.predict(Target(points.runs[i], n[i], d[i]), forecast)
            if predicted:
                lo, hi = predicted.interval
                error = 100 * (predicted.value - measured[points.runs[i]])
                pairs["accuracy"].append((error, 50 * (hi - lo)))
    return pairs


def _row(h: int, kept: tuple[Holdout, ...], pairs: list[np.ndarray]) -> dict:
    """Errors of one holdout. The interval of constant width comes from the other holdouts."""
    holdout, (error_n, half_n) = kept[h], pairs[h]
    others = [np.abs(other[0]) for i, other in enumerate(pairs) if i != h and other.size]
    constant = float(np.quantile(np.concatenate(others), LEVEL)) if others else float("nan")
    return {
        "holdout": holdout.name,
        "fitted": int(holdout.fit_n.sum()),
        "tested": int(holdout.test_n.sum()),
        "distance": holdout.distance,
        "error": float(np.abs(error_n).mean()) if error_n.size else float("nan"),
        "bias": float(error_n.mean()) if error_n.size else float("nan"),
        "coverage": scores.coverage(error_n, half_n),
        "width": float(2 * half_n.mean()) if half_n.size else float("nan"),
        "score": scores.interval_score(error_n, half_n),
        "constant_width": 2 * constant,
        "constant_coverage": scores.coverage(error_n, constant),
        "constant_score": scores.interval_score(error_n, constant),
    }
