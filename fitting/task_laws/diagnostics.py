"""Reasons not to trust a prediction, in words, each with the number behind it."""

from collections.abc import Sequence

import numpy as np

from fitting.errors import InputError
from fitting.tables.points import SAME, Points, Target, ladder_points
from fitting.tables.runs_table import Table
from fitting.task_laws.accuracy import WEAK_CORRELATION, AccuracyFit
from fitting.task_laws.forecasts import TaskForecast
from fitting.task_laws.model_average import Average

FEW_RUNS = 12
FAR = 10
SCATTER = 0.03
LACK_OF_FIT = 3.0
MAJORITY = 0.5  # of the forms' weight
EVERY_TASK = "every task"


def step1(step1: Average, t: int, points: Points, target: Target, rerun_noise: float | None) -> list[str]:
    """Flags of one task's bpb. rerun_noise: sd of ln bpb between runs of one configuration, where there are such."""
    flags = []
    if step1.points_T[t] < FEW_RUNS:
        flags.append(f"few runs: {step1.points_T[t]} for a law of {len(step1.fit.law.params)} parameters")
    rows = np.arange(len(step1.fit.points_T)).reshape(len(step1.forms), -1)[:, t]
    lost_share = step1.weights_FT[~step1.fit.converged_T[rows], t].sum()
    if lost_share > 0:
        flags.append(f"forms with {lost_share:.0%} of the weight did not converge")
    for name in ("E", "alpha", "beta"):
        share = sum(
            step1.weights_FT[f, t]
            for f, row in enumerate(rows)
            if name in step1.fit.at_bound(row) and step1.forms[f].has(name)
        )
        has = sum(step1.weights_FT[f, t] for f in range(len(rows)) if step1.forms[f].has(name))
        if has > 0 and share / has > MAJORITY:
            flags.append(f"parameter at its bound: {name}, in forms with {share / has:.0%} of the weight")
    noise = step1.noise_T[t]
    if noise > SCATTER:
        flags.append(f"large scatter: runs lie {noise:.1%} off the law (one sd)")
    if rerun_noise is not None and noise > LACK_OF_FIT * rerun_noise:
        flags.append(f"lack of fit: runs lie {noise:.2%} off the law, reruns {rerun_noise:.2%} apart (one sd)")
    ratios = {
        "parameters": target.N / points.features["N"].max(),
        "tokens": target.D / points.features["D"].max(),
        "compute (N D)": target.N * target.D / (points.features["N"] * points.features["D"]).max(),
    }
    return flags + [f"far extrapolation: {r:.0f} times the largest run's {k}" for k, r in ratios.items() if r > FAR]


def step2(fit: AccuracyFit, entry: TaskForecast) -> list[str]:
    """Flags of one task's accuracy."""
    flags = []
    if fit.fit is None or fit.chance.level is None:
        flags.append(fit.chance.why)
    if fit.fit is None:
        return flags
    if fit.correlation > -WEAK_CORRELATION:
        flags.append(f"weak link: bpb and accuracy of the runs correlate by {fit.correlation:.2f}")
    bpb = entry.bpb
    if bpb is not None and not fit.bpb_n.min() <= bpb <= fit.bpb_n.max():
        flags.append(
            f"step 2 extrapolates: bpb {bpb:.3f} is outside the {fit.bpb_n.min():.3f} to {fit.bpb_n.max():.3f}"
            " it was fitted on"
        )
    # The published anchor puts b on 1. Any other parameter on its bound says that the data bend too little.
    return flags + [f"step-2 parameter at its bound: {n}" for n in fit.fit.at_bound(fit.row) if n != "b"]


def lines(entries: Sequence[TaskForecast]) -> list[tuple[str, str]]:
    """(whose, flag) as people read them. A flag that all tasks of a target carry is one of EVERY_TASK; the target is
    named where there are several."""
    targets = list(dict.fromkeys(e.target for e in entries))
    out = []
    for target in targets:
        of_target = [e for e in entries if e.target == target]
        first = of_target[0].flags if len(of_target) > 1 else ()
        common = [flag for flag in first if all(flag in e.flags for e in of_target)]
        pairs = [(EVERY_TASK, flag) for flag in common]
        pairs += [(e.task, flag) for e in of_target for flag in e.flags if flag not in common]
        out += [(f"{target}, {task}" if len(targets) > 1 else task, flag) for task, flag in pairs]
    return out


def rerun_noise(table: Table, points: Points, n_convention: str) -> dict[str, float]:
    """{task: sd of ln bpb between runs of the same N and D}, of splits train and extra, where there are such pairs."""
    try:
        every = ladder_points(table, list(points.tasks), n_convention, splits=("train", "extra"))
    except InputError:
        return {}
    n, d = every.features["N"], every.features["D"]
    same = (np.abs(n[:, None] / n - 1) < SAME) & (np.abs(d[:, None] / d - 1) < SAME)
    # Neighbours in the order of the points: a group of k reruns gives k - 1 differences.
    pairs = [(i, i + 1) for i in range(len(n) - 1) if same[i, i + 1] and every.groups_n[i] != every.groups_n[i + 1]]
    noise = {}
    for task, log_n in zip(every.tasks, np.log(every.bpb_Tn), strict=True):
        differences = np.array([log_n[j] - log_n[i] for i, j in pairs])
        differences = differences[~np.isnan(differences)]
        if len(differences) >= 2:
            noise[task] = float(np.sqrt(np.mean(differences**2) / 2))
    return noise
