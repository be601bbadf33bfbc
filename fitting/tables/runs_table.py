"""The runs table: tidy rows, one metric of one task at one step of one run.

It is read from CSV (.csv, .csv.gz), JSON lines (.jsonl, .jsonl.gz) or a folder of run directories,
checked on the way in, and kept as numpy columns. Every complaint names the file and the line.
"""

import csv
import gzip
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path

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
# What must be the same in all rows of a run.
PER_RUN = ("n_params", "split")


@dataclass(frozen=True)
class Table:
    """Columns of equal length. Text columns hold str ("" = absent), numbers float64 (nan = absent).

    `final` (bool) marks the last row of each run that was decayed to its end. left_out: runs found
    but not read, with the reason. sha256: of the file, or of the rows as `write` would write them.
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
        """Rows where every named column equals the value (or is among a list of values).

        rows: a boolean mask or indices, applied first.
        """
        keep = np.ones(len(self), bool)
        if rows is not None:
            keep = np.zeros(len(self), bool)
            keep[rows] = True
        for name, value in wanted.items():
            values = list(value) if isinstance(value, list | tuple | set) else [value]
            keep &= np.isin(self[name], values)
        columns = {k: v[keep] for k, v in self.columns.items()}
        return Table(columns, self.source, self.sha256, self.left_out)

    def unique(self, name: str) -> list:
        """Distinct values of a column in the order of their first row."""
        return list(dict.fromkeys(self[name].tolist()))


def read(path, unfinished: bool = False) -> Table:
    """Read a runs table from a file or a folder of run directories (str or any path object).

    unfinished: also directories of runs that are not done, as far as they have published their metrics.
    Raises InputError, one line, with file and line where there is one.
    """
    path = Path(path) if isinstance(path, str) else path
    if path.is_dir():
        from fitting.tables.run_directories import read_runs  # which makes a Table

        return read_runs(path, unfinished)
    return of_cells(reader.read(path, REQUIRED), str(path))


def of_cells(cells: reader.Cells, source: str) -> Table:
    """Cells as a checked table. Raises InputError."""
    reader.check_header(cells.header, source, REQUIRED)
    return _check(cells.header, cells.columns, cells.places, source, cells.sha256)


def from_rows(rows: list[dict], source: str, left_out: tuple[str, ...] = ()) -> Table:
    """Rows {column: cell} as a checked table; "place" of a row (file:line) is where a complaint points to."""
    header = list(dict.fromkeys(name for row in rows for name in row if name != "place"))
    reader.check_header(header, source, REQUIRED)
    columns = [[row.get(name) for row in rows] for name in header]
    table = _check(header, columns, [r["place"] for r in rows], source, "", left_out)
    sha256 = hashlib.sha256(_csv_text(table).encode()).hexdigest()
    return Table(table.columns, table.source, sha256, table.left_out)


def write(table: Table, path) -> None:
    """Write a table as CSV (.gz where the name says so); `read` gives the same table back."""
    path = Path(path) if isinstance(path, str) else path
    raw = _csv_text(table).encode()
    # No time stamp in the header: the same table gives the same bytes.
    path.write_bytes(gzip.compress(raw, mtime=0) if path.name.endswith(".gz") else raw)


def _csv_text(table: Table) -> str:
    names = [*REQUIRED, *(n for n in table.columns if n not in REQUIRED)]
    columns = [_written(table.columns[n]) for n in names]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def _written(column: np.ndarray) -> list[str]:
    if column.dtype == bool:
        return ["true" if v else "false" for v in column.tolist()]
    if column.dtype.kind != "f":
        return column.tolist()
    return [_written_number(v) for v in column.tolist()]


def _written_number(v: float) -> str:
    if math.isnan(v):
        return ""
    return str(int(v)) if v.is_integer() and abs(v) < 2**53 else repr(v)


# Rows to points: how the paper and we read a curve of evaluations -------------------------------


def smoothed(values_nm: np.ndarray, window: int) -> np.ndarray:
    """Trailing mean over `window` rows; the first rows average what there is (Bhagia et al. 2024, step 2)."""
    sums = np.cumsum(values_nm, axis=0)
    sums[window:] = sums[window:] - sums[:-window]
    counts = np.minimum(np.arange(1, len(values_nm) + 1), window)
    return sums / counts.reshape(-1, *[1] * (np.ndim(values_nm) - 1))


# Run directories --------------------------------------------------------------------------------


# Checks -----------------------------------------------------------------------------------------


def _check(header, columns, places, source: str, sha256: str, left_out=()) -> Table:
    """Typed, finite columns with unique keys. columns: of cells. places: "file:line" of each row."""

    def where(i) -> str:
        return places[i]

    columns = {n: _typed(n, c, where) for n, c in zip(header, columns, strict=True)}
    for name in (n for n in POSITIVE if n in columns):
        bad = np.flatnonzero(columns[name] <= 0)
        if bad.size:
            raise InputError(f"{where(bad[0])}: {name} is {columns[name][bad[0]]:g}; it must be positive")
    if "split" in columns:
        columns["split"] = np.where(columns["split"] == "", "train", columns["split"])
        bad = np.flatnonzero(~np.isin(columns["split"], SPLITS))
        if bad.size:
            raise InputError(f"{where(bad[0])}: split is {columns['split'][bad[0]]!r}; use {', '.join(SPLITS)}")
    else:
        columns["split"] = np.full(len(places), "train", object)
    _check_keys(columns, where)
    for name in PER_RUN:
        _check_constant(columns, name, where)
    if "final" not in columns:
        columns["final"] = _final(columns)
    return Table(columns, source, sha256, left_out)


def _typed(name: str, column, where) -> np.ndarray:
    if name == "final":
        return np.array([_truth(c, where(i)) for i, c in enumerate(column)])
    if name in NUMBERS:
        return reader.numbers(name, column, where, required=name in REQUIRED)
    typed = np.array(["" if c is None else str(c).strip() for c in column], object)
    if name in ("run", "task", "metric") and (typed == "").any():
        raise InputError(f"{where(int((typed == '').argmax()))}: {name} is empty")
    return typed


def _truth(cell, where: str) -> bool:
    text = str(cell).strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise InputError(f"{where}: final is {cell!r}; use true or false")
    return text in ("true", "1")


def _check_keys(columns: dict, where) -> None:
    seen = {}
    for i, key in enumerate(zip(*(columns[n].tolist() for n in KEY), strict=True)):
        if key in seen:
            named = ", ".join(f"{n}={v}" for n, v in zip(KEY, key, strict=True))
            raise InputError(f"{where(i)}: {named} stands twice (first at {where(seen[key])})")
        seen[key] = i


def _check_constant(columns: dict, name: str, where) -> None:
    first = {}
    for i, (run, value) in enumerate(zip(columns["run"], columns[name].tolist(), strict=True)):
        if first.setdefault(run, value) != value:
            raise InputError(f"{where(i)}: run {run!r} has {name} {first[run]} and {value}")


def _final(columns: dict) -> np.ndarray:
    """Rows at the last step of their run, trunks excepted."""
    last = {}
    for run, step in zip(columns["run"], columns["step"], strict=True):
        last[run] = max(step, last.get(run, -math.inf))
    final = np.array([s == last[r] for r, s in zip(columns["run"], columns["step"], strict=True)])
    return final & (columns["kind"] != "trunk") if "kind" in columns else final
