"""CSV and JSON-lines files as columns of cells, with the line number of each row."""

import contextlib
import hashlib
import json
import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitting.errors import InputError
from fitting.tables import spreadsheet
from fitting.tables.files import content

_BLANKS = re.compile(r"\s*")


@dataclass(frozen=True)
class Cells:
    """header: column names. columns: one sequence of cells (text or JSON values) per column. places: "file:line" of
    each row. sha256: of the file."""

    header: list[str]
    columns: list
    places: Sequence[str]
    sha256: str


def read(path, required: tuple[str, ...] = (), numeric: Callable = lambda header: ()) -> Cells:
    """Read a table of any name (str or any path object): CSV, JSON lines or a JSON array of objects, also gzipped.

    The separator (, ; tab |), decimal commas and the encoding are read from the content. numeric(header): names of the
    columns of a CSV that are read as numbers where they hold nothing else, which saves time and memory. Raises
    InputError, which names file and line, if the file is not readable or lacks a required column.
    """
    path = as_path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    raw, text = content(path)
    if not text or text.isspace():
        raise InputError(f"{path}: the file is empty ({len(raw)} bytes): no header and no rows")
    sha256 = hashlib.sha256(raw).hexdigest()
    del raw
    is_json = text.lstrip()[0] in "[{"
    parsed = _json_rows(text, str(path)) if is_json else spreadsheet.parse(text, str(path), numeric)
    header, columns, lines, header_line = parsed
    check_header(header, f"{path}:{header_line}", required)
    if not lines:
        raise InputError(f"{path}: the table has a header and no rows")
    return Cells(header, columns, spreadsheet.Places(str(path), lines), sha256)


def as_path(path):
    """The path object of a str: a local one, or one in a bucket (gs://...). A path object is returned unchanged."""
    if not isinstance(path, str):
        return path
    if "://" in path:
        from etils import epath

        return epath.Path(path)
    return Path(path)


def _json_rows(text: str, source: str) -> tuple[list[str], list[list], list[int], int]:
    """The same as spreadsheet.parse; a key that an object lacks is None."""
    pairs = list(_array_items(text, source) if text.lstrip().startswith("[") else _objects(text, source))
    objects = [row for _, row in pairs]
    header = list(dict.fromkeys(name for row in objects for name in row))
    return header, [[row.get(name) for row in objects] for name in header], [line for line, _ in pairs], 1


def _objects(text: str, source: str) -> Iterator[tuple[int, dict]]:
    """(line number, object) of JSON lines. Raises InputError if the whole text is one object."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = {}  # several objects, or damaged
    if whole and all(isinstance(value, dict | list) for value in whole.values()):
        remedy = "write an array of objects (pandas: to_json(FILE, orient='records')) or CSV"
        if "results" in whole:
            remedy = "if it is of lm-evaluation-harness: ladder export FILE --source lm-eval"
        raise InputError(f"{source}: one JSON object (with {', '.join(whole)[:80]}), not the rows of a table; {remedy}")
    return iter([(1, whole)]) if whole else json_lines(text, source)


def _array_items(text: str, source: str) -> Iterator[tuple[int, dict]]:
    """(line number, object) of every item of a JSON array."""
    decode, at, line, counted = json.JSONDecoder().raw_decode, text.index("[") + 1, 1, 0
    while True:
        at = _BLANKS.match(text, at).end()
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]" and not text[at + 1 :].strip():
            return
        try:
            item, at = decode(text, at)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}:{line}: not a JSON array ({_reason(error)}); is the file cut off?") from None
        if not isinstance(item, dict):
            raise InputError(f"{source}:{line}: an item of the JSON array is not an object, but {type(item).__name__}")
        yield line, item
        at = _BLANKS.match(text, at).end()
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            raise InputError(f"{source}:{line}: not a JSON array (no comma or ] behind the item); is the file cut off?")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))


def json_lines(text: str, source: str) -> Iterator[tuple[int, dict]]:
    """(line number, object) of every line that is not blank."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, json_object(line, f"{source}:{number}")


def json_object(line: str, where: str) -> dict:
    """The JSON object that a line holds."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a JSON object ({_reason(error)}); is the file cut off?") from None
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
    """float64[rows]; a cell without a value is nan. Raises InputError for any other cell that is not a finite number,
    and for one without a value if the column is required."""
    if isinstance(cells, array):  # of numbers that are finite
        return np.array(cells)
    if set(map(type, cells)) <= {str, float}:
        distinct = list(set(cells))
        with contextlib.suppress(InputError):  # the loop below says which row it is
            values = _numbers(name, distinct, [""] * len(distinct), required)
            value_of = dict(zip(distinct, values.tolist(), strict=True))
            return np.fromiter(map(value_of.__getitem__, cells), float, len(cells))
    return _numbers(name, cells, places, required)


def _numbers(name: str, cells: Sequence, places: Sequence[str], required: bool) -> np.ndarray:
    """The same, cell by cell."""
    values = np.full(len(cells), math.nan)
    for i, cell in enumerate(cells):
        if cell is None or cell == "":
            if required:
                raise InputError(f"{places[i]}: {name} is empty")
            continue
        if not required and (spreadsheet.is_missing(cell) or cell != cell):
            continue
        try:
            values[i] = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            remedy = "; drop the row" if spreadsheet.is_missing(cell) else ""
            remedy = f"; {spreadsheet.MEND_NUMBERS}" if isinstance(cell, str) and "," in cell else remedy
            raise InputError(f"{places[i]}: {name} is {str(cell)[:40]!r}, not a number{remedy}") from None
        if not math.isfinite(values[i]):
            raise InputError(f"{places[i]}: {name} is {cell!r}, not a finite number; drop the row")
    return values
