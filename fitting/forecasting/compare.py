"""Compare two recipes, each with a ladder of its own, at one target: difference, its probability, saved compute.

The compute-equivalent gain of A over B is the factor by which B's compute would have to grow (N and D each by its
square root) for B to reach A's loss at the target. A gain of 2 means that A needs half the compute. Errors of tasks of
one target, and of two recipes at one target, correlate as inference/calibration.json says.
"""

from dataclasses import replace

import numpy as np
from scipy import special

from fitting.errors import InputError
from fitting.forecasting import diagnostics
from fitting.forecasting.predict import Prediction
from fitting.forecasting.results import SUITE
from fitting.inference import bootstrap
from fitting.inference.calibration import calibration, sd_of
from fitting.tables import comparable
from fitting.tables.points import Target

# Gains are searched between 1 / LARGEST and LARGEST.
LARGEST, STEPS = 32.0, 61


def compare(a: Prediction, b: Prediction, target: Target, draws: int = 1000, seed: int = 0) -> list[dict]:
    """A row for each task that both predict, and for their mean (SUITE).

    "probability": that A's run at the target measures a lower loss than B's. "difference": loss of A - loss of B, with
    its 80 % interval. "gain", "gain_pi80": compute-equivalent gain, None beyond LARGEST. "probability_acc": that A's
    accuracy is higher, where both are predicted. draws, seed: of the intervals. Raises InputError where they share no
    task.
    """
    tasks = [t for t in a.fitted if t in b.fitted]
    if not tasks:
        raise InputError(
            f"the ladders share no task: {', '.join(a.fitted) or 'none'} and {', '.join(b.fitted) or 'none'}"
        )
    gains = np.geomspace(1 / LARGEST, LARGEST, STEPS)
    gains[STEPS // 2] = 1.0  # exactly, so that a ladder differs from itself by nothing
    z_a_TR, z_b_TR = _deviates(len(tasks), draws, seed)
    a_T = np.array([a.losses[target.name, t].loss for t in tasks])
    a_TR = a_T[:, None] * np.exp([sd_of(a.losses[target.name, t].half_width) for t in tasks] * z_a_TR.T).T
    center_Tm, sd_Tm = _by_gain(b, target, tasks, gains)
    b_TRm = center_Tm[:, None] * np.exp(sd_Tm[:, None] * z_b_TR[:, :, None])
    b_TR = b_TRm[:, :, STEPS // 2]  # at the target itself
    rows = [_row(t, a_T[i], a_TR[i], b_TR[i], center_Tm[i], b_TRm[i], gains) for i, t in enumerate(tasks)]
    for row in rows:
        row |= _accuracy(a, b, target, row["task"])
    means = (x.mean(axis=0) for x in (a_T, a_TR, b_TR, center_Tm, b_TRm))
    return [*rows, _row(SUITE, *means, gains)]


def mixed(a: Prediction, b: Prediction) -> list[str]:
    """Reasons why the points of one ladder, or those of both, do not compare, as lines."""
    ladders = {f"A ({a.points.rows.source})": a, f"B ({b.points.rows.source})": b}
    flags = [f"{name}, {line}" for name, p in ladders.items() for line in diagnostics.mixed(p.measurements)]
    for task in (t for t in a.fitted if t in b.fitted):
        rows = {name: p.points.rows.select(task=task) for name, p in ladders.items()}
        ladders_as_runs = [
            replace(part, columns=part.columns | {"run": np.full(len(part), name)}) for name, part in rows.items()
        ]
        flags += [f"{task}: {line}" for line in comparable.other_docs(comparable.scored(*ladders_as_runs))]
    return flags


def _deviates(n_tasks: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(z_a, z_b) [T, R]: standard normal errors of both recipes, correlated between tasks and between recipes."""
    rng, constants = np.random.default_rng([seed, 1]), calibration()
    shared, recipes = constants.tasks, constants.recipes
    z_TR = [
        np.sqrt(shared) * rng.standard_normal(draws) + np.sqrt(1 - shared) * rng.standard_normal((n_tasks, draws))
        for _ in range(2)
    ]
    return z_TR[0], recipes * z_TR[0] + np.sqrt(1 - recipes**2) * z_TR[1]


def _by_gain(b: Prediction, target: Target, tasks, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(loss [T, m], sd of its ln [T, m]) of B at the target with N and D both multiplied by sqrt(gain)."""
    n, d = target.N * np.sqrt(gains), target.D * np.sqrt(gains)
    centers, sds = [], []
    for task in tasks:
        law = b.laws[target.name, task]
        mean_m, spread_m = law.predict(n, d)
        centers.append(np.exp(mean_m))
        sds.append(sd_of(calibration().loss_half_width(law.noise, law.best_run - mean_m, spread_m)))
    return np.array(centers), np.array(sds)


def _accuracy(a: Prediction, b: Prediction, target: Target, task: str) -> dict:
    """{"probability_acc"} that A's accuracy is higher; {} where one of them is not predicted."""
    first, second = a.entry(target, task), b.entry(target, task)
    if first.accuracy_interval is None or second.accuracy_interval is None:
        return {}
    sd_a, sd_b = (sd_of((e.accuracy_interval[1] - e.accuracy_interval[0]) / 2) for e in (first, second))
    variance = sd_a**2 + sd_b**2 - 2 * calibration().recipes * sd_a * sd_b
    return {"probability_acc": float(special.ndtr((first.accuracy - second.accuracy) / np.sqrt(variance)))}


def _row(task: str, a: float, a_R, b_R, center_m, b_Rm, gains) -> dict:
    difference_R, difference = a_R - b_R, float(a - center_m[STEPS // 2])
    gain_R = np.array([_gain(loss, loss_m, gains) for loss, loss_m in zip(a_R, b_Rm, strict=True)])
    lo, hi = bootstrap.interval(np.log(gain_R), 0.8)
    return {
        "task": task,
        "probability": float(np.mean(difference_R < 0)),
        "difference": difference,
        "difference_pi80": list(bootstrap.point_interval(difference_R, difference)),
        "gain": _within_range(_gain(a, center_m, gains)),
        "gain_pi80": [_within_range(np.exp(lo)), _within_range(np.exp(hi))],
    }


def _gain(loss: float, loss_m: np.ndarray, gains: np.ndarray) -> float:
    """The factor of compute (one of `gains`, interpolated) at which recipe B reaches the loss of recipe A.

    loss: of A. loss_m: of B at each of the gains. If B never reaches it, or always has less, the end of the range.
    """
    falling_m = np.minimum.accumulate(loss_m)
    return float(np.exp(np.interp(-loss, -falling_m, np.log(gains))))


def _within_range(gain: float) -> float | None:
    return float(gain) if 1 / LARGEST * 1.001 < gain < LARGEST / 1.001 else None
