"""Simulated ladders with a known law, and the shared data where it is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fitting.tables.runs_table import Table
from fitting.tables.runs_table import read as read_table

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZES = (10_000, 17_000, 33_000, 60_000)
TARGET = (190_000, 7_600_000)
RUN_COLUMNS = ("run", "split", "size", "kind", "parent", "n_params", "tokens", "step", "final")


def chinchilla(n, d, e=1.0, a=0.8, alpha=0.35, b=0.5, beta=0.35):
    return e + a * (n / 4e4) ** -alpha + b * (d / 2e6) ** -beta


def accuracy(bpb, slope=4.0, middle=3.0):
    return 0.25 + 0.6 / (1 + np.exp(slope * (bpb - middle)))


@pytest.fixture
def shared():
    """Path of a shared data file; where it is missing, the test is skipped with a message."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"shared data file {name} is not beside the repository")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def published():
    """The paper's published runs as a table (bpb and accuracy); without them the test is skipped with a message."""
    if not (SHARED / "olmo_ladder_runs.csv.gz").exists():
        pytest.skip("the paper's published runs are not beside the repository")
    read = read_table(SHARED / "olmo_ladder_runs.csv.gz")
    return read.select(read["metric"] != "loss")


@pytest.fixture(scope="session")
def simulate():
    """simulate(noise, seed, ...) -> Table of 4 sizes x 3 branches and one target, in memory."""
    return simulated


def scored_on(n_docs: int, table: Table, run: str) -> Table:
    """The table, with the quiz of one run scored on so many docs."""
    is_other = (table["run"] == run) & (table["task"] == "quiz")
    return replace(table, columns=table.columns | {"n_docs": np.where(is_other, n_docs, table["n_docs"])})


def simulated(noise=0.004, seed=0, n_docs=1000, skilled=True, sizes=SIZES, multiples=(1, 2, 4)) -> Table:
    """Tasks: validation (bpb only), quiz (bpb; accuracy from it if skilled, else guessing).

    Half of the noise's variance is shared by the branches of a trunk.
    """
    rng = np.random.default_rng(seed)
    rows = []

    def measure(run, split, kind, parent, n, d, step, final, shift):
        common = (run, split, f"d{n // 1000}", kind, parent, n, d, step, final)
        bpb = chinchilla(n, d) * np.exp(shift + noise * np.sqrt(0.5) * rng.standard_normal())
        rows.append((*common, "validation", "bpb", bpb, np.nan, np.nan))
        rows.append((*common, "quiz", "bpb", bpb, n_docs, np.nan))
        p = accuracy(bpb) if skilled else 0.25
        rows.append((*common, "quiz", "acc", rng.binomial(n_docs, p) / n_docs, n_docs, 0.25))

    for n in sizes:
        shift = noise * np.sqrt(0.5) * rng.standard_normal()
        for tokens in np.geomspace(n, 20 * n * max(multiples), 8):
            measure(f"d{n}-trunk", "train", "trunk", "", n, tokens, int(tokens), False, shift + 0.05)
        for multiple in multiples:
            tokens = 20 * n * multiple
            measure(f"d{n}-{multiple}xC", "train", "branch", f"d{n}-trunk", n, tokens, tokens, True, shift)
    measure("target-2xC", "target", "full", "", *TARGET, TARGET[1], True, noise * rng.standard_normal())
    names = (*RUN_COLUMNS, "task", "metric", "value", "n_docs", "chance")
    columns = {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        columns[name] = np.array(column, object if isinstance(column[0], str) else None)
        if columns[name].dtype.kind == "i":
            columns[name] = columns[name].astype(float)
    return Table(columns, "simulated", "0" * 64)
