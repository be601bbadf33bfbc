"""Several runs tables as one, and the rows of a table that a user asks for."""

import hashlib
from collections.abc import Sequence

import numpy as np

from fitting.errors import InputError
from fitting.tables import runs_table
from fitting.tables.quantities import quantity
from fitting.tables.reader import Cells
from fitting.tables.runs_table import Table


def join(tables: Sequence[Table]) -> Table:
    """The rows of all tables. A run in more than one of them ends at its last step in any.

    Raises InputError if two rows are of the same run, task, metric and step, or a run differs in what is one for a run.
    """
    if len(tables) == 1:
        return tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    columns = {name: [] for name in names}
    for table in tables:
        for name in names:
            cells = table.columns[name].tolist() if name in table else [None] * len(table)
            columns[name] += [None if cell != cell else cell for cell in cells]
    columns["final"] = _final(tables, columns)
    places = [f"{table.source}, row {i}" for table in tables for i in range(1, len(table) + 1)]
    source = ", ".join(table.source for table in tables)
    sha256 = hashlib.sha256("".join(table.sha256 for table in tables).encode()).hexdigest()
    joined = runs_table.of_cells(Cells(names, list(columns.values()), places, sha256), source)
    left_out = tuple(line for table in tables for line in table.left_out)
    return Table(joined.columns, source, sha256, left_out)


def _final(tables: Sequence[Table], columns: dict[str, list]) -> list[bool]:
    """Whether each row is final. A run that stands in one table keeps that table's column; a run that stands in several
    is final at its last step."""
    n_tables, last_step = {}, {}
    for table in tables:
        for run in table.unique("run"):
            n_tables[run] = n_tables.get(run, 0) + 1
    decayed = set()
    for run, step, final in zip(columns["run"], columns["step"], columns["final"], strict=True):
        last_step[run] = max(step, last_step.get(run, step))
        if final:
            decayed.add(run)
    rows = zip(columns["run"], columns["step"], columns["final"], strict=True)
    return [
        final if n_tables[run] == 1 else run in decayed and step == last_step[run]
        for run, step, final in rows
    ]  # fmt: skip


def where(table: Table, conditions: Sequence[str]) -> Table:
    """The rows that meet every condition COLUMN=VALUE; of several for one column, any.

    Raises InputError if a condition is not of this form, names no column, or no row is left.
    """
    wanted = {}
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise InputError(f"--where {condition!r}: write COLUMN=VALUE, for example task=piqa")
        if name not in table:
            raise InputError(f"--where {condition}: no column {name!r}; there are: {', '.join(table.columns)}")
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        column = table[name]
        if column.dtype == bool:
            matches = np.isin(column, [_truth(name, value) for value in values])
        elif np.issubdtype(column.dtype, np.number):
            matches = np.isin(column, [quantity(value) for value in values])
        else:
            matches = np.isin(column.astype(str), values)
        if not matches.any():
            texts = (
                f"{value:.10g}" if isinstance(value, float) else str(value) for value in sorted(set(column.tolist()))
            )
            known = ", ".join(list(texts)[:20])
            raise InputError(f"{table.source}: no row with {name}={' or '.join(values)}; {name} is one of: {known}")
        table = table.select(matches)
    return table


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InputError(f"--where {name}={text}: write true or false")
    return text.lower() == "true"
