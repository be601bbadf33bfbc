"""CSV as spreadsheets and scripts of any country write it: other separators, decimal commas, empty columns, N/A."""

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Sequence

from fitting.errors import InputError

SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n")  # the first line that Excel writes and reads
_LINE_ENDS = re.compile(r"\s*[\r\n]+\s*")  # of headings that are wrapped in their cell
_ROWS_AT_ONCE = 4096
# Words for "no value"; nan and None are what pandas and Python write.
_NO_VALUE = {"", "n/a", "na", "#n/a", "#na", "<na>", "n.a.", "nan", "null", "none", "-", "--", "?"}
_NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
MEND_NUMBERS = "write numbers with a decimal point and no thousands separators"


def is_missing(cell) -> bool:
    """Whether a cell holds no value: empty, or a word such as N/A."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in _NO_VALUE)


def parse(text: str, source: str) -> tuple[list[str], list[Sequence], list[int], int]:
    """The header, the columns of cells, the line number of each row, and that of the header.

    Empty rows, and empty columns without a name, are left out. Raises InputError with file and line.
    """
    separator, skipped = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, columns, lines, header, header_line = [], [], [], [], 1
    try:
        for row in itertools.islice(reader, skipped, None):
            if not any(map(str.strip, row)):
                continue
            if not header:
                header, header_line = [_LINE_ENDS.sub(" ", name.strip()) for name in row], reader.line_num
                columns = [[] for _ in header]
                continue
            if len(row) > len(header) and not any(cell.strip() for cell in row[len(header) :]):
                row = row[: len(header)]
            if len(row) != len(header):
                raise InputError(f"{source}:{reader.line_num}: {len(row)} fields, the header has {len(header)}")
            rows.append(row)
            lines.append(reader.line_num)
            if len(rows) == _ROWS_AT_ONCE:
                _append(columns, rows)
    except csv.Error as error:
        raise InputError(f"{source}:{reader.line_num}: not CSV: {error}") from None
    if len(header) == 1 and len(header[0].split()) > 1:
        raise InputError(f"{source}:{header_line}: blanks separate the columns; separate them by commas or tabs")
    _append(columns, rows)
    header, columns = _without_empty_columns(header, columns, f"{source}:{header_line}")
    if separator != ",":
        columns = _with_points(header, columns, [f"{source}:{line}" for line in lines])
    return header, columns, lines, header_line


def _append(columns: list[list], rows: list) -> None:
    """Move rows into columns; cells with the same text become one string, because names and sizes repeat."""
    for column, cells in zip(columns, zip(*rows, strict=True), strict=bool(rows)):
        column += map({}.setdefault, cells, cells)
    rows.clear()


def _separator(text: str) -> tuple[str, int]:
    """The separator, and how many lines precede the header: the one that gives header and first row the same number of
    fields, or else the header the most."""
    if match := _SEPARATOR_LINE.match(text):
        return match[1], 1
    first = list(itertools.islice((line for line in io.StringIO(text) if line.strip()), 2))

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


def _with_points(header: list[str], columns: list, places: list[str]) -> list:
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
