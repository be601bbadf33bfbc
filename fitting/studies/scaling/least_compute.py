"""C_min: the compute of the same runs at a batch far below the critical batch size, and the laws of it.

Kaplan et al. 2020, section 5.1 and equation 5.5: a run of compute C at batch size B reaches its loss L with
C_min = C / (1 + B / B_crit(L)). As C = 6 N D at any batch size, D_min / D = C_min / C: a law L(N, D_min) gives the best
size for a C_min as L(N, D) gives it for a C.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError
from fitting.loss_laws import allocation, loss_fit
from fitting.loss_laws.allocation import Frontier
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.studies.critical_batch import CriticalBatch
from fitting.tables.loss_points import LossPoints

UNKNOWN_BATCH = (
    "C_min needs the critical batch size of these runs' text: run ladder study batch beside this study, or name its"
    " study.json with --batch-study, and report again"
)


@dataclass(frozen=True)
class LeastCompute:
    """C_min of the runs that do not repeat their data, and the best size for each C_min.

    points: of the runs as they were trained. batch: the measured B_crit(L).
    """

    points: LossPoints
    batch: CriticalBatch
    n_resamples: int

    def shares(self, batch: CriticalBatch | None = None) -> np.ndarray:
        """[n]: C_min / C of each run."""
        return (batch or self.batch).share_of_least(self.points.y_n, self.points.features["B"])

    def at_least(self, batch: CriticalBatch | None = None) -> LossPoints:
        """The runs with D and C replaced by D_min and C_min."""
        share, features = self.shares(batch), self.points.features
        return replace(self.points, features=features | {name: features[name] * share for name in "DC"})

    def frontier(self, batch: CriticalBatch | None = None, n_resamples: int | None = None) -> Frontier:
        """The best size for each C_min, by the law of the runs."""
        fitted = loss_fit.fit(self.at_least(batch), "chinchilla", n_resamples=n_resamples or self.n_resamples)
        return allocation.of_law(fitted)

    def of(self, frontier: Frontier, quantity: Callable[[Frontier], np.ndarray]) -> tuple[float, tuple[float, float]]:
        """(value, 95 % interval) of quantity(frontier) -> [1 + R].

        The interval combines the noise of the runs, by the bootstrap, and the uncertainty of B_crit: B_crit is moved by
        one standard deviation each way along each axis of its covariance, and the law is fitted again.
        """
        value_R = quantity(frontier)
        lo, hi = frontier.interval(value_R, False)
        moved = [
            [quantity(self.frontier(batch, n_resamples=2))[0] for batch in pair] for pair in self.batch.deviations()
        ]
        by_batch = self.batch.t * float(np.sqrt(np.sum(np.diff(moved) ** 2) / 4))
        half = np.hypot(np.array([value_R[0] - lo, hi - value_R[0]]), by_batch)
        return float(value_R[0]), (float(value_R[0] - half[0]), float(value_R[0] + half[1]))

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether B_crit was measured at the losses of these runs."""
        high, low = self.batch.measured
        outside = int(np.sum((self.points.y_n > high) | (self.points.y_n < low)))
        if not outside:
            return ()
        return (
            f"B_crit was measured at losses from {high:.3f} to {low:.3f}; {outside} of the {len(self.points)} runs end"
            " outside, where its power law is extrapolated.",
        )

    def grid(self) -> Grid:
        """C_min of every run."""
        rows = []
        order = np.lexsort((self.points.features["C"], self.points.features["N"]))
        for i in order:
            n, c, b = (self.points.features[name][i] for name in "NCB")
            loss, share = self.points.y_n[i], self.shares()[i]
            rows.append([si(n), si(b), f"{loss:.4f}", si(self.batch.at(loss)), f"{c:.3e}", f"{c * share:.3e}",
                         f"{share:.2f}"])  # fmt: skip
        head = ["parameters", "batch, tokens", "loss", "B_crit, tokens", "C, FLOPs", "C_min, FLOPs", "C_min / C"]
        return Grid("Least compute of the fresh runs", [f"#{name}" for name in head], rows)


def least_compute(points: LossPoints, batch: CriticalBatch | None, corpora: list[str], n_resamples: int):
    """The LeastCompute of these runs. Raises InputError if B_crit is not known or was measured on another text."""
    if batch is None:
        raise InputError(UNKNOWN_BATCH)
    if corpora and batch.corpora and list(batch.corpora) != corpora:
        raise InputError(
            f"the critical batch size is of runs on the corpus {', '.join(batch.corpora)}, these runs read"
            f" {', '.join(corpora)}; run ladder study batch on the same text"
        )
    if "B" not in points.features or not np.isfinite(points.features["B"]).all():
        raise InputError(f"{points.source}: no column batch_tokens, which C_min needs")
    return LeastCompute(points, batch, n_resamples)
