"""What a forecast reads of a runs table, read once: the ends of the decayed runs of split "train" in every task."""

from dataclasses import dataclass, replace

import numpy as np

from fitting.forecasting.accuracy import AccuracyLaw
from fitting.tables.accuracies import ACCURACY_METRICS, Chance, accuracy_read, checkpoints_of
from fitting.tables.points import Points, ladder_points
from fitting.tables.runs_table import Table

# The loss that is forecast: the first of these that a table has.
LOSS_NAMES = {"bpb": "bits per byte", "loss": "loss"}
LOSSES = tuple(LOSS_NAMES)
# A run has diverged if its loss is this much above that of a run with no more parameters and no more tokens.
DIVERGED = 0.25
# If more than this share of a task's runs look diverged, the task is noisy, and all its runs count.
MANY_DIVERGED = 0.2
# Metrics that can be predicted in principle; a task that has only these is named as left out.
UNREAD = ("acc_norm", "exact_match", "f1", "soft")


@dataclass(frozen=True)
class Measurements:
    """points: losses of T tasks and n runs, nan where a task has none. accuracies: {task: its runs}. diverged: {task:
    {run: how far its loss is above that of a smaller run}}, whose losses are nan in `points`. unread: {task: why it
    cannot be predicted}. metric: which loss, one of LOSSES."""

    points: Points
    accuracies: dict[str, AccuracyLaw]
    diverged: dict[str, dict[str, float]]
    unread: dict[str, str]
    metric: str = LOSSES[0]

    @property
    def loss_name(self) -> str:
        return LOSS_NAMES[self.metric]

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.points.tasks


def read(table: Table, tasks: list[str] | None, n_convention: str) -> Measurements:
    """Read the given tasks (None: all). Raises InputError if there is no such task, or no decayed run."""
    rows = table.select(split="train")
    tasks = None if tasks is None else list(tasks)
    found = {task: accuracy_read(rows, task) for task in (rows.unique("task") if tasks is None else tasks)}
    metrics = {task: metric_chance for task, metric_chance in found.items() if metric_chance}
    loss = next((name for name in LOSSES if name in rows["metric"]), LOSSES[0])
    with_loss = set(rows.select(metric=loss).unique("task"))
    ends = {}
    for metric in ACCURACY_METRICS:
        if names := [task for task, (its_metric, _) in metrics.items() if its_metric == metric]:
            ends[metric] = ladder_points(rows.select(task=names), None, n_convention, metric)
    accuracy_only = [task for task in metrics if task not in with_loss]
    asked = None if tasks is None else [task for task in tasks if task not in accuracy_only]
    if (with_loss and asked != []) or not ends:
        points = ladder_points(table, asked, n_convention, loss)
    else:
        first = next(iter(ends.values()))
        points = replace(first, tasks=(), bpb_Tn=np.empty((0, len(first.runs))))
    measured = tuple(task for metric in ends.values() for task in metric.tasks)
    known = (*points.tasks, *(task for task in accuracy_only if task in measured))
    order = known if tasks is None else [task for task in tasks if task in known]
    points, diverged = _without_diverged(points)
    accuracies = {
        task: _accuracy(rows, task, metric, chance, ends[metric], points, loss)
        for task, (metric, chance) in metrics.items()
        if task in measured
    }
    no_loss_n = np.full(len(points.runs), np.nan)
    loss_of = dict(zip(points.tasks, points.bpb_Tn, strict=True))
    points = replace(points, tasks=tuple(order), bpb_Tn=np.array([loss_of.get(task, no_loss_n) for task in order]))
    unread = {} if tasks is not None else _unread(rows, order)
    return Measurements(points, {t: accuracies[t] for t in order if t in accuracies}, diverged, unread, loss)


def _without_diverged(points: Points) -> tuple[Points, dict[str, dict[str, float]]]:
    """The points without losses of diverged runs, and which those are."""
    n, d = points.features["N"], points.features["D"]
    loss_Tn, diverged = points.bpb_Tn.copy(), {}
    known_Tn, best_Tn = np.nan_to_num(points.bpb_Tn, nan=np.inf), np.full_like(points.bpb_Tn, np.inf)
    for i in range(len(n)):  # the smallest loss of the runs with no more parameters and no more tokens
        is_smaller_n = (n <= 1.001 * n[i]) & (d <= 1.001 * d[i])
        best_Tn[:, i] = known_Tn[:, is_smaller_n].min(axis=1)
    for t, loss_n in enumerate(points.bpb_Tn):
        above_n = loss_n / best_Tn[t] - 1
        is_diverged_n = above_n > DIVERGED
        if 0 < is_diverged_n.sum() <= MANY_DIVERGED * (~np.isnan(loss_n)).sum():
            loss_Tn[t, is_diverged_n] = np.nan
            diverged[points.tasks[t]] = {points.runs[i]: float(above_n[i]) for i in np.flatnonzero(is_diverged_n)}
    return replace(points, bpb_Tn=loss_Tn), diverged


def _accuracy(
    rows: Table, task: str, metric: str, chance: Chance, ends: Points, losses: Points, loss: str
) -> AccuracyLaw:
    """The runs of a task that have this accuracy, with their losses where they have them."""
    acc_n = ends.bpb_Tn[ends.tasks.index(task)]
    loss_of = {}
    if task in losses.tasks:
        loss_of = dict(zip(losses.runs, losses.bpb_Tn[losses.tasks.index(task)], strict=True))
    loss_n = np.array([loss_of.get(run, np.nan) for run in ends.runs])
    # A diverged run has no loss here, and its accuracy says nothing either.
    use_n = ~np.isnan(acc_n) & (~np.isnan(loss_n) | (not loss_of))
    runs = tuple(run for run, use in zip(ends.runs, use_n, strict=True) if use)
    checkpoints = checkpoints_of(rows.select(task=task, run=list(runs)), metric, loss) if loss_of else {}
    return AccuracyLaw(
        task, metric, chance, ends.features["N"][use_n], ends.features["D"][use_n],
        loss_n[use_n], acc_n[use_n], runs, checkpoints, ends.rows.select(task=task),
    )  # fmt: skip


def _unread(rows: Table, read_tasks) -> dict[str, str]:
    """{task: why} of the tasks that have neither a loss nor an accuracy that is read, but another score."""
    reasons = {}
    for task in rows.unique("task"):
        if task not in read_tasks:
            metrics = rows.select(task=task).unique("metric")
            if scores := [name for name in UNREAD if name in metrics]:
                reasons[task] = f"not predicted: it has only {', '.join(scores)}, no bpb or accuracy"
    return reasons
