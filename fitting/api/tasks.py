"""The two-step task law for notebooks and programs: `forecast`, `backtest`, `compare`, `design` and their results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fitting.api.results import Shown, drawn, to_frame
from fitting.bhagia2024 import methods
from fitting.errors import InputError, check_resamples, check_seed
from fitting.report import task_figures, task_report, task_tables
from fitting.report.grid import Grid
from fitting.tables import comparable, frames, points, runs_table
from fitting.tables.points import Target
from fitting.tables.runs_table import SCHEMA_VERSION, Table
from fitting.task_laws import accuracy, diagnostics, two_step
from fitting.task_laws import backtest as backtests
from fitting.task_laws import compare as comparing
from fitting.task_laws import design as designing
from fitting.task_laws.forecasts import SuiteForecast, TaskForecast

METHODS = ("default", *methods.METHODS)


def read_runs(path, unfinished: bool = False) -> Table:
    """A runs table from a file (.csv, .jsonl, either .gz) or a folder of run directories.

    unfinished: also runs that are not done. Raises InputError with file and line.
    """
    return runs_table.read(path, unfinished)


def runs_table_of(data) -> Table:
    """A runs table from a data frame or a dictionary of columns: run, n_params, tokens, step, task, metric, value.

    Raises InputError where a column is missing or a value cannot be used.
    """
    return runs_table.of_cells(frames.cells(data), "data")


class Forecast(Shown):
    """The predictions of `forecast`. Read one with `forecast[target, task]`, or iterate over all.

    Intervals are 80 % prediction intervals. prediction: the fits and the draws that the predictions come from; None for
    the paper's methods.
    """

    def __init__(self, table: Table, entries: Sequence[TaskForecast], prediction: two_step.Prediction | None = None):
        self.table, self.entries, self.prediction = table, tuple(entries), prediction

    def __getitem__(self, key: tuple[str, str]) -> TaskForecast:
        for entry in self.entries:
            if (entry.target, entry.task) == key:
                return entry
        known = ", ".join(f"{e.target!r}, {e.task!r}" for e in self.entries)
        raise KeyError(f"{key}: not predicted; there are {known}")

    def __iter__(self) -> Iterator[TaskForecast]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def suite(self) -> tuple[SuiteForecast, ...]:
        """For each target the mean over its tasks."""
        return self.prediction.suite if self.prediction else ()

    def to_frame(self):
        """A pandas.DataFrame with a row for each target and task."""
        columns = ("target", "task", "bpb", "bpb_interval", "accuracy", "accuracy_interval", "measured_bpb", "error")
        columns += ("inside", "measured_accuracy", "accuracy_error", "accuracy_inside", "flags")
        return to_frame([{name: getattr(e, name) for name in columns} for e in self.entries])

    def to_html(self, path) -> None:
        """Write the report: one self-contained page. Raises InputError for the paper's methods, which have none."""
        task_report.report(self.table, self._default("a report"), path)

    def plot(self, target: str, task: str, step: Literal[1, 2] = 1, ax=None):
        """Plot one step of the law with its data and the prediction. Returns the axes.

        step: 1 for bpb against training tokens, 2 for accuracy against bpb.
        """
        prediction = self._default("a figure")
        self[target, task]  # raises KeyError where it is not predicted
        [model] = [t for t in prediction.targets if t.name == target]
        if step == 2 and task not in prediction.step2:
            raise InputError(f"{task}: has no accuracy in the table, so no step 2", "step")
        if step == 1:
            return drawn(ax, task_figures.draw_step1, self.table, prediction, model, task, large=True)
        return drawn(ax, task_figures.draw_step2, self.table, prediction, model, task)

    def _default(self, what: str) -> two_step.Prediction:
        if self.prediction is None:
            raise InputError(f"{what} needs the default method; the paper's methods have none", "method")
        return self.prediction

    def json(self) -> dict:
        """What goes into pred.json."""
        if self.prediction:
            return self.prediction.json()
        return {"schema_version": SCHEMA_VERSION, "predictions": [entry.json() for entry in self.entries]}

    def grids(self) -> list[Grid]:
        return task_tables.predictions(self.entries, self.suite)

    def lines(self) -> list[str]:
        return task_tables.flags(self.entries)


