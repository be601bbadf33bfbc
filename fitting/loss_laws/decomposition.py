"""How the exponent of N_opt depends on choices: how N and C are counted, how runs were tuned.

After Porian et al. 2024, "Resolving Discrepancies in Compute-Optimal Scaling of Language Models". A *factor* is such a
choice, its *levels* are the alternatives; a *cell* is one level of each factor, with a frontier of its own.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.loss_laws.allocation import Frontier, percentile
from fitting.tables.loss_points import LossPoints

COUNTED = ("n", "c", "d")


@dataclass(frozen=True)
class Factor:
    """name "n", "c" or "d": levels are columns to count N, C or D by. Other name: a column, levels are its values."""

    name: str
    levels: tuple[str, ...]

    @property
    def counts(self) -> bool:
        return self.name in COUNTED


def parse(text: str) -> Factor:
    """ "n=non_embedding,params" -> Factor; "tuning" -> Factor without levels, which `cells` reads from the table."""
    name, _, columns = text.partition("=")
    levels = tuple(level.strip() for level in columns.split(",") if level.strip())
    if not name or (name in COUNTED) != bool(levels) or len(levels) == 1 or len(set(levels)) < len(levels):
        raise InputError(
            f"{text!r}: write n=COLUMN,COLUMN (or c=, d=) to count by each, or the name of a column of settings", "vary"
        )
    return Factor(name, levels)


def cells(
    factors: list[Factor], read: Callable[[dict], LossPoints], fit: Callable[[LossPoints, int], Frontier]
) -> tuple[list[Factor], dict[tuple, Frontier | str]]:
    """The factors with their levels; and for each cell its frontier, or why it has none.

    read({"n": column, ...}) -> points with the labels of the settings; fit(points, seed). Cells of the same runs have
    the same seed, so that their resamples are the same draws and differences between them are paired.
    """
    counted = [f for f in factors if f.counts]
    points = {}  # by the columns to count by
    for columns in itertools.product(*(f.levels for f in counted)):
        points[columns] = read(dict(zip((f.name for f in counted), columns, strict=True)))
    first = next(iter(points.values()))
    factors = [f if f.counts else Factor(f.name, tuple(dict.fromkeys(first.labels[f.name]))) for f in factors]
    constant = [f.name for f in factors if len(f.levels) < 2]
    if constant:
        raise InputError(f"{first.source}: column {constant[0]!r} has one setting only; at least two are needed")
    subsets = list(itertools.product(*(f.levels for f in factors if not f.counts)))
    frontiers = {}
    for cell in itertools.product(*(f.levels for f in factors)):
        columns = tuple(level for f, level in zip(factors, cell, strict=True) if f.counts)
        settings = {f.name: level for f, level in zip(factors, cell, strict=True) if not f.counts}
        keep_n = np.ones(len(points[columns]), bool)
        for name, level in settings.items():
            keep_n &= points[columns].labels[name] == level
        try:
            seed = subsets.index(tuple(settings.values()))
            frontiers[cell] = fit(points[columns].select(keep_n, "of other settings"), seed)
        except InputError as error:
            frontiers[cell] = str(error)
    return factors, frontiers


def moves(factors: list[Factor], frontiers: dict[tuple, Frontier | str]) -> list[dict]:
    """How much each factor changes the exponent from its first level to its last; the sum is the total difference.

    A corner has every factor at its first or last level. Where all corners have a frontier, the result is the mean over
    all orders in which factors can change (Shapley values). Else it is for the order given, or empty where a corner of
    that order has no frontier.
    """
    k = len(factors)
    subsets = [frozenset(s) for size in range(k + 1) for s in itertools.combinations(range(k), size)]
    corner = {s: tuple(f.levels[-1 if i in s else 0] for i, f in enumerate(factors)) for s in subsets}
    a = {s: frontiers[cell].a_R for s, cell in corner.items() if isinstance(frontiers.get(cell), Frontier)}
    draws = min((len(a_R) for a_R in a.values()), default=0)
    a = {s: a_R[:draws] for s, a_R in a.items()}
    orders = list(itertools.permutations(range(k))) if len(a) == len(corner) else [range(k)]
    rows = []
    for i, factor in enumerate(factors):
        before = [frozenset(order[: list(order).index(i)]) for order in orders]
        if not all({s, s | {i}} <= set(a) for s in before):
            return []
        by_R = sum(a[s | {i}] - a[s] for s in before) / len(orders)
        ends = {"from": factor.levels[0], "to": factor.levels[-1]}
        ci95 = [float(end) for end in percentile(by_R, False)]
        rows.append({"factor": factor.name, **ends, "moves": float(by_R[0]), "moves_ci95": ci95})
    return rows


def json(factors: list[Factor], frontiers: dict[tuple, Frontier | str], budgets: Sequence[float] = ()) -> dict:
    """For programs: the exponent of every cell, what to train there with each budget (FLOPs), and by how much each
    factor moves the exponent."""
    rows = []
    for cell, frontier in frontiers.items():
        row = {"settings": dict(zip((f.name for f in factors), cell, strict=True))}
        if isinstance(frontier, Frontier):
            ends = frontier.interval(frontier.a_R, False)
            row |= {"exponent": float(frontier.a_R[0]), "exponent_ci95": [float(end) for end in ends], "why": ""}
            row |= {"allocations": frontier.json(budgets)["allocations"]}
        else:
            row |= {"exponent": None, "exponent_ci95": None, "why": frontier, "allocations": []}
        rows.append(row)
    by_factor = moves(factors, frontiers)
    total = math.fsum(m["moves"] for m in by_factor) if by_factor else None
    return {"budgets": list(budgets), "cells": rows, "moves": by_factor, "total": total}
