"""How much each run counts in the prediction of one target: runs near it in compute and in tokens per parameter count
most, and runs off the law count less."""

import numpy as np

# Powers and widths that scored best on the tuning families of `ladder bench` (a plateau: 0.6 to 1 changes the median
# error by less than a tenth).
COMPUTE_POWER, RATIO_WIDTH, RATIO_FLOOR = 1.0, 1.25, 0.02
# Residuals beyond OUTLIER robust standard deviations are weighed down; SMALLEST_SD is that of the most precise loss.
OUTLIER, SMALLEST_SD = 2.5, 0.003


def relevance(N: np.ndarray, D: np.ndarray, target_N: float, target_D: float) -> np.ndarray:
    """Weights [n] of runs with N parameters and D tokens, at most 1.

    Proportional to compute N D, times a normal kernel in ln(D/N) around the target's that never falls below a floor.
    """
    log_n, log_d = np.log(N), np.log(D)
    distance = (log_d - log_n) - np.log(target_D / target_N)
    compute = log_n + log_d
    weights = np.exp(COMPUTE_POWER * (compute - compute.max()))
    weights = weights * (np.exp(-0.5 * (distance / RATIO_WIDTH) ** 2) + RATIO_FLOOR)
    return weights / weights.max()


def without_outliers(weights: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Weights [n], times min(1, OUTLIER s / |r|), where s is the median of |r| as a standard deviation."""
    sd = max(1.4826 * np.median(np.abs(residuals)), SMALLEST_SD)
    return weights * np.minimum(1, OUTLIER * sd / np.maximum(np.abs(residuals), 1e-12))
