"""A wide table of losses (params, tokens, loss: one row for each run) as a runs table, so that it can be forecast."""

from dataclasses import replace

import numpy as np

from fitting.tables import loss_points, reader, runs_table
from fitting.tables.loss_points import COLUMNS, VALUE, LossPoints, Reading
from fitting.tables.runs_table import Table

NEEDED = (COLUMNS["N"], COLUMNS["D"], VALUE)


def read(path) -> Table:
    """The runs table that a file holds, or that a wide table is; also a folder of run directories.

    Raises InputError with file and line.
    """
    path = reader.as_path(path)
    if path.is_dir():
        return runs_table.read(path)
    return of_cells(reader.read(path, numeric=runs_table.numeric), str(path))


def of_cells(cells: reader.Cells, source: str) -> Table:
    """Cells of a runs table or of a wide one. A column "split" of a wide table is kept. Raises InputError."""
    if set(runs_table.REQUIRED) <= set(cells.header) or not set(NEEDED) <= set(cells.header):
        return runs_table.of_cells(cells, source)
    labels = ("split",) if "split" in cells.header else ()
    return of_points(loss_points.of_cells(cells, source, Reading(labels=labels)))


def of_points(points: LossPoints) -> Table:
    """A runs table of points of N and D, whose metric and task are "loss".

    Points of one run (by the column that names runs) are its checkpoints, of which the last is its end. Raises
    InputError if the parameters of a run differ.
    """
    n, d = points.features["N"], points.features["D"]
    one_run_each = len(set(points.groups_n)) == len(points)
    runs = [f"row {i + 1}" for i in range(len(points))] if one_run_each else points.groups_n
    split_n = points.labels.get("split", np.full(len(points), "train"))
    rows = [
        {"run": str(run), "n_params": float(params), "tokens": float(tokens), "step": float(tokens), "task": VALUE,
         "metric": VALUE, "value": float(loss), "split": str(split) or "train", "place": f"{points.source}, {run}"}
        for run, params, tokens, loss, split in zip(runs, n, d, points.y_n, split_n, strict=True)
    ]  # fmt: skip
    table = runs_table.from_rows(rows, points.source, points.left_out)
    return replace(table, sha256=points.sha256 or table.sha256)
