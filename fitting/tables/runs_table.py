"""The runs table: tidy rows, one metric of one task at one step of one run.

It is read from CSV (.csv, .csv.gz), JSON lines (.jsonl, .jsonl.gz) or a folder of run directories, checked, and kept
as numpy columns. Every error message names the file and the line.
"""

import csv
import gzip
import hashlib
import io
import math
from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError
from fitting.tables import reader

SCHEMA_VERSION = 1
REQUIRED = ("run", "n_params", "tokens", "step", "task", "metric", "value")
POSITIVE = ("n_params", "tokens", "flops", "n_non_embedding", "n_total")
NUMBERS = (
    *POSITIVE,
    *("step", "value", "multiple", "seed", "peak_lr", "batch_tokens", "lr_final_fraction"),
    *("steps", "warmup_steps", "decay_steps", "parent_step"),
    *("stderr", "n_docs", "chance", "majority"),
)
KEY = ("run", "task", "metric", "step")
SPLITS = ("train", "extra", "target")
# Columns that must hold the same value in all rows of a run.
PER_RUN = ("n_params", "split")


@dataclass(frozen=True)
class Table:
    """Columns of equal length. Text columns hold str ("" = absent), numbers float64 (nan = absent).

    columns["final"] (bool) marks the last row of each run that was decayed to its end. left_out: runs that were not
    read, with the reason. sha256: of the file, or of the rows as `write` would write them.
    """

    columns: dict[str, np.ndarray]
    source: str
    sha256: str
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["run"])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise InputError(f"{self.source}: no column {name!r}, which this law needs")
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def select(self, rows: np.ndarray | None = None, **wanted) -> "Table":
        """The rows where the boolean mask `rows` is True and every named column equals the value (or one of a list)."""
        keep = np.ones(len(self), bool) if rows is None else np.array(rows, bool)
        for name, value in wanted.items():
            keep &= np.isin(self[name], list(value) if isinstance(value, list | tuple | set) else [value])
        return replace(self, columns={name: column[keep] for name, column in self.columns.items()})

    def unique(self, name: str) -> list:
        """Distinct values of a column, in order of first appearance."""
        return list(dict.fromkeys(self[name].tolist()))


def read(path, unfinished: bool = False) -> Table:
    """Read a runs table from a file or a folder of run directories (str or any path object).

    unfinished: of a folder, also read the metrics that unfinished runs have published so far. Raises InputError, one
    line that names file and line.
    """
    path = reader.as_path(path)
    if path.is_dir():
        from fitting.tables.run_directories import read_runs  # it imports Table from this module

        return read_runs(path, unfinished)
    return of_cells(reader.read(path, REQUIRED), str(path))


def of_cells(cells: reader.Cells, source: str) -> Table:
    """Cells as a checked table. Raises InputError if a check fails."""
    reader.check_header(cells.header, source, REQUIRED)
    return _check(cells.header, cells.columns, cells.places, source, cells.sha256)


def from_rows(rows: list[dict], source: str, left_out: tuple[str, ...] = ()) -> Table:
    """Rows {column: cell} as a checked table. row["place"] is the file:line that error messages name."""
    header = list(dict.fromkeys(name for row in rows for name in row if name != "place"))
    reader.check_header(header, source, REQUIRED)
    columns = [[row.get(name) for row in rows] for name in header]
    table = _check(header, columns, [row["place"] for row in rows], source, "", left_out)
    return replace(table, sha256=hashlib.sha256(_csv_text(table).encode()).hexdigest())


def write(table: Table, path) -> None:
    """Write a table as CSV (gzipped if the name ends in .gz); `read` gives the same table back."""
    path = reader.as_path(path)
    raw = _csv_text(table).encode()
    # mtime=0: no time stamp, so the same table gives the same bytes.
    path.write_bytes(gzip.compress(raw, mtime=0) if path.name.endswith(".gz") else raw)


def _csv_text(table: Table) -> str:
    names = [*REQUIRED, *(name for name in table.columns if name not in REQUIRED)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*([_cell(value) for value in table.columns[name].tolist()] for name in names), strict=True))
    return text.getvalue()


def _cell(value: str | bool | float) -> str:
    """The text of a cell; `read` gives back the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def smoothed(values_nm: np.ndarray, window: int) -> np.ndarray:
    """Trailing mean over `window` rows; of the first rows, over those up to the row (Bhagia et al. 2024, step 2)."""
    sums = np.cumsum(values_nm, axis=0)
    sums[window:] = sums[window:] - sums[:-window]
    counts = np.minimum(np.arange(1, len(values_nm) + 1), window)
    return sums / counts.reshape(-1, *[1] * (np.ndim(values_nm) - 1))


def _check(header, columns, places: list[str], source: str, sha256: str, left_out=()) -> Table:
    """Typed, finite columns with unique keys. columns: of cells. places: "file:line" of each row."""
    columns = {name: _typed(name, cells, places) for name, cells in zip(header, columns, strict=True)}
    for name in (name for name in POSITIVE if name in columns):
        bad = np.flatnonzero(columns[name] <= 0)
        if bad.size:
            raise InputError(f"{places[bad[0]]}: {name} is {columns[name][bad[0]]:g}; it must be positive")
    split = columns.get("split", np.full(len(places), "", object))
    columns["split"] = np.where(split == "", "train", split)
    bad = np.flatnonzero(~np.isin(columns["split"], SPLITS))
    if bad.size:
        raise InputError(f"{places[bad[0]]}: split is {split[bad[0]]!r}; use {', '.join(SPLITS)}")
    _check_rows(columns, places)
    if "final" not in columns:
        columns["final"] = _final(columns)
    return Table(columns, source, sha256, left_out)


def _typed(name: str, cells, places: list[str]) -> np.ndarray:
    if name in NUMBERS:
        return reader.numbers(name, cells, places, required=name in REQUIRED)
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    for text, cell, place in zip(texts, cells, places, strict=True):
        if name in ("run", "task", "metric") and not text:
            raise InputError(f"{place}: {name} is empty")
        if name == "final" and text.lower() not in ("true", "false", "1", "0"):
            raise InputError(f"{place}: final is {cell!r}; use true or false")
    if name == "final":
        return np.array([text.lower() in ("true", "1") for text in texts])
    return np.array(texts, object)


def _check_rows(columns: dict, places: list[str]) -> None:
    """Raises InputError if two rows have the same KEY, or two rows of a run differ in a column of PER_RUN."""
    first_row, first_value = {}, {}
    for i, key in enumerate(zip(*(columns[name].tolist() for name in KEY), strict=True)):
        if key in first_row:
            described = ", ".join(f"{name}={value}" for name, value in zip(KEY, key, strict=True))
            raise InputError(f"{places[i]}: {described} appears twice (first at {places[first_row[key]]})")
        first_row[key] = i
    for name in PER_RUN:
        for run, value, place in zip(columns["run"], columns[name].tolist(), places, strict=True):
            first = first_value.setdefault((name, run), value)
            if first != value:
                raise InputError(f"{place}: run {run!r} has {name} {first} and {value}")


def _final(columns: dict) -> np.ndarray:
    """bool[rows]: whether a row is at the last step of its run; False for trunks."""
    last_step = {}
    for run, step in zip(columns["run"], columns["step"], strict=True):
        last_step[run] = max(step, last_step.get(run, -math.inf))
    final = np.array([step == last_step[run] for run, step in zip(columns["run"], columns["step"], strict=True)])
    return final & (columns["kind"] != "trunk") if "kind" in columns else final
