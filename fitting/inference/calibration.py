"""The constants of every forecast's interval, from calibration.json, which says where they come from.

Half-widths are those of 80 % intervals. The error of a forecast is taken as normal: other levels scale it by quantiles
of the normal distribution.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import special

FILE = Path(__file__).with_name("calibration.json")
LEVEL = 0.8
QUANTILE = float(special.ndtri((1 + LEVEL) / 2))  # half-width of an 80 % interval in standard deviations


@dataclass(frozen=True)
class Calibration:
    """loss_noise, loss_improvement: half-width of ln loss per unit of run noise and per unit of improvement, the ln of
    the loss of the largest run over the forecast. accuracy_spread, accuracy_noise: per unit of the standard deviation
    of step 2's forecast and of its residuals; accuracy_points: added in quadrature, in points; loss_sds: half-width of
    ln loss over the standard deviation that enters step 2, with which the other two were estimated. tasks, recipes:
    correlation of the errors of two tasks of one target, and of two recipes at one target."""

    loss_noise: float
    loss_improvement: float
    accuracy_spread: float
    accuracy_noise: float
    accuracy_points: float
    loss_sds: float
    tasks: float
    recipes: float

    def loss_half_width(self, noise, improvement, spread=0.0):
        """Half-width of ln loss. spread: posterior sd of the forecast; what exceeds that of families whose runs
        determine the law is added in quadrature."""
        calibrated = np.hypot(self.loss_noise * noise, self.loss_improvement * improvement)
        excess = np.maximum(np.square(spread) - np.square(SPREAD * calibrated), 0)
        return np.sqrt(calibrated**2 + QUANTILE**2 * excess)

    def accuracy_half_width(self, spread: float, noise: float) -> float:
        """Half-width of an accuracy, from the sd of its forecast and of the residuals around step 2."""
        terms = self.accuracy_spread * spread, self.accuracy_noise * noise, self.accuracy_points / 100
        return float(np.sqrt(np.sum(np.square(terms))))


# Where the runs determine the law, the posterior's standard deviation is at most this many calibrated half-widths (in
# the bench's families 0.5 to 1.9). A larger one says that the prior, not the runs, decides.
SPREAD = 2.0


@cache
def calibration() -> Calibration:
    """The constants that the package ships."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    loss, accuracy, correlation = stored["loss"], stored["accuracy"], stored["correlation"]
    return Calibration(
        loss["noise"], loss["improvement"], accuracy["spread"], accuracy["noise"], accuracy["points"],
        accuracy["loss_sds"],
        correlation["tasks"], correlation["recipes"],
    )  # fmt: skip


def sd_of(half_width):
    """Standard deviation of a normal error whose 80 % interval has this half-width."""
    return half_width / QUANTILE


def half_width_of_mean(half_T, correlation: float) -> float:
    """Half-width of the mean of T forecasts whose errors correlate."""
    half_T = np.asarray(half_T, float)
    shared, own = half_T.mean() ** 2, (half_T**2).sum() / len(half_T) ** 2
    return float(np.sqrt(correlation * shared + (1 - correlation) * own))
