"""The two-step task law for notebooks and programs: `forecast`, `backtest`, `compare`, `design` and their results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fitting.api.inputs import points_of
from fitting.api.results import Shown, drawn, to_frame
from fitting.bhagia2024 import methods
from fitting.errors import InputError, check_resamples, check_seed
from fitting.forecasting import backtest as backtests
from fitting.forecasting import compare as comparing
from fitting.forecasting import design as designing
from fitting.forecasting import diagnostics, measurements, predict
from fitting.forecasting.posterior import FLOORS
from fitting.forecasting.results import SuiteForecast, TaskForecast
from fitting.inference.measured import SeedNoise
from fitting.report import task_tables
from fitting.report.grid import Grid
from fitting.tables import comparable, frames, points, runs_table
from fitting.tables.importers import wide
from fitting.tables.points import Target
from fitting.tables.runs_table import SCHEMA_VERSION, Table

METHODS = ("default", *methods.METHODS)


def read_runs(path, unfinished: bool = False) -> Table:
    """A runs table from a file (.csv, .jsonl, either .gz) or a folder of run directories. A wide table of losses
    (params, tokens, loss) is read as one whose only task is "loss".

    unfinished: of a folder, also runs that are not done. Raises InputError with file and line.
    """
    return runs_table.read(path, True) if unfinished else wide.read(path)


def runs_table_of(data) -> Table:
    """A runs table from a data frame or a dictionary of columns: run, n_params, tokens, step, task, metric, value. Or
    of columns params, tokens, loss, a row for each run.

    Raises InputError where a column is missing or a value cannot be used.
    """
    return wide.of_cells(frames.cells(data), "data")


class Forecast(Shown):
    """The predictions of `forecast`. Read one with `forecast[target, task]`, or iterate over all.

    Intervals are 80 % prediction intervals. prediction: the fits and the draws that the predictions come from; None for
    the paper's methods.
    """

    def __init__(self, table: Table, entries: Sequence[TaskForecast], prediction: predict.Prediction | None = None):
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
    def _loss(self) -> str:
        return self.prediction.measurements.metric if self.prediction else "bpb"

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
        from fitting.report import task_report  # imports matplotlib

        task_report.report(self.table, self._default("a report"), path)

    def plot(self, target: str, task: str, step: Literal[1, 2] = 1, ax=None):
        """Plot one step of the law with its data and the prediction. Returns the axes.

        step: 1 for bpb against training tokens, 2 for accuracy against bpb.
        """
        from fitting.report import task_figures  # imports matplotlib

        prediction = self._default("a figure")
        self[target, task]  # raises KeyError where it is not predicted
        [model] = [t for t in prediction.targets if t.name == target]
        if step == 2 and task not in prediction.step2:
            raise InputError(f"{task}: has no accuracy in the table, so no step 2", "step")
        if step == 1:
            return drawn(ax, task_figures.draw_step1, self.table, prediction, model, task, large=True)
        return drawn(ax, task_figures.draw_step2, self.table, prediction, model, task)

    def _default(self, what: str) -> predict.Prediction:
        if self.prediction is None:
            raise InputError(f"{what} needs the default method; the paper's methods have none", "method")
        return self.prediction

    def json(self) -> dict:
        """What goes into pred.json."""
        if self.prediction:
            return self.prediction.json()
        return {"schema_version": SCHEMA_VERSION, "predictions": [entry.json() for entry in self.entries]}

    def grids(self) -> list[Grid]:
        return task_tables.predictions(self.entries, self.suite, self._loss)

    def lines(self) -> list[str]:
        return task_tables.flags(self.entries)


def forecast(
    runs: Table | None = None, targets: Sequence[Target] | None = None, *, N=None, D=None, y=None,
    tasks: Sequence[str] | None = None, method: str = "default", resamples: int = 200, seed: int = 0,
    floor: str = "families",
) -> Forecast:  # fmt: skip
    """Predict bpb and accuracy of larger models from a ladder's runs.

    runs: from `read_runs` or `runs_table`; or, in its place, arrays N (parameters), D (tokens) and y (loss), an entry
    for each run. targets: by default those in the table (split "target"). tasks: by default all. method: "default", or
    the task-ladder paper's "paper", "paper-c", "paper-single", to the letter and without intervals. resamples, seed:
    resamples of the runs behind the spread of each parameter. floor: the prior of the law's E, for the default method.
    "families": about 58 % of the smallest loss, as in public families of large models. "uniform": every share of it is
    equally likely; for models of less than a million parameters. Raises InputError where nothing can be predicted, or
    where a target counts its parameters otherwise than the others.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: use one of {', '.join(METHODS)}", "method")
    _check_draws(resamples, seed)
    if floor not in FLOORS:
        raise InputError(f"floor {floor!r}: use one of {', '.join(FLOORS)}", "floor")
    if method != "default" and floor != "families":
        raise InputError(f"floor {floor}: no effect with the method {method}, which has no priors", "floor")
    arrays = {"N": N, "D": D, "y": y}
    missing = [name for name, values in arrays.items() if values is None]
    if (runs is None) == bool(missing) or (runs is not None and len(missing) < len(arrays)):
        raise InputError("give runs, or the arrays N, D and y of runs", "runs")
    if runs is None:
        runs = wide.of_points(points_of(None, {"N": N, "D": D}, y, None, None))
    targets, tasks = None if targets is None else list(targets), None if tasks is None else list(tasks)
    if method != "default":
        targets = points.targets_of(runs) if targets is None else targets
        return Forecast(runs, methods.predict(runs, targets, tasks, method))
    convention = targets[0].n_is if targets else "n_params"
    prediction = predict.predict(
        runs, targets, tasks=tasks, n_convention=convention, n_resamples=resamples, seed=seed, floor=floor
    )
    return Forecast(runs, predict.with_measured(prediction, runs), prediction)