def forecast(
    runs: Table, targets: Sequence[Target] | None = None, *, tasks: Sequence[str] | None = None,
    method: str = "default", resamples: int = 1000, seed: int = 0,
) -> Forecast:  # fmt: skip
    """Predict bpb and accuracy of larger models from a ladder's runs.

    runs: from `read_runs` or `runs_table`. targets: by default those in the table (split "target"). tasks: by default
    all. method: "default", or the task-ladder paper's "paper", "paper-c", "paper-single", to the letter and without
    intervals. resamples, seed: of the intervals. Raises InputError where nothing can be predicted, or where a target
    counts its parameters otherwise than the others.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: use one of {', '.join(METHODS)}", "method")
    if resamples < 2:
        raise InputError(f"{resamples} resamples: an interval needs at least 2", "resamples")
    check_resamples(resamples)
    check_seed(seed)
    targets, tasks = None if targets is None else list(targets), None if tasks is None else list(tasks)
    if method != "default":
        targets = points.targets_of(runs) if targets is None else targets
        return Forecast(runs, methods.predict(runs, targets, tasks, method))
    convention = targets[0].n_is if targets else "n_params"
    prediction = two_step.predict(runs, targets, tasks=tasks, n_convention=convention, n_resamples=resamples, seed=seed)
    return Forecast(runs, two_step.with_measured(prediction, runs), prediction)


@dataclass(frozen=True, repr=False)
class Backtests(Shown):
    """Errors of predictions of a ladder's own held-out large runs.

    bpb, accuracy: a row for each holdout, in ln bpb and in points. factor_bpb, factor_accuracy: interval scale factors;
    scaled by them, the 80 % intervals hold 80 % of the held-out runs. weights: of the forms. flags: reasons why runs do
    not compare.
    """

    bpb: list[dict]
    accuracy: list[dict]
    factor_bpb: float
    factor_accuracy: float
    weights: dict[str, float]
    flags: Sequence[str] = ()

    def json(self) -> dict:
        result = {"bpb": self.bpb, "accuracy": self.accuracy, "form_weights": self.weights}
        return result | comparable.in_json(self.flags)

    def grids(self) -> list[Grid]:
        grids = [task_tables.backtests(self.bpb, "bits per byte, in percent", 100, "")]
        if self.accuracy:
            grids.append(task_tables.backtests(self.accuracy, "accuracy through both steps, in points", 1, ""))
        return grids

    def lines(self) -> list[str]:
        weights = task_tables.form_weights(list(self.weights), list(self.weights.values()))
        return [weights, task_tables.scale_factors(self.factor_bpb, self.factor_accuracy), *self.flags]


def backtest(runs: Table, *, seed: int = 0) -> Backtests:
    """Hide the large runs of a ladder and predict them from the others. Raises InputError where it is too short."""
    check_seed(seed)
    ends = points.ladder_points(runs, None, "n_params")
    step2 = accuracy.fit_all(runs, ends.tasks, 100, seed)
    report = backtests.report(runs, ends, step2, "n_params", seed)
    if report is None:
        raise InputError(
            f"{runs.source}: {len(ends.runs)} runs cannot be split; a backtest needs {backtests.MIN_FIT_RUNS} to fit"
        )
    weights = dict(zip((f.name for f in report.bpb.forms), report.weights_FT.mean(axis=1).tolist(), strict=True))
    flags = diagnostics.mixed(ends, step2)
    return Backtests(report.bpb.table(), report.acc_rows, report.factor_bpb, report.factor_acc, weights, flags)


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Two recipes at a target. rows: for each task and their mean, as task_laws.compare documents. flags: reasons why
    runs do not compare."""

    target: str
    rows: list[dict]
    flags: Sequence[str] = ()

    def json(self) -> dict:
        return {"target": self.target, "tasks": self.rows} | comparable.in_json(self.flags)

    def grids(self) -> list[Grid]:
        return [task_tables.comparison(self.rows, self.target)]

    def lines(self) -> list[str]:
        return list(self.flags)


def compare(
    a: Table | Forecast, b: Table | Forecast, target: Target, *, resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Compare two recipes at a target: which is better, and how much compute that is worth. Each has its own ladder.

    a, b: runs tables, or forecasts of this target. Raises InputError where they share no task.
    """
    predictions = []
    for runs in (a, b):
        result = runs if isinstance(runs, Forecast) else forecast(runs, [target], resamples=resamples, seed=seed)
        predictions.append(result._default("a comparison"))
    return Comparison(target.name, comparing.compare(*predictions, target, seed), comparing.mixed(*predictions))


@dataclass(frozen=True, repr=False)
class Design(Shown):
    """The runs to train for each budget. rows: budget, runs, flops (of these runs), sd of the target's ln bpb, and
    half_width, half of its 80 % interval. flags: reasons why runs do not compare."""

    target: str
    rows: list[dict]
    all_flops: float
    n_runs: int
    flags: Sequence[str] = ()

    def json(self) -> dict:
        return {"target": self.target, "frontier": self.rows} | comparable.in_json(self.flags)

    def grids(self) -> list[Grid]:
        return [task_tables.design(self.rows, self.target, self.all_flops, self.n_runs)]

    def lines(self) -> list[str]:
        return list(self.flags)


def design(runs: Table, target: Target, C: Sequence[float] | float | None = None) -> Design:
    """Which of a table's runs to train for budgets of C FLOPs, so that the target's error bar is smallest.

    C: by default 10, 20, 40 and 100 % of the cost of all runs. Raises InputError where no set within a budget
    determines the law.
    """
    ends = points.ladder_points(runs, None, target.n_is)
    candidates = designing.candidates_of(ends, target)
    rows = designing.frontier(candidates, () if C is None else np.atleast_1d(C))
    rows = [row | {"runs": [ends.runs[i] for i in row["runs"]]} for row in rows]
    flags = diagnostics.mixed(ends, {})
    return Design(target.name, rows, float(candidates.flops_n.sum()), len(ends.runs), flags)
