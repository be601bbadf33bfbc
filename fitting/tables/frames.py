"""Columns of anything that has them: a data frame of any library, or a dictionary of arrays. Imports none of them."""

import hashlib

import numpy as np

from fitting.errors import InputError
from fitting.tables.reader import Cells


def cells(data, source: str = "data") -> Cells:
    """A data frame (pandas, polars, pyarrow ...) or {name: values} as cells; rows are called "data, row 0".

    Raises InputError where it has no columns, or columns of different lengths.
    """
    header = _names(data)
    columns = [np.atleast_1d(np.asarray(data[name])).tolist() for name in header]
    lengths = {name: len(column) for name, column in zip(header, columns, strict=True)}
    if not header or not min(lengths.values()):
        raise InputError(f"{source}: no rows in it")
    if len(set(lengths.values())) > 1:
        raise InputError(f"{source}: columns of different lengths: {lengths}")
    columns = [[_cell(value) for value in column] for column in columns]
    sha256 = hashlib.sha256(repr((header, columns)).encode()).hexdigest()
    return Cells(
        [str(name) for name in header], columns, [f"{source}, row {i}" for i in range(len(columns[0]))], sha256
    )


def _names(data) -> list:
    for attribute in ("columns", "column_names", "keys"):  # pandas and polars, pyarrow (whose columns are arrays), dict
        names = getattr(data, attribute, None)
        names = names() if callable(names) else names
        if names is not None and all(isinstance(name, str) for name in names):
            return list(names)
    raise InputError(f"{type(data).__name__}: neither a data frame nor a dictionary of columns")


def _cell(value):
    """A missing value (None, nan, pandas.NA, NaT) is None."""
    try:
        return None if value is None or bool(value != value) else value
    except TypeError:  # pandas.NA has no truth
        return None
