"""Runs tables whose truth is known, for the studies."""

from dataclasses import replace

import numpy as np

from fitting.tables import runs_table
from fitting.tables.runs_table import Table


def table(rows: list[dict]) -> Table:
    """Rows of runs as a table. A row needs run, n_params, tokens and value; the rest has defaults."""
    defaults = {"task": "validation", "metric": "bpb", "kind": "full", "seed": 0, "parent": "", "final": "true"}
    whole = [
        defaults | {"step": round(row["tokens"] / 1000), "place": f"simulated:{i}"} | row for i, row in enumerate(rows)
    ]
    return runs_table.from_rows(whole, "simulated")


def without(whole: Table, *runs: str) -> Table:
    return replace(whole.select(~np.isin(whole["run"], runs)), left_out=tuple(f"{run}: not finished" for run in runs))


def chinchilla(n, d):
    return 0.8 + 30 * n**-0.35 + 60 * d**-0.35
