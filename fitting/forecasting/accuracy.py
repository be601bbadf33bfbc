"""Step 2 of a forecast: accuracy, as the mean of three routes.

Two sigmoids of the loss (`sigmoid_posterior`: Hill and logistic) at the loss that step 1 predicts, and a direct law of
N and D for -ln((acc - chance) / (1 - chance)), which step 1's sum form fits. No single form is right in every family of
runs; their mean errs less than each. A table without losses has the direct law alone.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fitting.forecasting import posterior, sigmoid_posterior
from fitting.forecasting.posterior import LossForecast
from fitting.forecasting.sigmoid_posterior import HILL, LOGISTIC, Sigmoid
from fitting.inference.calibration import calibration
from fitting.laws.forms import SUM
from fitting.tables.accuracies import Chance
from fitting.tables.points import Target
from fitting.tables.runs_table import Table

MIN_RUNS = 4
# The direct law reads runs whose share of the way from chance to 1 is above the first, and needs this many.
LEAST_SHARE, LARGEST_SHARE, MIN_DIRECT = 0.04, 0.995, 6
QUADRATURE = 9  # nodes of the integral over the predicted loss
LEAST_NOISE = 0.008
WEAK_CORRELATION = 0.7


@dataclass(frozen=True)
class AccuracyForecast:
    """value: predicted accuracy. interval: of 80 %. routes: {name: accuracy by that route}."""

    value: float
    interval: tuple[float, float]
    routes: dict[str, float]


@dataclass(frozen=True)
class AccuracyLaw:
    """Step 2 of one task: n decayed runs with N_n parameters, D_n tokens, and their ends, loss_n (nan where unknown)
    and acc_n.

    metric: which accuracy. checkpoints: {run: [k, 2]} of losses and accuracies, which the sigmoids are fitted to; of
    several checkpoints the relation is known better than of ends alone (backtests of the task-ladder paper's runs:
    interval score 5.9 against 7.6 points, 89 and 93 % held). rows: those of the table that the ends are means of.
    """

    task: str
    metric: str
    chance: Chance
    N_n: np.ndarray
    D_n: np.ndarray
    loss_n: np.ndarray
    acc_n: np.ndarray
    runs: tuple[str, ...]
    checkpoints: dict[str, np.ndarray]
    rows: Table | None = None

    @cached_property
    def sigmoids(self) -> dict[str, Sigmoid]:
        """{"Hill", "logistic"}; empty where too few runs have a loss, or accuracy is at chance."""
        if len(self.checkpoints) < MIN_RUNS or not self.chance.above:
            return {}
        pairs_k2, weights_k = self.pairs
        shapes = {"Hill": HILL, "logistic": LOGISTIC}
        return {
            name: sigmoid_posterior.fit(*pairs_k2.T, weights_k, self.chance.level, shape)
            for name, shape in shapes.items()
        }

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(loss and accuracy of all checkpoints [k, 2], weights [k] that sum to 1 over a run)."""
        pairs = list(self.checkpoints.values())
        return np.concatenate(pairs), np.concatenate([np.full(len(pair), 1 / len(pair)) for pair in pairs])

    def of_runs(self, runs) -> "AccuracyLaw":
        """Step 2 of some of the runs."""
        use_n = np.isin(self.runs, list(runs))
        parts = {name: getattr(self, name)[use_n] for name in ("N_n", "D_n", "loss_n", "acc_n")}
        kept = tuple(run for run in self.runs if run in runs)
        checkpoints = {run: pairs for run, pairs in self.checkpoints.items() if run in runs}
        return replace(self, **parts, runs=kept, checkpoints=checkpoints)

    @property
    def correlation(self) -> float:
        """Of loss and accuracy of the runs."""
        has_n = ~np.isnan(self.loss_n)
        loss_n, acc_n = self.loss_n[has_n], self.acc_n[has_n]
        if len(loss_n) < 3 or np.ptp(loss_n) == 0 or np.ptp(acc_n) == 0:
            return 0.0
        return float(np.corrcoef(loss_n, acc_n)[0, 1])

    def curve(self, loss_m) -> tuple[np.ndarray, np.ndarray]:
        """(mean [m], sd [m]) of the accuracy at losses [m] by the two sigmoids."""
        means, sds = zip(*(sigmoid.predict(loss_m) for sigmoid in self.sigmoids.values()), strict=True)
        return np.mean(means, axis=0), np.mean(sds, axis=0)

    def predict(self, target: Target, loss: LossForecast | None) -> AccuracyForecast | None:
        """The accuracy at a target whose loss is predicted (None: it is not).

        None where accuracy is at chance or the runs are too few for every route.
        """
        if not self.chance.above:
            return None
        direct = self._direct(target)
        routes = {} if direct is None else {"direct": direct[0]}
        if loss is None or not self.sigmoids:
            return None if direct is None else AccuracyForecast(direct[0], direct[1], routes)
        log_sd = loss.half_width / calibration().loss_sds
        through = {name: _integrated(sigmoid, loss.log_loss, log_sd) for name, sigmoid in self.sigmoids.items()}
        routes = {name: mean for name, (mean, _) in through.items()} | routes
        value = float(np.clip(np.mean(list(routes.values())), 0.0, 1.0))
        noise = max(self.sigmoids["Hill"].noise, LEAST_NOISE)
        half = calibration().accuracy_half_width(through["Hill"][1], noise)
        return AccuracyForecast(value, (max(value - half, 0.0), min(value + half, 1.0)), routes)

    def _direct(self, target: Target) -> tuple[float, tuple[float, float]] | None:
        """(accuracy, interval) by the direct law; None where fewer than MIN_DIRECT runs are above chance."""
        chance = self.chance.level or 0.0
        share_n = (self.acc_n - chance) / (1 - chance)
        use_n = share_n > LEAST_SHARE
        if use_n.sum() < MIN_DIRECT:
            return None
        y_n = -np.log(np.minimum(share_n[use_n], LARGEST_SHARE))
        law = posterior.fit(
            self.N_n[use_n], self.D_n[use_n], y_n, target.N, target.D, posterior.ACCURACY_PRIORS, (SUM,)
        )
        forecast = law.forecast(target.N, target.D)
        ends = (forecast.log_loss + sign * forecast.half_width for sign in (0, 1, -1))
        value, lo, hi = (float(chance + (1 - chance) * np.exp(-np.exp(end))) for end in ends)
        return value, (lo, hi)


def _integrated(sigmoid: Sigmoid, log_loss: float, log_sd: float) -> tuple[float, float]:
    """(mean, sd) of the accuracy where ln loss ~ N(log_loss, log_sd^2), by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
    weights = weights / weights.sum()
    mean_m, sd_m = sigmoid.predict(np.exp(log_loss + log_sd * nodes))
    mean = float(weights @ mean_m)
    return mean, float(np.sqrt(weights @ (sd_m**2 + (mean_m - mean) ** 2)))
