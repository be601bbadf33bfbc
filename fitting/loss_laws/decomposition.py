"""How the exponent of N_opt moves with what one chose: how N and C are counted, how runs were tuned.

After Porian et al. 2024, "Resolving Discrepancies in Compute-Optimal Scaling of Language Models".

A *factor* is such a choice, its *levels* what can be chosen; a *cell* is one level of each, with a frontier of its own.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.loss_laws.allocation import Frontier, percentile
from fitting.tables.loss_points import LossPoints

COUNTED = ("n", "c", "d")


@dataclass(frozen=True)
class Factor:
    """name: "n", "c" or "d", whose levels are columns to count by, or a column whose values are the levels."""

    name: str
    levels: tuple[str, ...]

    @property
    def counts(self) -> bool:
        return self.name in COUNTED


def parse(text: str) -> Factor:
    """ "n=non_embedding,params" or "tuning" (levels then come from the table)."""
    name, _, levels = text.partition("=")
    found = tuple(level.strip() for level in levels.split(",") if level.strip())
    if not name or (name in COUNTED) != bool(found) or len(found) == 1 or len(set(found)) < len(found):
        raise InputError(
            f"--vary {text!r}: write n=COLUMN,COLUMN (or c=, d=) to count by each, or the name of a column of settings"
        )
    return Factor(name, found)


def cells(
    factors: list[Factor], read: Callable[[dict], LossPoints], fit: Callable[[LossPoints, int], Frontier]
) -> tuple[list[Factor], dict[tuple, Frontier | str]]:
    """A frontier for each cell, or why it has none; and the factors with their levels.

    read({"n": column, ...}) -> points with the labels of the settings; fit(points, seed). Cells of the same runs have
    the same seed, so that their resamples are the same draws and differences between them are paired.
    """
    counted = [f for f in factors if f.counts]
    ways = list(itertools.product(*(f.levels for f in counted)))
    points = {way: read(dict(zip((f.name for f in counted), way, strict=True))) for way in ways}
    first = points[ways[0]]
    factors = [f if f.counts else Factor(f.name, tuple(dict.fromkeys(first.labels[f.name]))) for f in factors]
    short = [f.name for f in factors if len(f.levels) < 2]
    if short:
        raise InputError(f"{first.source}: column {short[0]!r} has one setting only; --vary needs two")
    subsets = list(itertools.product(*(f.levels for f in factors if not f.counts)))
    found = {}
    for cell in itertools.product(*(f.levels for f in factors)):
        way = tuple(level for f, level in zip(factors, cell, strict=True) if f.counts)
        named = {f.name: level for f, level in zip(factors, cell, strict=True) if not f.counts}
        of = points[way]
        keep_n = np.all([of.labels[name] == level for name, level in named.items()], axis=0) | np.zeros(len(of), bool)
        try:
            seed = subsets.index(tuple(named.values()))
            found[cell] = fit(of.select(keep_n, "of other settings"), seed)
        except InputError as error:
            found[cell] = str(error)
    return factors, found


def moves(factors: list[Factor], found: dict[tuple, Frontier | str]) -> list[dict]:
    """What each factor adds to the exponent on the way from the first levels to the last: their sum is the whole way.

    Where all corners have a frontier, the mean over all orders of the factors (Shapley values), so that none goes
    first; else in the order given, if its corners are there; else nothing.
    """
    corner = {s: tuple(f.levels[-1 if i in s else 0] for i, f in enumerate(factors)) for s in _subsets(len(factors))}
    a = {s: found[cell].a_R for s, cell in corner.items() if isinstance(found.get(cell), Frontier)}
    draws = min((len(a_R) for a_R in a.values()), default=0)
    a = {s: a_R[:draws] for s, a_R in a.items()}
    orders = list(itertools.permutations(range(len(factors)))) if len(a) == len(corner) else [range(len(factors))]
    made = []
    for i, factor in enumerate(factors):
        before = [frozenset(order[: list(order).index(i)]) for order in orders]
        if not all({s, s | {i}} <= set(a) for s in before):
            return []
        by_R = sum(a[s | {i}] - a[s] for s in before) / len(orders)
        ends = {"from": factor.levels[0], "to": factor.levels[-1]}
        made.append(
            {"factor": factor.name, **ends, "moves": float(by_R[0]), "moves_ci95": _floats(percentile(by_R, False))}
        )
    return made


def _subsets(n: int) -> list[frozenset]:
    return [frozenset(s) for size in range(n + 1) for s in itertools.combinations(range(n), size)]


def _floats(ends) -> list[float]:
    return [float(end) for end in ends]


def json(factors: list[Factor], found: dict[tuple, Frontier | str]) -> dict:
    """For programs: the exponent of every cell, and what each factor moves it by."""
    rows = []
    for cell, frontier in found.items():
        row = {"settings": dict(zip((f.name for f in factors), cell, strict=True))}
        if isinstance(frontier, Frontier):
            ends = frontier.interval(frontier.a_R, False)
            row |= {"exponent": float(frontier.a_R[0]), "exponent_ci95": _floats(ends), "why": ""}
        else:
            row |= {"exponent": None, "exponent_ci95": None, "why": frontier}
        rows.append(row)
    made = moves(factors, found)
    return {"cells": rows, "moves": made, "total": math.fsum(m["moves"] for m in made) if made else None}
