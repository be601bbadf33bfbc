"""The ends of runs as the studies need them: one row for each decayed run, with its settings."""

import numpy as np

from fitting.errors import InputError
from fitting.tables import points
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

SHAPE = ("d_model", "n_layers", "n_heads", "d_ff")


def ends(table: Table, task: str = TASK, metric: str = METRIC) -> Table:
    """The last row of a task in every decayed run. Raises InputError where there is none."""
    rows = points.last_rows_of(table.select(split="train"), task, metric)
    if not len(rows):
        raise InputError(f"{table.source}: no finished run with {metric} of {task}")
    return rows


def need(table: Table, *columns: str) -> None:
    """Raises InputError where the table lacks a column."""
    missing = [
        name for name in columns if name not in table or (table[name].dtype.kind == "f" and np.isnan(table[name]).all())
    ]
    if missing:
        raise InputError(f"{table.source}: no column {', '.join(missing)}, which this study needs")


def groups(rows: Table, *columns: str) -> dict[tuple, np.ndarray]:
    """{values of these columns: indices of their rows}, in order of first appearance."""
    found: dict[tuple, list[int]] = {}
    for i, key in enumerate(zip(*(rows[name].tolist() for name in columns), strict=True)):
        found.setdefault(key, []).append(i)
    return {key: np.array(indices) for key, indices in found.items()}
