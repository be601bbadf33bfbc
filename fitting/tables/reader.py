"""Files of rows, CSV or JSON lines, as columns of cells with the line that each row stands in."""

import csv
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitting.errors import InputError


@dataclass(frozen=True)
class Cells:
    """header: names of the columns. columns: their cells, text or JSON values. places: "file:line" of each row."""

    header: list[str]
    columns: list
    places: list[str]
    sha256: str


def read(path, required: tuple[str, ...] = ()) -> Cells:
    """Read .csv or .jsonl, either .gz (str or any path object).

    Raises InputError, one line with file and line, where the file is not readable or lacks a required column.
    """
    path = Path(path) if isinstance(path, str) else path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    raw, text = content(path)
    parse = _jsonl_rows if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")) else _csv_rows
    header, columns, lines = parse(text, str(path), required)
    if not lines:
        raise InputError(f"{path}: the table has a header and no rows")
    return Cells(header, columns, [f"{path}:{line}" for line in lines], hashlib.sha256(raw).hexdigest())


def content(path) -> tuple[bytes, str]:
    """A file's bytes, and its text (unzipped where the name ends in .gz)."""
    try:
        raw = path.read_bytes()
        return raw, (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text: {' '.join(str(error).split())}") from None


def _csv_rows(text: str, source: str, required):
    """-> (header, columns of cells, line number of each row)."""
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


def _jsonl_rows(text: str, source: str, required):
    objects, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            objects.append(json_object(line, f"{source}:{number}"))
            lines.append(number)
    header = list(dict.fromkeys(name for o in objects for name in o))
    check_header(header, f"{source}:1", required)
    return header, [[o.get(name) for o in objects] for name in header], lines


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


def check_header(header: list[str], where: str, required: Iterable[str]) -> None:
    """Raises InputError where a required column is missing or a column stands twice."""
    missing = [name for name in required if name not in header]
    if missing:
        raise InputError(f"{where}: no column {', '.join(missing)}; required: {', '.join(required)}")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{where}: column {twice[0]!r} stands twice")


def numbers(name: str, cells, where: Callable[[int], str], *, required: bool) -> np.ndarray:
    """float64[rows]; an empty cell is nan unless the column is required. where(i): the place of row i."""
    out = np.empty(len(cells))
    for i, cell in enumerate(cells):
        if cell is None or cell == "":
            if required:
                raise InputError(f"{where(i)}: {name} is empty")
            out[i] = math.nan
            continue
        try:
            out[i] = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where(i)}: {name} is {str(cell)[:40]!r}, not a number") from None
        if not math.isfinite(out[i]):
            raise InputError(f"{where(i)}: {name} is {cell!r}, not a finite number; drop the row")
    return out
