"""CSV as spreadsheets and scripts of any country write it: other separators, decimal commas, empty columns, N/A."""

import contextlib
import csv
import io
import itertools
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError

SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n")  # the first line that Excel writes and reads
_LINE_ENDS = re.compile(r"\s*[\r\n]+\s*")  # of headings that are wrapped in their cell
_ROWS_AT_ONCE = 4096
_BLOCK = 2**16  # characters that are parsed at once: their cells stay in the cache of a core
# Words for "no value"; nan and None are what pandas and Python write.
_NO_VALUE = {"", "n/a", "na", "#n/a", "#na", "<na>", "n.a.", "nan", "null", "none", "-", "--", "?"}
_NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
MEND_NUMBERS = "write numbers with a decimal point and no thousands separators"


def is_missing(cell) -> bool:
    """Whether a cell holds no value: empty, or a word such as N/A."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in _NO_VALUE)


def parse(text: str, source: str, numeric: Callable) -> tuple[list[str], list[Sequence], Sequence[int], int]:
    """The header, the columns of cells, the line number of each row, and that of the header.

    numeric(header): names of columns that become an array of doubles where every cell is a finite number. Empty rows,
    and empty columns without a name, are left out. Raises InputError with file and line.
    """
    separator, skipped = _separator(text)
    header, header_line, columns, lines, line = [], 1, _Columns(), array("q"), 0
    for block in _blocks(text):
        cells = _split(block, separator, len(header)) if header else None
        if cells is not None:
            columns.extend(cells)
            lines.extend(range(line + 1, line + 1 + len(cells[0])))
        else:
            for row, number in _csv_rows(block, separator, source, line, 0 if line else skipped):
                if not header:
                    header, header_line = [_LINE_ENDS.sub(" ", name.strip()) for name in row], number
                    columns.begin(header, numeric(header) if separator == "," else ())
                    continue
                columns.append(_of_length(row, len(header), f"{source}:{number}"))
                lines.append(number)
            columns.flush()
        line += block.count("\n") + block.count("\r") - block.count("\r\n")
    if len(header) == 1 and len(header[0].split()) > 1:
        raise InputError(f"{source}:{header_line}: blanks separate the columns; separate them by commas or tabs")
    header, cells = _without_empty_columns(header, columns.cells, f"{source}:{header_line}")
    if separator != ",":
        cells = _with_points(header, cells, Places(source, lines))
    return header, cells, lines, header_line


@dataclass(frozen=True, eq=False)
class Places(Sequence):
    """ "file:line" of each row, written when it is asked for."""

    source: str
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, i: int) -> str:
        return f"{self.source}:{self.lines[i]}"

    def __eq__(self, other) -> bool:
        return list(self) == list(other)


class _Columns:
    """Columns of cells that grow by rows or blocks. Cells of a column with the same text become one string, because
    names and sizes repeat; not in a column where most cells differ."""

    def __init__(self):
        self.begin([], ())

    def begin(self, header: Sequence[str], numeric: Sequence[str]) -> None:
        self.cells: list = [array("d") if name in numeric else [] for name in header]
        self._rows, self._known = [], [{} for _ in header]

    def append(self, row: list[str]) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self.extend([list(cells) for cells in zip(*self._rows, strict=True)])
            self._rows = []

    def extend(self, block: list[list[str]]) -> None:
        for i, cells in enumerate(block):
            if isinstance(self.cells[i], array):
                if values := _finite(cells):
                    self.cells[i].frombytes(values)
                    continue
                self.cells[i] = list(self.cells[i])
            if (known := self._known[i]) is not None:
                self.cells[i] += map(known.setdefault, cells, cells)
                if len(known) > len(self.cells[i]) / 2 > _ROWS_AT_ONCE / 2:
                    self._known[i] = None
            else:
                self.cells[i] += cells


def _finite(cells: list[str]) -> bytes | None:
    """The numbers that the cells hold, as bytes of doubles; None if one holds none, or nan or infinity."""
    try:
        values = np.fromiter(map(float, cells), float, len(cells))
    except ValueError:
        return None
    return values.tobytes() if np.isfinite(values).all() else None


def _blocks(text: str) -> Iterator[str]:
    """Parts of the text that end at the end of a line; the whole text where a cell may hold a line end."""
    if '"' in text:
        yield text
        return
    at = 0
    while at < len(text):
        end = text.find("\n", at + _BLOCK) + 1 or len(text)
        yield text[at:end]
        at = end


def _split(block: str, separator: str, n: int) -> list[list[str]] | None:
    """The cells of n columns, or None if the block needs the csv module or has an empty row or a wrong one."""
    block = block.replace("\r\n", "\n")
    if '"' in block or "\r" in block:
        return None
    lines = block.removesuffix("\n").split("\n")
    if set(map(str.count, lines, itertools.repeat(separator))) != {n - 1}:
        return None
    cells = separator.join(lines).split(separator)
    columns = [cells[i::n] for i in range(n)]
    return columns if all(map(str.strip, columns[0])) else None


def _csv_rows(block: str, separator: str, source: str, before: int, skipped: int) -> Iterator[tuple[list[str], int]]:
    """(cells, line number) of the rows that are not empty. before: lines before the block. skipped: rows to skip."""
    reader = csv.reader(_lines(block), delimiter=separator, strict=True)
    try:
        for row in itertools.islice(reader, skipped, None):
            if any(map(str.strip, row)):
                yield row, before + reader.line_num
    except csv.Error as error:
        raise InputError(f"{source}:{before + reader.line_num}: not CSV: {error}") from None


def _lines(text: str) -> Iterator[str]:
    """The lines of a text with their ends. Not io.StringIO(text), which takes four bytes a character."""
    at = 0
    while at < len(text):
        end = text.find("\n", at + _BLOCK) + 1 or len(text)
        yield from io.StringIO(text[at:end], newline="")
        at = end


def _of_length(row: list[str], n: int, place: str) -> list[str]:
    """The row without empty cells behind its end. Raises InputError if it has not n cells."""
    if len(row) > n and not any(cell.strip() for cell in row[n:]):
        row = row[:n]
    if len(row) != n:
        raise InputError(f"{place}: {len(row)} fields, the header has {n}")
    return row


def _separator(text: str) -> tuple[str, int]:
    """The separator, and how many lines precede the header: the one that gives header and first row the same number of
    fields, or else the header the most."""
    if match := _SEPARATOR_LINE.match(text):
        return match[1], 1
    first = list(itertools.islice((line for line in _lines(text) if line.strip()), 2))

    def fitness(separator: str) -> tuple[bool, int]:
        n_fields = [len(line.split(separator)) for line in first]
        with contextlib.suppress(csv.Error):
            n_fields = [len(next(csv.reader([line], delimiter=separator), [])) for line in first]
        return len(set(n_fields)) == 1 and n_fields[0] > 1, n_fields[0] if n_fields else 0

    return max(SEPARATORS, key=fitness), 0


def _without_empty_columns(header: list[str], columns: list, where: str) -> tuple[list[str], list]:
    """Without columns that have neither name nor cells. Raises InputError if two others have no name."""
    used = [i for i, name in enumerate(header) if name or any(cell.strip() for cell in columns[i])]
    unnamed = [str(i + 1) for i in used if not header[i]]  # one may be the index that pandas writes
    if len(unnamed) > 1:
        raise InputError(f"{where}: columns {', '.join(unnamed)} have no name; name them or empty them")
    return [header[i] for i in used], [columns[i] for i in used]


def _with_points(header: list[str], columns: list, places: Sequence[str]) -> list:
    """Columns of numbers with decimal points in place of decimal commas.

    Raises InputError where a comma may separate thousands, or where points and commas stand in the numbers of one file.
    """
    numeric = [all(is_missing(cell) or _NUMBER.fullmatch(cell.strip()) for cell in column) for column in columns]
    cells = [
        (cell.strip(), f"{place}: {name}")
        for name, column, is_numeric in zip(header, columns, numeric, strict=True)
        if is_numeric and any("," in cell for cell in column)
        for cell, place in zip(column, places, strict=True)
        if "," in cell
    ]
    if not cells:
        return columns
    certain = next((where for cell, where in cells if not _THOUSANDS.fullmatch(cell)), None)
    for cell, where in cells:
        if certain is None:
            raise InputError(f"{where} is {cell!r}: is the comma a decimal comma or of thousands? {MEND_NUMBERS}")
        if not _DECIMAL_COMMA.fullmatch(cell):
            raise InputError(f"{where} is {cell!r}, not a number; {MEND_NUMBERS}")
    for name, column, is_numeric in zip(header, columns, numeric, strict=True):
        for cell, place in zip(column, places, strict=True):
            if is_numeric and "." in cell and not is_missing(cell):
                raise InputError(f"{place}: {name} is {cell!r}, but other numbers have decimal commas; {MEND_NUMBERS}")
    return [
        tuple(cell.replace(",", ".") for cell in column) if is_numeric else column
        for column, is_numeric in zip(columns, numeric, strict=True)
    ]
