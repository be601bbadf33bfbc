"""CSV and JSON-lines files as columns of cells, with the line number of each row."""

import csv
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitting.errors import InputError


@dataclass(frozen=True)
class Cells:
    """header: column names. columns: one sequence of cells (text or JSON values) per column. places: "file:line" of
    each row. sha256: of the file."""

    header: list[str]
    columns: list
    places: list[str]
    sha256: str


def read(path, required: tuple[str, ...] = ()) -> Cells:
    """Read a .csv or .jsonl file, gzipped if its name ends in .gz (str or any path object).

    Raises InputError, which names file and line, if the file is not readable or lacks a required column.
    """
    path = as_path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    raw, text = content(path)
    parse = _jsonl_rows if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")) else _csv_rows
    header, columns, lines = parse(text, str(path), required)
    if not lines:
        raise InputError(f"{path}: the table has a header and no rows")
    return Cells(header, columns, [f"{path}:{line}" for line in lines], hashlib.sha256(raw).hexdigest())


def as_path(path):
    """The path object of a str: a local one, or one in a bucket (gs://...). A path object is returned unchanged."""
    if not isinstance(path, str):
        return path
    if "://" in path:
        from etils import epath

        return epath.Path(path)
    return Path(path)


def content(path) -> tuple[bytes, str]:
    """A file's bytes, and its text (unzipped if the name ends in .gz)."""
    try:
        raw = path.read_bytes()
        return raw, (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text: {' '.join(str(error).split())}") from None


def _csv_rows(text: str, source: str, required: tuple[str, ...]):
    """Return the header, the columns of cells, and the line number of each row."""
    reader = csv.reader(io.StringIO(text), strict=True)
    rows, lines = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        check_header(header, f"{source}:1", required)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{source}:{reader.line_num}: {len(row)} fields, the header has {len(header)}")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{source}:{reader.line_num}: not CSV: {error}") from None
    return header, list(zip(*rows, strict=True)), lines


def _jsonl_rows(text: str, source: str, required: tuple[str, ...]):
    """The same as `_csv_rows`; a key that a line lacks is None."""
    by_line = dict(json_lines(text, source))
    objects = by_line.values()
    header = list(dict.fromkeys(name for row in objects for name in row))
    check_header(header, f"{source}:1", required)
    return header, [[row.get(name) for row in objects] for name in header], list(by_line)


def json_lines(text: str, source: str) -> Iterator[tuple[int, dict]]:
    """(line number, object) of every line that is not blank."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, json_object(line, f"{source}:{number}")


def json_object(line: str, where: str) -> dict:
    """The JSON object that a line holds."""
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        raise InputError(f"{where}: not a JSON object ({reason}); is the file cut off?") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: not a JSON object, but {type(value).__name__}")
    return value


def check_header(header: list[str], where: str, required: Sequence[str]) -> None:
    """Raises InputError if a required column is missing or two columns have the same name."""
    missing = [name for name in required if name not in header]
    if missing:
        raise InputError(f"{where}: no column {', '.join(missing)}; required: {', '.join(required)}")
    duplicates = [name for name in header if header.count(name) > 1]
    if duplicates:
        raise InputError(f"{where}: column {duplicates[0]!r} appears twice")


def numbers(name: str, cells: Sequence, places: Sequence[str], *, required: bool) -> np.ndarray:
    """float64[rows]; an empty cell is nan. Raises InputError for any other cell that is not a finite number, and for an
    empty cell if the column is required."""
    values = np.full(len(cells), math.nan)
    for i, (cell, place) in enumerate(zip(cells, places, strict=True)):
        if cell is None or cell == "":
            if required:
                raise InputError(f"{place}: {name} is empty")
            continue
        try:
            values[i] = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{place}: {name} is {str(cell)[:40]!r}, not a number") from None
        if not math.isfinite(values[i]):
            raise InputError(f"{place}: {name} is {cell!r}, not a finite number; drop the row")
    return values
