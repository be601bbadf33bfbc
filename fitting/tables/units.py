"""Which rows of a wide table are of one run: such rows share noise, so they are not independent."""

import re
from collections.abc import Mapping, Sequence

from fitting.errors import InputError

# Columns that say which rows share noise (branches of a trunk, points of a run), whatever they hold. A row belongs to
# the first that names something.
UNITS = ("trunk", "parent", "run")
# Other names of such a column (in small letters, without blanks and signs), used where its values repeat.
RUN_NAMES = {"run", "runs", "runname", "runid", "runno", "runnumber", "runindex", "wandbrun", "wandbid", "wandbname"}
RUN_NAMES |= {"name", "displayname", "experiment", "experimentname", "experimentid", "exp", "expname", "expid"}
RUN_NAMES |= {"trial", "trialid", "trialname", "job", "jobid", "jobname", "modelid", "modelname", "training"}
RUN_NAMES |= {"trajectory", "trajectoryid", "curve", "curveid"}
EACH_ROW = "none"  # given as the column: every row is a run of its own
MANY = 5  # so many rows for each value of a column of text look like checkpoints of runs
INDEX = ("", "Unnamed: 0")  # names of the column of row numbers that pandas writes


def units(
    cells_of: Mapping[str, Sequence], features: Mapping, given: str | None, where: str
) -> tuple[str | None, list[str]]:
    """The column that names the runs (None: every row is one), and the unit of every row.

    given: the user's choice. Raises InputError if there is no such column.
    """
    n_rows = len(next(iter(cells_of.values())))
    columns = [given] if given else [name for name in UNITS if name in cells_of]
    if given == EACH_ROW and given not in cells_of:
        columns = []
    elif not columns:
        columns = [name for name in cells_of if _plain(name) in RUN_NAMES and _repeats(cells_of[name], features)][:1]
    labels = [""] * n_rows
    for name in columns:
        if name not in cells_of:
            raise InputError(
                f"{where}: no column {name!r} that names runs; its columns: {', '.join(cells_of)}", "groups"
            )
        labels = [label or _text(cell) for label, cell in zip(labels, cells_of[name], strict=True)]
    return " or ".join(columns) or None, [label or f"row {i}" for i, label in enumerate(labels)]


def flags(cells_of: Mapping[str, Sequence], features: Mapping, unit: str | None, places) -> list[str]:
    """Lines about rows that may not be independent: copies of a row and, where no column is used as the unit, one that
    looks like names of runs."""
    first, copies = {}, []
    kept = [column for name, column in cells_of.items() if name not in INDEX]
    for row, place in zip(zip(*kept, strict=True), places, strict=True):
        if (key := repr(row)) in first:
            copies.append((place, first[key]))
        first.setdefault(key, place)
    lines = []
    if copies:
        n, (copy, original) = len(copies), copies[0]
        rows = "1 row repeats" if n == 1 else f"{n} rows repeat"
        lines.append(f"{rows} an earlier one and counts again: {copy} is the same as {original}; is it a copy?")
    if unit is None:
        for name, column in cells_of.items():
            values = {_text(cell) for cell in column}
            if len(column) >= MANY * len(values) > MANY and _is_text(column) and _repeats(column, features):
                lines.append(
                    f"every row counts as a run of its own; if rows of the same {name} are checkpoints of one run, add"
                    f" --runs {name} (in Python groups={name!r})"
                )
                break
    return lines


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _text(cell) -> str:
    return "" if cell is None else str(cell).strip()


def _is_text(column: Sequence) -> bool:
    """Whether no cell is a number: settings such as a learning rate repeat too."""
    return not any(isinstance(cell, int | float) or re.fullmatch(r"[\d.eE+-]+", _text(cell)) for cell in column)


def _repeats(column: Sequence, features: Mapping) -> bool:
    """Whether values stand in several rows, and rows of the same value have one N (a run has one)."""
    labels = [_text(cell) for cell in column]
    if len(set(labels)) in (1, len(labels)):
        return False
    sizes = features.get("N", [0.0] * len(labels))
    return len(set(zip(labels, sizes, strict=True))) == len(set(labels))
