"""Compute-optimal training for notebooks and programs: `isoflop`, `allocate` and their results."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fitting.api import inputs
from fitting.api.results import Estimate, Shown, drawn, to_frame
from fitting.errors import InputError
from fitting.loss_laws import allocation
from fitting.loss_laws import isoflop as parabolas
from fitting.loss_laws.allocation import Frontier
from fitting.report import loss_figures, loss_tables
from fitting.report.grid import Grid
from fitting.tables.loss_points import VALUE, LossPoints


@dataclass(frozen=True, repr=False)
class ComputeOptimal(Shown):
    """Compute-optimal training, ln N_opt = k + a ln C, for budgets of C FLOPs. points: the runs it comes from."""

    frontier: Frontier
    points: LossPoints | None = None

    def N_opt(self, C) -> Estimate:
        return self._at(C, self.frontier.n)

    def D_opt(self, C) -> Estimate:
        return self._at(C, self.frontier.d)

    def loss_opt(self, C) -> Estimate:
        """Loss at the optimum. Raises InputError for approaches 1 and 2, which have no law of the loss."""
        if self.frontier.loss_of is None:
            raise InputError(f"approach {self.frontier.approach} has no law of the loss; fit one")
        return self._at(C, self.frontier.loss_of)

    @property
    def exponents(self) -> dict[str, Estimate]:
        a_R = self.frontier.a_R
        return {name: self._estimate(a_R1[:, None], False, ()) for name, a_R1 in (("N", a_R), ("D", 1 - a_R))}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        return self.frontier.notes

    def _at(self, C, quantity) -> Estimate:
        c = inputs.positive(("C",), {"C": C})["C"]
        return self._estimate(quantity(c.ravel()), True, c.shape)

    def _estimate(self, value_Rm: np.ndarray, log: bool, shape: tuple) -> Estimate:
        nan_m = np.full(value_Rm.shape[1], np.nan)
        lo, hi = self.frontier.interval(value_Rm, log) if len(value_Rm) > 1 else (nan_m, nan_m)
        sd = value_Rm[1:].std(axis=0) if len(value_Rm) > 1 else nan_m
        return Estimate.of(shape, value_Rm[0], lo, hi, sd)

    def plot(self, C=(), ax=None):
        """Plot N_opt against C, with the runs and the budgets C. Returns the axes."""
        if not np.size(C) and self.points is None:
            raise InputError("name budgets C to plot: there are no runs to take them from", "C")
        budgets = np.atleast_1d(C) if np.size(C) else np.quantile(self.points.features["C"], [0.0, 1.0])
        return drawn(ax, loss_figures.draw_allocation, self.frontier, self.points, budgets)

    def grids(self) -> list[Grid]:
        largest = self.frontier.largest
        return [loss_tables.allocations(self.frontier.json([largest] if np.isfinite(largest) else [1e21]))]

    def lines(self) -> list[str]:
        return list(self.notes)


def isoflop(
    data, *, C: str = "flops", N: str = "params", y: str = VALUE, budgets: Sequence[float] = (), resamples: int = 4000,
    seed: int = 0,
) -> ComputeOptimal:  # fmt: skip
    """Approach 2 of Hoffmann et al. 2022: a parabola in ln N through the losses of each budget.

    data: a data frame, a dictionary of columns or the path of a table; C, N, y name its columns (C="6ND" computes C as
    6 N D). budgets: FLOPs that runs were trained for; without them, runs of similar C form a budget. Raises InputError
    where fewer than two budgets have a minimum between their sizes.
    """
    points = inputs.points_of(data, {"C": C, "N": N}, y, None, None)
    return ComputeOptimal(parabolas.isoflop(points, resamples, seed, tuple(budgets)), points)


@dataclass(frozen=True, repr=False)
class Allocation(Shown):
    """What to train with budgets of FLOPs. rows: for each budget flops, n_params, tokens, tokens_per_param and, where
    the law gives them, loss, batch_tokens and steps, with *_ci95 intervals and flags."""

    result: dict

    @property
    def rows(self) -> list[dict]:
        return self.result["allocations"]

    def to_frame(self):
        """A pandas.DataFrame with a row for each budget."""
        return to_frame(self.rows)

    def grids(self) -> list[Grid]:
        return [loss_tables.allocations(self.result)]

    def lines(self) -> list[str]:
        return list(self.result["notes"])


def allocate(source: ComputeOptimal | str, C: Sequence[float] | float) -> Allocation:
    """What to train with budgets of C FLOPs: a fit, the result of `isoflop`, or a name of published constants
    ("hoffmann", "besiroglu", "muennighoff", "kaplan").

    Raises InputError where there is no optimum.
    """
    if isinstance(source, str):
        source = ComputeOptimal(allocation.of_published(source))
    elif not isinstance(source, ComputeOptimal):
        source = source.compute_optimal()
    budgets = np.atleast_1d(inputs.positive(("C",), {"C": C})["C"])
    return Allocation(source.frontier.json(budgets.tolist()))
