"""Data frames of any library, and dictionaries of arrays, as cells. Imports no data frame library."""

import hashlib

import numpy as np

from fitting.errors import InputError
from fitting.tables.reader import Cells


def cells(data, source: str = "data") -> Cells:
    """A data frame (pandas, polars, pyarrow ...) or {name: values} as cells; messages call the first row "data, row 0".

    Raises InputError if it has no rows, or columns of different lengths.
    """
    header = _names(data)
    columns = [[_cell(value) for value in np.atleast_1d(np.asarray(data[name])).tolist()] for name in header]
    lengths = {name: len(column) for name, column in zip(header, columns, strict=True)}
    if not header or not min(lengths.values()):
        raise InputError(f"{source}: it has no rows")
    if len(set(lengths.values())) > 1:
        raise InputError(f"{source}: columns of different lengths: {lengths}")
    sha256 = hashlib.sha256(repr((header, columns)).encode()).hexdigest()
    return Cells(header, columns, [f"{source}, row {i}" for i in range(len(columns[0]))], sha256)


def _names(data) -> list[str]:
    for attribute in ("columns", "column_names", "keys"):  # pandas and polars, pyarrow (whose columns are arrays), dict
        names = getattr(data, attribute, None)
        names = names() if callable(names) else names
        if names is not None and all(isinstance(name, str) for name in names):
            return list(names)
    raise InputError(f"{type(data).__name__}: neither a data frame nor a dictionary of columns")


def _cell(value):
    """The value, or None if it is missing (None, nan, pandas.NA, NaT)."""
    try:
        return None if value is None or bool(value != value) else value
    except TypeError:  # bool(pandas.NA)
        return None
