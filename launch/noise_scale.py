"""The gradient noise scale of a ladder's runs, beside their batches: `ladder status NAME --noise-scale`."""

import math
from dataclasses import asdict
from pathlib import Path

from fitting.loss_laws import noise_scale
from fitting.loss_laws.noise_scale import LEAST_STEPS, NoiseScale
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.tables import runs_table

NOTE = "tr(Sigma) / |G|^2 with its standard error; the critical batch size is of this order (McCandlish et al. 2018)"
Measured = dict[str, tuple[float, list[NoiseScale]]]  # {run: (tokens of a batch, the windows of its steps)}


def of_ladder(folder: Path) -> Measured:
    """The runs that measured it at LEAST_STEPS steps, unfinished ones too. Raises InputError where no run is read."""
    table = runs_table.read(folder, unfinished=True)
    runs = table.select(metric=noise_scale.VARIANCE).unique("run")
    windows = {run: noise_scale.windows(table, run) for run in runs}
    return {run: (float(table.select(run=run)["batch_tokens"][0]), found) for run, found in windows.items() if found}


def grid(measured: Measured) -> Grid:
    """A line for each window of each run."""
    rows = []
    for run, (batch, windows) in measured.items():
        for window in windows:
            known = not math.isnan(window.tokens)
            value = [si(window.tokens), si(window.stderr)] if known else ["not determined", ""]
            rows.append([run, f"{window.first:,} to {window.last:,}", str(window.n), *value, si(batch)])
    head = ["run", "#steps", "#measured", "#noise scale, tokens", "#standard error", "#batch, tokens"]
    none = f"no run has measured it at {LEAST_STEPS} steps: train with optimizer.noise_scale_every=10"
    return Grid("gradient noise scale", head, rows, [NOTE if rows else none])


def to_json(measured: Measured) -> dict:
    """{run: {"batch_tokens", "windows": [NoiseScale, ...]}}"""
    return {run: {"batch_tokens": b, "windows": list(map(asdict, windows))} for run, (b, windows) in measured.items()}
