"""Accuracy against loss: the posterior of a sigmoid, on a grid of its slope and midpoint.

    acc = low (1 - s) + high s,   s = 1 / (1 + e^(-k (x0 - x)))

where x is the loss (logistic) or its logarithm (Hill). Given slope k and midpoint x0, low and high are linear: least
squares with normal priors, high at most 1.
"""

from dataclasses import dataclass

import numpy as np

SLOPES = np.geomspace(0.8, 25, 28)
N_MIDPOINTS = 40
# Standard deviation of an accuracy around the law in the prior, and the runs that this prior counts for.
PRIOR_SD, PRIOR_RUNS = 0.008, 4.0
LEAST_RISE = 0.02  # of high above low
LOW_SD = 0.015
# Where the chance level is unknown.
UNKNOWN_CHANCE, UNKNOWN_CHANCE_SD = 0.2, 0.15


@dataclass(frozen=True)
class Shape:
    """Priors of a sigmoid. slope, slope_sd: of ln k. high, high_sd. weight: runs count in proportion to
    2^(-weight log2(loss / smallest loss)), so those near the target count most."""

    in_log: bool
    slope: float
    slope_sd: float
    high: float
    high_sd: float
    weight: float


HILL = Shape(in_log=True, slope=8.0, slope_sd=0.5, high=0.98, high_sd=0.06, weight=1.5)
LOGISTIC = Shape(in_log=False, slope=6.0, slope_sd=0.4, high=1.0, high_sd=0.03, weight=5.0)


@dataclass(frozen=True)
class Sigmoid:
    """K nodes with weights that sum to 1. noise: weighted standard deviation of the accuracies around the best one."""

    shape: Shape
    weights_K: np.ndarray
    k_K: np.ndarray
    midpoint_K: np.ndarray
    low_K: np.ndarray
    high_K: np.ndarray
    noise: float

    def predict(self, loss_m) -> tuple[np.ndarray, np.ndarray]:
        """(mean [m], sd [m]) of the accuracy at losses [m]."""
        x_m = np.log(loss_m) if self.shape.in_log else np.asarray(loss_m)
        s_Km = _rise(self.k_K[:, None], self.midpoint_K[:, None], x_m)
        acc_Km = self.low_K[:, None] * (1 - s_Km) + self.high_K[:, None] * s_Km
        mean_m = self.weights_K @ acc_Km
        return mean_m, np.sqrt(self.weights_K @ (acc_Km - mean_m) ** 2)


def fit(loss_n: np.ndarray, acc_n: np.ndarray, weights_n: np.ndarray, chance: float | None, shape: Shape) -> Sigmoid:
    """The posterior from n weighted pairs of loss and accuracy. chance: accuracy by guessing; None if unknown."""
    low, low_sd = (UNKNOWN_CHANCE, UNKNOWN_CHANCE_SD) if chance is None else (chance, LOW_SD)
    weights_n = weights_n * (loss_n / loss_n.min()) ** -(shape.weight / np.log(2))
    n_effective = weights_n.sum() ** 2 / (weights_n**2).sum()
    weights_n = weights_n * (n_effective / weights_n.sum())
    x_n, midpoints = _midpoints(loss_n, shape)
    s_KLn = _rise(SLOPES[:, None, None], midpoints[:, None], x_n)
    low_KL, high_KL = _ends(s_KLn, acc_n, weights_n, (low, PRIOR_SD**2 / low_sd**2), shape)
    residual_KLn = acc_n - low_KL[..., None] * (1 - s_KLn) - high_KL[..., None] * s_KLn
    rss_KL = residual_KLn**2 @ weights_n
    rss_KL = (
        rss_KL + (PRIOR_SD / low_sd * (low_KL - low)) ** 2 + (PRIOR_SD / shape.high_sd * (high_KL - shape.high)) ** 2
    )
    log_posterior = -0.5 * (n_effective + PRIOR_RUNS) * np.log(rss_KL / n_effective + PRIOR_SD**2)
    log_posterior = log_posterior - 0.5 * (np.log(SLOPES / shape.slope)[:, None] / shape.slope_sd) ** 2
    log_posterior = np.where(high_KL < low_KL + LEAST_RISE, -np.inf, log_posterior)
    mass_KL = np.exp(log_posterior - log_posterior.max())
    best = np.unravel_index(mass_KL.argmax(), mass_KL.shape)
    noise = np.sqrt(residual_KLn[best] ** 2 @ weights_n / weights_n.sum() + PRIOR_SD**2)
    k_KL, midpoint_KL = np.meshgrid(SLOPES, midpoints, indexing="ij")
    nodes = (array.ravel() for array in (mass_KL / mass_KL.sum(), k_KL, midpoint_KL, low_KL, high_KL))
    return Sigmoid(shape, *nodes, float(noise))


def _rise(k, midpoint, x):
    return 1 / (1 + np.exp(-k * (midpoint - x)))


def _midpoints(loss_n: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """(x_n, the grid of midpoints): from well below the smallest loss to a little above the largest."""
    lo, hi = loss_n.min(), loss_n.max() * 1.05
    if shape.in_log:
        return np.log(loss_n), np.linspace(np.log(0.25 * lo), np.log(hi), N_MIDPOINTS)
    return loss_n, np.linspace(0.3 * lo, hi, N_MIDPOINTS)


def _ends(s_KLn, acc_n, weights_n, low: tuple[float, float], shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) by least squares with their priors; low: prior mean and its weight."""
    high_weight = PRIOR_SD**2 / shape.high_sd**2
    t_KLn = 1 - s_KLn
    tt, ss, ts = t_KLn**2 @ weights_n + low[1], s_KLn**2 @ weights_n + high_weight, (s_KLn * t_KLn) @ weights_n
    ty, sy = t_KLn @ (weights_n * acc_n) + low[1] * low[0], s_KLn @ (weights_n * acc_n) + high_weight * shape.high
    determinant = tt * ss - ts**2
    low_KL, high_KL = (ty * ss - sy * ts) / determinant, (sy * tt - ty * ts) / determinant
    return np.where(high_KL > 1, (ty - ts) / tt, low_KL), np.minimum(high_KL, 1.0)
