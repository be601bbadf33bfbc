"""Weights & Biases as CSV: a run's history (run.history().to_csv), or a panel of several runs ("Export > CSV")."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from fitting.errors import InputError
from fitting.tables.importers.metrics import FOUNDRY_NAMES, NAMES, check_share, csv_rows, listed, number
from fitting.tables.quantities import quantity
from fitting.tables.runs_table import Table, from_rows

METRICS = NAMES | FOUNDRY_NAMES
FORMS = "TASK/bpb, TASK/bits_per_byte, TASK/acc, TASK/acc_norm, TASK/len_norm, TASK/exact_match, TASK/f1 or TASK/loss"
NOT_LOGGED = ("", "nan", "null", "none")  # what a cell without a value holds, in lower case
# Columns that count training steps beside W&B's own "_step", which counts calls of wandb.log.
STEP_NAMES = ("trainer/global_step", "train/global_step", "global_step", "iter", "iteration", "step", "time/batch")
# Columns that tell whose row it is, where histories of several runs were put together.
RUN_NAMES = ("run", "Name", "name", "run_name", "run_id", "_run")
SHOTS = re.compile(r"\d+-shot")


@dataclass(frozen=True)
class Series:
    """One metric of one run. column: the CSV's column of its values. stderr: that of their standard errors, or None."""

    run: str
    task: str
    metric: str
    column: str
    stderr: str | None


@dataclass
class Steps:
    """The cells of a history by step; of a step that stands twice (after a resume) the last value of a column counts.

    cells: {step: {column: (text, file:line)}}. The counts are of what was passed over.
    """

    cells: dict[float, dict] = field(default_factory=dict)
    rows_without_step: int = 0
    replaced: int = 0
    nan: int = 0


def is_panel(path) -> bool:
    """Whether a file is a panel's export, with columns named "RUN - METRIC"."""
    return _is_panel(csv_rows(path)[0][1])


def wandb(path, runs: dict[str, float], tokens: str, step_column: str | None = None) -> Table:
    """The metrics TASK/bpb, TASK/acc and so on of a run's history, or of the runs of a panel.

    runs: {name: parameters}; of a history, the name is free. tokens: the column with training tokens, or their number
    in a step. step_column: "_step" or "Step" unless named. Table.left_out names what was not imported. Raises
    InputError with file and line.
    """
    rows = csv_rows(path)
    place, header = rows[0][0], [column for column in rows[0][1] if column]
    is_named = step_column is not None
    step_column = _step_column(header, step_column, place)
    in_panel = _is_panel(header)
    if not in_panel:
        _check_one_run(rows, header)
    series, left_out = _panel(header, step_column, runs, path) if in_panel else _history(header, runs, path)
    if not series:
        raise InputError(f"{path}: no column {FORMS}; it has: {', '.join(header)}")
    try:
        tokens_per_step = quantity(tokens)
    except InputError:
        tokens_per_step = None
    if tokens_per_step is not None and not 0 < tokens_per_step < math.inf:
        raise InputError(f"{tokens}: tokens in a step must be positive")
    if tokens_per_step and step_column == "_step" and not is_named:
        _check_steps(rows, header)
    tokens_of = {run: f"{run} - {tokens}" if in_panel and tokens != step_column else tokens for run in runs}
    read = [one.column for one in series] + [one.stderr for one in series if one.stderr]
    read += [] if tokens_per_step else tokens_of.values()
    steps = _by_step(rows, step_column, dict.fromkeys(read))
    table, before = [], 0
    for step, cells in steps.cells.items():
        for one in series:
            if one.column not in cells:
                continue
            value, place = _cell(cells, one.column)
            seen = step * tokens_per_step if tokens_per_step else _tokens(cells, tokens_of[one.run], header, place)
            if seen <= 0:
                before += 1  # an evaluation before training: laws need D > 0
                continue
            check_share(one.metric, value, f"{place}: {one.column}")
            row = {"run": one.run, "n_params": runs[one.run], "tokens": seen, "step": step, "place": place}
            row |= {"task": one.task, "metric": one.metric, "value": value}
            table.append(row | {"stderr": _cell(cells, one.stderr)[0] if one.stderr in cells else None})
    if not table:
        raise InputError(f"{path}: no value in any of the columns {listed(one.column for one in series)}")
    known = {step_column, *read}
    others = [column for column in header if column not in known and not (in_panel and " - " in column)]
    left_out += [f"{path}: columns {listed(others)}"] if others else []
    left_out += _counts(path, steps, before, step_column)
    return from_rows(table, str(path), tuple(left_out))


def _is_panel(header: Iterable[str]) -> bool:
    names = [name for name in header if name]
    return "_step" not in names and any(" - " in name for name in names[1:])


def _step_column(header: list[str], named: str | None, place: str) -> str:
    candidates = [named] if named else ["_step", "Step"]
    for name in candidates:
        if name in header:
            return name
    raise InputError(
        f"{place}: no column {candidates[0]!r}; name the column of the training step by --step-column;"
        f" there are: {', '.join(header)}"
    )


