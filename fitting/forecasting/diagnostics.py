"""Flags: reasons not to trust a prediction, as sentences with the number that each rests on."""

from collections.abc import Sequence

import numpy as np

from fitting.errors import InputError
from fitting.forecasting.accuracy import WEAK_CORRELATION, AccuracyLaw
from fitting.forecasting.measurements import Measurements
from fitting.forecasting.posterior import LossForecast, Posterior
from fitting.forecasting.results import TaskForecast
from fitting.inference.calibration import calibration
from fitting.tables.points import SAME, Points, Target, ladder_points
from fitting.tables.runs_table import Table

FEW_RUNS = 8
FAR = 10  # times the largest run
SCATTER = 0.03  # sd of ln bpb
LACK_OF_FIT = 3.0  # times the sd between reruns
UNDETERMINED = 1.25  # width of the interval over that of a law that the runs determine
EVERY_TASK = "every task"


def loss(
    law: Posterior, forecast: LossForecast, read: Measurements, target: Target, task: str, rerun_noise: float | None
) -> list[str]:
    """Flags of a predicted loss. rerun_noise: sd of ln loss between runs of one configuration; None without such."""
    has_n = ~np.isnan(read.points.bpb_Tn[read.points.tasks.index(task)])
    n, d = (read.points.features[name][has_n] for name in ("N", "D"))
    flags = [f"left out, because it seems to have diverged: {run}" for run in _diverged(read, task)]
    if len(n) < FEW_RUNS:
        flags.append(f"few runs: {len(n)} for a law of 5 parameters")
    for name, values in (("parameters", n), ("tokens", d)):
        if values.max() / values.min() < 1.1:
            flags.append(f"all runs have the same {name}: how the loss falls with {name} is the prior's, not the runs'")
    determined = calibration().loss_half_width(law.noise, law.best_run - forecast.log_loss)
    if forecast.half_width > UNDETERMINED * determined:
        flags.append(
            f"the runs do not determine the law at the target: the interval is"
            f" {forecast.half_width / determined:.1f} times as wide as if they did"
        )
    outliers = [
        run for run, is_outlier in zip(np.array(read.points.runs)[has_n], law.outliers_n, strict=True) if is_outlier
    ]
    if outliers:
        flags.append(f"off the law and weighed down: {', '.join(outliers)}")
    if law.noise > SCATTER:
        flags.append(f"large scatter: runs lie {law.noise:.1%} off the law (one sd)")
    if rerun_noise is not None and law.noise > LACK_OF_FIT * rerun_noise:
        flags.append(f"lack of fit: runs lie {law.noise:.2%} off the law, reruns {rerun_noise:.2%} apart (one sd)")
    ratios = {"parameters": target.N / n.max(), "tokens": target.D / d.max()}
    ratios["compute (N D)"] = target.N * target.D / (n * d).max()
    return flags + [f"far extrapolation: {r:.0f} times the largest run's {k}" for k, r in ratios.items() if r > FAR]


def _diverged(read: Measurements, task: str) -> list[str]:
    return [f"{run} (loss {above:.0%} above that of a run with no more parameters and tokens)"
            for run, above in read.diverged.get(task, {}).items()]  # fmt: skip


def diverged(read: Measurements) -> list[str]:
    """A line for every run and task whose loss is left out."""
    return [f"{task}: {line}" for task in read.diverged for line in _diverged(read, task)]


def accuracy(law: AccuracyLaw, entry: TaskForecast) -> list[str]:
    """Flags of one task's accuracy."""
    flags = [law.chance.why] if not (law.chance.above and law.chance.tested) else []
    if entry.accuracy_interval is None:
        if law.chance.above:
            flags.append(f"accuracy not predicted: too few runs ({len(law.acc_n)})")
        return flags
    if not law.sigmoids:
        return [*flags, "accuracy by the direct law of N and D alone"]
    if law.correlation > -WEAK_CORRELATION:
        flags.append(f"weak link: bpb and accuracy of the runs correlate by {law.correlation:.2f}")
    lowest, highest = law.pairs[0][:, 0].min(), law.pairs[0][:, 0].max()
    if entry.bpb is not None and not lowest <= entry.bpb <= highest:
        flags.append(
            f"step 2 extrapolates: bpb {entry.bpb:.3f} is outside the {lowest:.3f} to {highest:.3f} it was fitted on"
        )
    return flags


def mixed(read: Measurements) -> list[str]:
    """Reasons why the rows of a task do not compare, as lines that begin with the task."""
    entries = []
    for task in read.points.tasks:
        rows = [read.accuracies[task].rows] if task in read.accuracies else []
        entries.append(TaskForecast("", task, flags=read.points.flags(task, *rows)))
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
