"""A law of compute alone, L = E + A/C^alpha (Henighan et al. 2020), fitted to the best run for each amount of compute.

A forecast from N and D is compared with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fitting.inference import bootstrap
from fitting.laws.power_sum import POWERS

LAW = next(law for law in POWERS if law.features == ("C",))
# Runs whose compute differs by less than this factor are compared as if it were the same: whole steps make it differ.
SAME_COMPUTE = 1.1
STARTS, HUBER = 24, 1e-2


@dataclass(frozen=True)
class ComputeLaw:
    """best_n: bool[n], the runs that the law goes through. params: E, A, alpha."""

    best_n: np.ndarray
    params: dict[str, float]
    fitted: bootstrap.Fit

    def loss(self, C) -> np.ndarray:
        """The loss at C FLOPs, in the unit of the runs' loss."""
        return self.fitted.predict({"C": np.atleast_1d(C)})[0, 0]


def best_of_compute(C: Sequence[float], loss: Sequence[float]) -> np.ndarray:
    """bool[n]: True for a run if no run with at most SAME_COMPUTE times its compute has a lower loss."""
    C, loss = np.asarray(C, float), np.asarray(loss, float)
    return np.array([loss[i] <= loss[SAME_COMPUTE * C[i] >= C].min() for i in range(len(C))], bool)


def fit(C: Sequence[float], loss: Sequence[float]) -> ComputeLaw | None:
    """Fit the law to n runs. C: training FLOPs, loss > 0. Returns None if fewer than four runs are the best of their
    compute (`best_of_compute`): the law has three parameters."""
    best_n = best_of_compute(C, loss)
    if best_n.sum() <= len(LAW.params):
        return None
    features, y_n = {"C": np.asarray(C, float)[best_n]}, np.asarray(loss, float)[best_n]
    solver = bootstrap.Solver(HUBER, starts=STARTS)
    fitted = bootstrap.fit(
        LAW, features, y_n[None], solver=solver, resampling=bootstrap.Resampling(1, method="residuals")
    )
    return ComputeLaw(best_n, fitted.params(0), fitted)
