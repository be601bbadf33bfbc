"""The runs table: tidy rows, one metric of one task at one step of one run.

It is read from CSV, JSON lines or a JSON array (each also gzipped), or from a folder of run directories, checked, and
kept as numpy columns. Every error message names the file and the line.
"""

import csv
import gzip
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fitting import files
from fitting.errors import InputError
from fitting.tables import reader

SCHEMA_VERSION = 1
REQUIRED = ("run", "n_params", "tokens", "step", "task", "metric", "value")
POSITIVE = ("n_params", "tokens", "flops", "n_non_embedding", "n_total")
NUMBERS = (
    *POSITIVE,
    *("step", "value", "multiple", "seed", "peak_lr", "batch_tokens", "lr_final_fraction"),
    *("steps", "warmup_steps", "decay_steps", "parent_step"),
    *("stderr", "n_docs", "chance", "majority", "skipped_share"),
    *("d_model", "n_layers", "n_heads", "d_ff", "unique_tokens"),
)
KEY = ("run", "task", "metric", "step")
SPLITS = ("train", "extra", "target")
# Columns that must hold the same value in all rows of a run.
PER_RUN = ("n_params", "split")
SAME_TOKENS = 0.005  # relative difference below which the tokens of a run's step are the same
# Metrics that are shares of documents, and columns of such shares: 0 to 1, not percent.
SHARES, SHARE_COLUMNS = (
    ("acc", "len_norm", "acc_norm", "soft", "exact_match", "f1"),
    ("chance", "majority", "skipped_share"),
)


@dataclass(frozen=True)
class Table:
    """Columns of equal length. Text columns hold str ("" = absent), numbers float64 (nan = absent).

    columns["final"] (bool) marks the last row of each run that was decayed to its end. left_out: what was not read, or
    is not used as the table says (runs, final rows before a run's last, rows after it; of an import also files, tasks,
    columns), with the reason.
    sha256: of the file, or of the rows as `write` would write them.
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
        from fitting.tables.directories.run_directories import read_runs  # it imports Table from this module

        return read_runs(path, unfinished)
    return of_cells(reader.read(path, REQUIRED, numeric), str(path))


def numeric(header: Sequence[str]) -> tuple[str, ...]:
    """The columns of numbers, if the header is that of a runs table."""
    return NUMBERS if set(REQUIRED) <= set(header) else ()


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
    with files.replaced(path) as part:
        part.write_bytes(gzip.compress(raw, mtime=0) if path.name.endswith(".gz") else raw)


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


def _check(header, columns, places: Sequence[str], source: str, sha256: str, left_out=()) -> Table:
    """Typed, finite columns with unique keys. columns: of cells. places: "file:line" of each row."""
    columns = {name: _typed(name, cells, places) for name, cells in zip(header, columns, strict=True)}
    for name in (name for name in POSITIVE if name in columns):
        bad = np.flatnonzero(columns[name] <= 0)
        if bad.size:
            raise InputError(f"{places[bad[0]]}: {name} is {columns[name][bad[0]]:g}; it must be positive")
    bad = np.flatnonzero(columns["step"] < 0)
    if bad.size:
        raise InputError(f"{places[bad[0]]}: step is {columns['step'][bad[0]]:g}; it must not be negative")
    split = columns.get("split", np.full(len(places), "", object))
    columns["split"] = np.where(split == "", "train", split)
    bad = np.flatnonzero(~np.isin(columns["split"], SPLITS))
    if bad.size:
        raise InputError(f"{places[bad[0]]}: split is {split[bad[0]]!r}; use {', '.join(SPLITS)}")
    _check_shares(columns, places)
    _check_rows(columns, places)
    earlier = ()
    if "final" in columns:
        columns["final"], earlier = _last_final(columns, places)
    else:
        columns["final"] = _final(columns)
    return Table(columns, source, sha256, (*left_out, *earlier))


def _typed(name: str, cells, places: Sequence[str]) -> np.ndarray:
    if name in NUMBERS:
        return reader.numbers(name, cells, places, required=name in REQUIRED)
    if set(map(type, cells)) == {str}:
        stripped = {cell: cell.strip() for cell in set(cells)}
        texts = list(map(stripped.__getitem__, cells))
    else:
        texts = ["" if cell is None else str(cell).strip() for cell in cells]
    if name in ("run", "task", "metric") and "" in texts:
        raise InputError(f"{places[texts.index('')]}: {name} is empty")
    if name == "final":
        bad = [i for i, text in enumerate(texts) if text.lower() not in ("true", "false", "1", "0")]
        if bad:
            raise InputError(f"{places[bad[0]]}: final is {cells[bad[0]]!r}; use true or false")
        return np.array([text.lower() in ("true", "1") for text in texts])
    return np.array(texts, object)


def _check_shares(columns: dict, places: Sequence[str]) -> None:
    """Raises InputError if a share of documents is not between 0 and 1, or a number of bits is negative."""
    bad = np.flatnonzero((columns["metric"] == "bpb") & (columns["value"] < 0))
    if bad.size:
        raise InputError(f"{places[bad[0]]}: bpb is {columns['value'][bad[0]]:g}; it must not be negative")
    of_rows = np.isin(columns["metric"], SHARES)
    for name, checked in {"value": of_rows, **dict.fromkeys(SHARE_COLUMNS, True)}.items():
        values = columns.get(name, np.full(len(places), np.nan))
        bad = np.flatnonzero(checked & ((values < 0) | (values > 1 + 1e-9)))
        if bad.size:
            what = columns["metric"][bad[0]] if name == "value" else name
            text = f"{what} is {values[bad[0]]:g}; it must lie between 0 and 1 (percent? divide by 100)"
            raise InputError(f"{places[bad[0]]}: {text}")


def _check_rows(columns: dict, places: Sequence[str]) -> None:
    """Raises InputError if two rows have the same KEY, or two rows of a run differ in a column of PER_RUN, or two of a
    run's step in their tokens."""
    runs = _numbered(columns["run"])
    steps = _numbered(runs, columns["step"])
    rows = _numbered(steps, columns["task"], columns["metric"])
    first = _first_rows(rows)
    repeated = np.flatnonzero(first != np.arange(len(first)))
    if repeated.size:
        i = repeated[0]
        described = ", ".join(f"{name}={columns[name][i]}" for name in KEY)
        raise InputError(f"{places[i]}: {described} appears twice (first at {places[first[i]]})")
    first = _first_rows(runs)
    for name in PER_RUN:
        values = columns[name]
        differ = np.flatnonzero(values != values[first])
        if differ.size:
            i = differ[0]
            raise InputError(f"{places[i]}: run {columns['run'][i]!r} has {name} {values[first[i]]} and {values[i]}")
    tokens, before = columns["tokens"], columns["tokens"][_first_rows(steps)]
    differ = np.flatnonzero(np.abs(tokens - before) > SAME_TOKENS * before)
    if differ.size:
        i = differ[0]
        both = f"{before[i]:.15g} and {tokens[i]:.15g} tokens at step {columns['step'][i]:.15g}"
        run = columns["run"][i]
        raise InputError(f"{places[i]}: run {run!r} has {both}; give every checkpoint its step, every run its name")


