"""Compare two recipes, each with a ladder of its own, at one target: difference, its probability, saved compute.

The compute-equivalent gain of A over B is the factor by which B's compute would have to grow (N and D each by its
square root) for B to reach A's bpb at the target. A gain of 2 means that A needs half the compute. Draws of the two
ladders are independent, because the ladders share no run.
"""

from dataclasses import replace

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.tables import comparable
from fitting.tables.points import Target
from fitting.task_laws import diagnostics
from fitting.task_laws.forecasts import SUITE
from fitting.task_laws.two_step import Prediction

# Gains are searched between 1 / LARGEST and LARGEST.
LARGEST, STEPS = 32.0, 61
# Added to the seed of B's draws, so that two ladders predicted with the same seed have independent draws.
OTHER_SEED = 1_000_003


def compare(a: Prediction, b: Prediction, target: Target, seed: int = 0) -> list[dict]:
    """A row for each task that both predict, and for their mean (SUITE).

    "probability": that A's run at the target measures a lower bpb than B's. "difference": bpb of A - bpb of B, with its
    80 % interval. "gain", "gain_pi80": compute-equivalent gain, None beyond LARGEST. "probability_acc": that A's
    accuracy is higher, where both are predicted. Raises InputError where they share no task.
    """
    tasks = [t for t in a.fitted if t in b.fitted]
    if not tasks:
        raise InputError(
            f"the ladders share no task: {', '.join(a.fitted) or 'none'} and {', '.join(b.fitted) or 'none'}"
        )
    gains = np.geomspace(1 / LARGEST, LARGEST, STEPS)
    a_TR = np.array([a.draws_bpb[target.name, t] for t in tasks])
    center_Tm, b_TRm = _by_gain(b, target, tasks, gains, a_TR.shape[1], seed)
    b_TR = b_TRm[:, :, STEPS // 2]  # at the target itself
    a_T = np.array([a.entry(target, t).bpb for t in tasks])
    rows = [_row(t, a_T[i], a_TR[i], b_TR[i], center_Tm[i], b_TRm[i], gains) for i, t in enumerate(tasks)]
    for row in rows:
        key = target.name, row["task"]
        if key in a.draws_acc and key in b.draws_acc:
            shuffled = np.random.default_rng(seed).permutation(b.draws_acc[key])
            row["probability_acc"] = float(np.mean(a.draws_acc[key] > shuffled))
    means = (x.mean(axis=0) for x in (a_T, a_TR, b_TR, center_Tm, b_TRm))
    return [*rows, _row(SUITE, *means, gains)]


def mixed(a: Prediction, b: Prediction) -> list[str]:
    """Reasons why the points of one ladder, or those of both, do not compare, as lines."""
    ladders = {f"A ({a.points.rows.source})": a, f"B ({b.points.rows.source})": b}
    flags = [f"{name}, {line}" for name, p in ladders.items() for line in diagnostics.mixed(p.points, p.step2)]
    for task in (t for t in a.fitted if t in b.fitted):
        rows = {name: p.points.rows.select(task=task) for name, p in ladders.items()}
        ladders_as_runs = [
            replace(part, columns=part.columns | {"run": np.full(len(part), name)}) for name, part in rows.items()
        ]
        flags += [f"{task}: {line}" for line in comparable.other_docs(comparable.scored(*ladders_as_runs))]
    return flags


def _by_gain(b: Prediction, target: Target, tasks, gains: np.ndarray, n_draws: int, seed: int):
    """(center_Tm, draws_TRm): B's bpb at the target with N and D both multiplied by sqrt(gain), for each gain."""
    features = {k: v * np.sqrt(gains) for k, v in target.features.items()}
    index = [b.fitted.index(t) for t in tasks]
    center_Tm = b.step1.predict(features)[index]
    ratio_TRm = b.step1.draws(features, n_draws, seed + OTHER_SEED)[index] / center_Tm[:, None]
    return center_Tm, center_Tm[:, None] * ratio_TRm**b.factor_bpb


def _row(task: str, a: float, a_R, b_R, center_m, b_Rm, gains) -> dict:
    difference_R, difference = a_R - b_R, float(a - center_m[STEPS // 2])
    gain_R = np.array([_gain(bpb, bpb_m, gains) for bpb, bpb_m in zip(a_R, b_Rm, strict=True)])
    lo, hi = bootstrap.interval(np.log(gain_R), 0.8)
    return {
        "task": task,
        "probability": float(np.mean(difference_R < 0)),
        "difference": difference,
        "difference_pi80": list(bootstrap.point_interval(difference_R, difference)),
        "gain": _within_range(_gain(a, center_m, gains)),
        "gain_pi80": [_within_range(np.exp(lo)), _within_range(np.exp(hi))],
    }


def _gain(bpb: float, bpb_m: np.ndarray, gains: np.ndarray) -> float:
    """The factor of compute (one of `gains`, interpolated) at which recipe B reaches the bpb of recipe A.

    bpb: of A. bpb_m: of B at each of the gains. If B never reaches it, or always has less, the end of the range.
    """
    falling_m = np.minimum.accumulate(bpb_m)
    return float(np.exp(np.interp(-bpb, -falling_m, np.log(gains))))


def _within_range(gain: float) -> float | None:
    return float(gain) if 1 / LARGEST * 1.001 < gain < LARGEST / 1.001 else None
