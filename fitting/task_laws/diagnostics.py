"""Flags: reasons not to trust a prediction, as sentences with the number that each rests on."""

from collections.abc import Sequence

import numpy as np

from fitting.errors import InputError
from fitting.tables.points import SAME, Points, Target, ladder_points
from fitting.tables.runs_table import Table
from fitting.task_laws.accuracy import WEAK_CORRELATION, AccuracyFit
from fitting.task_laws.forecasts import TaskForecast
from fitting.task_laws.model_average import Average

FEW_RUNS = 12
FAR = 10  # times the largest run
SCATTER = 0.03  # sd of ln bpb
LACK_OF_FIT = 3.0  # times the sd between reruns
MAJORITY = 0.5  # of the forms' weight
EVERY_TASK = "every task"


def step1(step1: Average, t: int, points: Points, target: Target, rerun_noise: float | None) -> list[str]:
    """Flags of the bpb of task t. rerun_noise: sd of ln bpb between runs of one configuration; None without such."""
    flags = []
    if step1.points_T[t] < FEW_RUNS:
        flags.append(f"few runs: {step1.points_T[t]} for a law of {len(step1.fit.law.params)} parameters")
    rows = np.arange(len(step1.fit.points_T)).reshape(len(step1.forms), -1)[:, t]
    lost_share = step1.weights_FT[~step1.fit.converged_T[rows], t].sum()
    if lost_share > 0:
        flags.append(f"forms with {lost_share:.0%} of the weight did not converge")
    bounded = [step1.fit.at_bound(row) for row in rows]
    for name in ("E", "alpha", "beta"):
        weight_F = step1.weights_FT[:, t] * [form.has(name) for form in step1.forms]
        weight_at_bound = weight_F[[name in names for names in bounded]].sum()
        if weight_at_bound > MAJORITY * weight_F.sum():
            share = weight_at_bound / weight_F.sum()
            flags.append(f"parameter at its bound: {name}, in forms with {share:.0%} of the weight")
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
    # The published anchor pulls b to its bound 1. Another parameter at its bound: the data hold too little curvature.
    return flags + [f"step-2 parameter at its bound: {n}" for n in fit.fit.at_bound(fit.row) if n != "b"]


def rows_of(step2: dict[str, AccuracyFit], task: str) -> tuple[Table, ...]:
    """The rows that step 2 of a task reads; none where it has no accuracy."""
    return (step2[task].rows,) if task in step2 else ()


def mixed(points: Points, step2: dict[str, AccuracyFit]) -> list[str]:
    """Reasons why the runs' points and checkpoints do not compare, as lines that begin with the task."""
    entries = [TaskForecast("", task, flags=points.flags(task, *rows_of(step2, task))) for task in points.tasks]
    return [f"{whose}: {flag}" for whose, flag in lines(entries)]


def lines(entries: Sequence[TaskForecast]) -> list[tuple[str, str]]:
    """(task, flag) pairs to print. A flag of all tasks of a target is listed once, as (EVERY_TASK, flag). With several
    targets, the first item is "target, task"."""
    targets = list(dict.fromkeys(e.target for e in entries))
    labelled = []
    for target in targets:
        rows = [e for e in entries if e.target == target]
        first = rows[0].flags if len(rows) > 1 else ()
        common = [flag for flag in first if all(flag in e.flags for e in rows)]
        pairs = [(EVERY_TASK, flag) for flag in common]
        pairs += [(e.task, flag) for e in rows for flag in e.flags if flag not in common]
        labelled += [(f"{target}, {task}" if len(targets) > 1 else task, flag) for task, flag in pairs]
    return labelled


def rerun_noise(table: Table, points: Points, n_convention: str) -> dict[str, float]:
    """{task: sd of ln bpb between runs of the same N and D}, from splits train and extra; for tasks with two such pairs
    or more."""
    try:
        ends = ladder_points(table, list(points.tasks), n_convention, splits=("train", "extra"))
    except InputError:
        return {}
    # Runs are in the order of N, then D: k reruns of one configuration give k - 1 differences of neighbours.
    is_rerun = ends.groups_n[1:] != ends.groups_n[:-1]
    for values in (ends.features["N"], ends.features["D"]):
        is_rerun &= np.abs(values[:-1] / values[1:] - 1) < SAME
    noise = {}
    for task, differences in zip(ends.tasks, np.diff(np.log(ends.bpb_Tn))[:, is_rerun], strict=True):
        differences = differences[~np.isnan(differences)]
        if len(differences) >= 2:
            noise[task] = float(np.sqrt(np.mean(differences**2) / 2))
    return noise