def _check_draws(resamples: int, seed: int) -> None:
    if resamples < 2:
        raise InputError(f"{resamples} resamples: an interval needs at least 2", "resamples")
    check_resamples(resamples)
    check_seed(seed)


@dataclass(frozen=True, repr=False)
class Backtests(Shown):
    """Errors of predictions of a ladder's own held-out large runs.

    bpb, accuracy: a row for each holdout, in ln bpb and in points. flags: reasons why runs do not compare.
    """

    bpb: list[dict]
    accuracy: list[dict]
    flags: Sequence[str] = ()

    def json(self) -> dict:
        result = {"bpb": self.bpb, "accuracy": self.accuracy}
        return result | comparable.in_json(self.flags)

    def grids(self) -> list[Grid]:
        grids = [task_tables.backtests(self.bpb, "bits per byte, in percent", 100, "")]
        if self.accuracy:
            grids.append(task_tables.backtests(self.accuracy, "accuracy through both steps, in points", 1, ""))
        return grids

    def lines(self) -> list[str]:
        return [task_tables.BACKTEST_NOTE, *self.flags]


def backtest(runs: Table) -> Backtests:
    """Hide the large runs of a ladder and predict them from the others. Raises InputError where it is too short."""
    read = measurements.read(runs, None, "n_params")
    report = backtests.report(read)
    if report is None:
        raise InputError(
            f"{runs.source}: {len(read.points.runs)} runs cannot be split; a backtest needs"
            f" {backtests.MIN_FIT_RUNS} to fit"
        )
    return Backtests(report.loss, report.accuracy, diagnostics.mixed(read))


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Two recipes at a target. rows: for each task and their mean, as forecast.compare documents. flags: reasons why
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

    a, b: runs tables, or forecasts of this target. resamples, seed: of the intervals. Raises InputError where they
    share no task.
    """
    _check_draws(resamples, seed)
    predictions = []
    for runs in (a, b):
        result = runs if isinstance(runs, Forecast) else forecast(runs, [target], resamples=2)
        predictions.append(result._default("a comparison"))
    return Comparison(
        target.name, comparing.compare(*predictions, target, resamples, seed), comparing.mixed(*predictions)
    )


@dataclass(frozen=True, repr=False)
class Design(Shown):
    """The runs to train for each budget. rows: budget, runs, flops (of these runs), sd of the target's ln bpb, and
    half_width, half of its 80 % interval. flags: which noise was taken, and reasons why runs do not compare."""

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


def design(
    runs: Table, target: Target, C: Sequence[float] | float | None = None, noise: SeedNoise | None = None
) -> Design:
    """Which of a table's runs to train for budgets of C FLOPs, so that the target's error bar is smallest.

    C: by default 10, 20, 40 and 100 % of the cost of all runs. noise: between seeds, from `read_noise`; by default that
    of the runs around the law. Raises InputError where no set within a budget determines the law, or where noise has
    none of the table's tasks.
    """
    ends = points.ladder_points(runs, None, target.n_is)
    if noise is not None and not set(noise.sd) & set(ends.tasks):
        raise InputError(
            f"the measured noise is of {', '.join(noise.sd)}; {runs.source} has {', '.join(ends.tasks)}", "noise"
        )
    candidates = designing.candidates_of(ends, target, noise)
    rows = designing.frontier(candidates, () if C is None else np.atleast_1d(C))
    rows = [row | {"runs": [ends.runs[i] for i in row["runs"]]} for row in rows]
    flags = [] if noise is None else [_noise_line(noise, ends.tasks)]
    flags += diagnostics.mixed(measurements.read(runs, None, target.n_is))
    return Design(target.name, rows, float(candidates.flops_n.sum()), len(ends.runs), flags)


def _noise_line(noise: SeedNoise, tasks: Sequence[str]) -> str:
    """Which tasks have measured noise, and which that of the runs around the law."""
    known = [f"{task} {100 * noise.sd[task]:.2g} %" for task in tasks if task in noise.sd]
    others = [task for task in tasks if task not in noise.sd]
    line = f"noise between seeds, as measured: {', '.join(known)}"
    return f"{line}; of {', '.join(others)}: that of the runs around the law" if others else line