def _check_one_run(rows: list[tuple[str, dict]], header: list[str]) -> None:
    """Raises InputError if a column names several runs: their steps would be taken for those of one."""
    for column in (column for column in RUN_NAMES if column in header):
        names = list(dict.fromkeys(str(row[column]) for _, row in rows if _is_logged(row[column])))
        if len(names) > 1:
            place = next(place for place, row in rows if str(row[column]) == names[1])
            raise InputError(
                f"{place}: the history of a second run ({column} is {names[1]!r}, before {names[0]!r}); write a file"
                " for each run"
            )


def _history(header: list[str], runs: dict[str, float], path) -> tuple[list[Series], list[str]]:
    if len(runs) != 1:
        raise InputError(f"{path}: the history of one run, and --run names {len(runs)}: {', '.join(runs)}")
    return _series(next(iter(runs)), {column: column for column in header}), []


def _panel(header: list[str], step_column: str, runs: dict[str, float], path) -> tuple[list[Series], list[str]]:
    """The series of the wanted runs of a panel, and what was left out."""
    columns, left_out = {}, []
    for column in header:
        run, dash, name = column.rpartition(" - ")
        if column != step_column and dash:
            columns.setdefault(run, {})[column] = name
    missing = [run for run in runs if run not in columns]
    if missing:
        wanted = " ".join(f"'{run}'=N" if " " in run else f"{run}=N" for run in columns)
        raise InputError(f"{path}: no run {missing[0]!r} in this panel; write --run {wanted}")
    series = []
    for run, names in columns.items():
        if run not in runs:
            left_out.append(f"{path}: run {run} (add it to --run with its parameters: {run}=N)")
            continue
        ranges = [column for column in names if column.endswith(("__MIN", "__MAX"))]
        found = _series(run, {column: name for column, name in names.items() if column not in ranges})
        series += found
        others = set(names) - {one.column for one in found} - {one.stderr for one in found}
        left_out.append(f"{path}: columns {listed(others)}") if others else None
    return series, left_out


def _series(run: str, names: dict[str, str]) -> list[Series]:
    """The known metrics among {column: name}. Where two columns have one task and metric, both keep their full path."""
    parts = {}
    for column, name in names.items():
        path, _, last = name.rpartition("/")
        if path and last in METRICS:
            folders = [folder for folder in path.split("/") if not SHOTS.fullmatch(folder)]
            parts[column] = (path, folders[-1] if folders else path, METRICS[last])
    short = [(task, metric) for _, task, metric in parts.values()]
    column_of = {name: column for column, name in names.items()}
    series = []
    for column, (path, task, metric) in parts.items():
        stderr = column_of.get(f"{names[column]}_stderr")
        series.append(Series(run, path if short.count((task, metric)) > 1 else task, metric, column, stderr))
    return series


def _by_step(rows: list[tuple[str, dict]], step_column: str, columns: Iterable[str]) -> Steps:
    steps = Steps()
    for place, row in rows:
        cells = {}
        for column in columns:
            text = row.get(column)
            if _is_logged(text):
                cells[column] = (text, place)
            else:
                steps.nan += str(text).strip().lower() == "nan"
        if not _is_logged(row[step_column]):
            steps.rows_without_step += bool(cells)
            continue
        at_step = steps.cells.setdefault(number(row, step_column, place), {})
        steps.replaced += sum(column in at_step and at_step[column][0] != text for column, (text, _) in cells.items())
        at_step |= cells
    return steps


def _is_logged(cell) -> bool:
    return str(cell).strip().lower() not in NOT_LOGGED  # an empty cell of JSON lines is None


def _check_steps(rows: list[tuple[str, dict]], header: list[str]) -> None:
    """Raises InputError where "_step" is not the training step: tokens = step x tokens in a step would be wrong."""
    for name in (name for name in STEP_NAMES if name in header):
        for place, row in rows:
            if _is_logged(row[name]) and number(row, name, place) != number(row, "_step", place):
                raise InputError(
                    f"{place}: _step is {row['_step']} and {name} is {row[name]}: say which counts training steps,"
                    f" --step-column {name} or --step-column _step"
                )


def _tokens(cells: dict, column: str, header: list[str], place: str) -> float:
    if column not in header:
        raise InputError(f"{place}: no column {column!r} of training tokens; name one, or their number in a step, by"
                         f" --tokens; there are: {', '.join(header)}")  # fmt: skip
    if column not in cells:
        raise InputError(f"{place}: no value in column {column!r} at this step; give the tokens in a step: --tokens N")
    return _cell(cells, column)[0]


def _cell(cells: dict, column: str) -> tuple[float, str]:
    text, place = cells[column]
    return number({column: text}, column, place), place


def _counts(path, steps: Steps, before: int, step_column: str) -> list[str]:
    """Notes about cells and rows that were passed over."""
    notes = []
    if steps.nan:
        notes.append(f"{path}: {steps.nan} cells that are NaN (taken as not logged at this step)")
    if steps.replaced:
        notes.append(f"{path}: {steps.replaced} values of steps that stand twice (a resume?); the last value is kept")
    if steps.rows_without_step:
        notes.append(f"{path}: {steps.rows_without_step} rows without a value in {step_column}")
    if before:
        notes.append(f"{path}: {before} values before training (0 tokens)")
    return notes