def _numbered(*columns: np.ndarray) -> np.ndarray:
    """int[rows]: equal numbers, from 0 on, where the rows are equal in all columns."""
    numbers = np.zeros(len(columns[0]), int)
    for column in columns:
        if column.dtype == object:
            number_of = {text: i for i, text in enumerate(dict.fromkeys(column.tolist()))}
            column = np.fromiter(map(number_of.__getitem__, column.tolist()), int, len(column))
        else:
            column = np.unique(column, return_inverse=True)[1]
        numbers = np.unique(numbers * (column.max(initial=0) + 1) + column, return_inverse=True)[1]
    return numbers


def _first_rows(numbers: np.ndarray) -> np.ndarray:
    """[rows]: the first row with the number of each row."""
    first = np.zeros(numbers.max(initial=-1) + 1, int)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]  # of a number's rows the last one written stays
    return first[numbers]


def _final(columns: dict) -> np.ndarray:
    """bool[rows]: whether a row is at the last step of its run; False for trunks."""
    final = columns["step"] == _last_steps(columns, np.ones(len(columns["step"]), bool))
    return final & (columns["kind"] != "trunk") if "kind" in columns else final


def _last_steps(columns: dict, is_end: np.ndarray) -> np.ndarray:
    """[rows]: the largest step of the rows `is_end` of each row's run; nan where there are none."""
    runs = _numbered(columns["run"])
    last_steps = np.full(runs.max(initial=-1) + 1, -math.inf)
    np.maximum.at(last_steps, runs[is_end], columns["step"][is_end])
    return np.where(np.isinf(last_steps), math.nan, last_steps)[runs]


def _last_final(columns: dict, places: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """bool[rows]: `final` without the rows before the last final step of their run; and a line that counts those, and
    one that counts the rows after that step.

    Checkpoints that were exported one by one and joined each say that they are the end of the run. A run whose later
    rows are not final went on from a decayed checkpoint, or two runs have one name: its end is the last final row.
    """
    is_final = columns["final"]
    ends = _last_steps(columns, is_final)
    reasons = {
        "marked final before the last step of their run": is_final & (columns["step"] < ends),
        "later than the last row of their run that is marked final": columns["step"] > ends,
    }
    lines = []
    for reason, rows in reasons.items():
        if rows.any():
            n_runs, first = len(set(columns["run"][rows])), places[np.flatnonzero(rows)[0]]
            runs = "1 run" if n_runs == 1 else f"{n_runs} runs"
            lines.append(f"{rows.sum()} rows as ends of {runs}: {reason} (first at {first})")
    return is_final & (columns["step"] == ends), tuple(lines)
