"""The forecast of a ladder's targets so far, and how its interval narrowed as runs finished.

It is `ladder predict` of the runs that are done. What it was after each earlier run is computed again from those that
had finished by then, so nothing has to be kept on disk.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError as FitInputError
from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.rundir.record import Record
from launch.scheduler import submission
from launch.scheduler.status import Status

MAIN_TASK = "validation"
MOST_STEPS = 16  # of a history


@dataclass(frozen=True)
class Step:
    """The forecast after `n_runs` runs, with its 80 % interval."""

    n_runs: int
    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """Of one target. task, unit: of the history. grids: fitting.report's tables of all tasks. measured: of the target's
    own run. missing: why there is no forecast yet; "" where there is one."""

    target: str
    task: str = ""
    unit: str = ""
    history: tuple[Step, ...] = ()
    grids: tuple = ()
    measured: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Forecasts:
    """of_targets: a Forecast each. missing: why there is none; "" where there are some. left_out: {run: why it is in no
    forecast}. n_rungs: how many runs there are to learn from."""

    of_targets: tuple[Forecast, ...] = ()
    missing: str = ""
    left_out: dict[str, str] | None = None
    n_rungs: int = 0


class Forecaster:
    """Makes forecasts again and again: a run that is done is read once, and nothing is fitted until another is done.

    targets: fitting's Targets; None for those of the ladder that was submitted from this folder, or else of its runs
    of split "target".
    """

    def __init__(self, folder, targets: Sequence | None = None):
        self._folder, self._targets = as_path(str(folder)), targets
        self._rows: dict[str, list[dict]] = {}
        self._left_out: dict[str, str] = {}
        self._steps: dict[tuple, Step | None] = {}
        self._latest: tuple[tuple, Forecasts] = ((), Forecasts())

    def read(self, runs: Iterable[Status]) -> Forecasts:
        """Raises nothing: what stands in the way of a forecast is said in `missing`."""
        rungs = [run for run in runs if run.size]
        done = [run for run in rungs if run.state == "done"]
        done.sort(key=lambda run: run.last_beat or run.last_try)  # by when they finished
        key = tuple(run.run_id for run in done), len(rungs)
        if key != self._latest[0]:
            self._latest = key, self._forecasts(done, rungs)
        return self._latest[1]

    def _forecasts(self, done: list[Status], rungs: list[Status]) -> Forecasts:
        n_rungs = sum(map(_teaches, rungs))
        try:
            targets = self._known_targets(rungs)
        except (InputError, FitInputError, KeyError, OSError) as error:
            return Forecasts(missing=f"The targets cannot be read: {error}.", n_rungs=n_rungs)
        if not targets:
            return Forecasts(missing="No target to predict is known: ladder submit writes it down.", n_rungs=n_rungs)
        if not any(map(_teaches, done)):
            of_targets = tuple(Forecast(target.name, missing="No run is done yet.") for target in targets)
            return Forecasts(of_targets, n_rungs=n_rungs)
        self._read_rows(done)
        names = [run.run_id for run in done if run.run_id in self._rows]
        learned = [run.run_id for run in done if _teaches(run) and run.run_id in self._rows]
        of_targets = tuple(self._of_target(target, names, learned) for target in targets)
        return Forecasts(of_targets, left_out=dict(self._left_out), n_rungs=n_rungs)

    def _known_targets(self, rungs: list[Status]) -> list:
        from fitting.tables.points import Target

        if self._targets is not None:
            return list(self._targets)
        try:
            fits = [job for job in submission.read(self._folder).jobs if job.is_fit]
        except submission.NothingSubmitted:
            fits = []
        for fit in fits:
            written = Record(fit.directory).read_config()["targets"]
            return [Target(target["name"], target["n_params"], target["tokens"]) for target in written]
        of_split = [run for run in rungs if run.split == "target" and run.n_params]
        return [Target(run.run_id, float(run.n_params), float(run.steps * run.batch_tokens)) for run in of_split]

    def _read_rows(self, done: list[Status]) -> None:
        from fitting.tables.directories import run_directories

        for run in done:
            if run.run_id in self._rows or run.run_id in self._left_out:
                continue
            try:
                rows = run_directories.rows_of_run(self._folder / run.run_id)
                self._rows[run.run_id] = [row for row in rows if row.get("task") != "train"]
            except (FitInputError, OSError) as error:
                self._left_out[run.run_id] = str(error)

    def _table(self, names: list[str]):
        from fitting.tables import runs_table

        return runs_table.from_rows([row for name in names for row in self._rows[name]], str(self._folder))

    def _of_target(self, target, names: list[str], learned: list[str]) -> Forecast:
        from fitting.forecasting import predict
        from fitting.report import task_tables

        try:
            table = self._table(names)
            latest = predict.predict(table, [target])
        except FitInputError as error:
            return Forecast(target.name, missing=_sentence(error, self._folder))
        entries = predict.with_measured(latest, table)
        predicted = [entry for entry in entries if entry.bpb_interval]
        grids = tuple(task_tables.predictions(entries, (), latest.measurements.metric))
        if not predicted:
            return Forecast(target.name, grids=grids, missing="No task has a forecast of its loss yet.")
        main = next((entry for entry in predicted if entry.task == MAIN_TASK), predicted[0])
        steps = [self._step(target, main.task, learned[:n]) for n in _lengths(len(learned), predict.MIN_RUNS)]
        last = Step(len(learned), main.bpb_interval[0], main.bpb, main.bpb_interval[1])
        history = (*(step for step in steps if step), last)
        unit = latest.measurements.loss_name
        return Forecast(target.name, main.task, unit, history, grids, main.measured_bpb)

    def _step(self, target, task: str, names: list[str]) -> Step | None:
        """The forecast of these runs alone; None where there was none yet."""
        from fitting.forecasting import predict

        key = target.name, task, tuple(names)
        if key not in self._steps:
            try:
                entry = predict.predict(self._table(names), [target], tasks=[task]).tasks[0]
            except FitInputError:
                entry = None
            ends = entry and entry.bpb_interval
            self._steps[key] = Step(len(names), ends[0], entry.bpb, ends[1]) if ends else None
        return self._steps[key]


def _teaches(run: Status) -> bool:
    """Whether its end enters the fit: it is no target, and no trunk, whose rate never decays."""
    return run.split != "target" and run.kind != "trunk"


def _lengths(n: int, fewest: int) -> list[int]:
    """After how many runs the forecast is shown, before the latest: each, or as many as MOST_STEPS, evenly in ratio."""
    if n - fewest < MOST_STEPS:
        return list(range(fewest, n))
    return sorted({round(length) for length in np.geomspace(fewest, n, MOST_STEPS + 1)[:-1]})


def _sentence(error: Exception, folder) -> str:
    reason = str(error).removeprefix(f"{folder}: ").removeprefix("no task can be predicted: ")
    return f"No forecast yet: {reason}."
