"""Scores of forecasts against measurements: error, coverage, interval score (lower is better)."""

import numpy as np

from fitting.inference.calibration import LEVEL


def coverage(error_n: np.ndarray, half_n) -> float:
    """Share of measurements within their half-widths; nan without any."""
    known_n = ~np.isnan(error_n)
    return float((np.abs(error_n) <= half_n)[known_n].mean()) if known_n.any() else float("nan")


def interval_scores(error_n: np.ndarray, half_n, level: float = LEVEL) -> np.ndarray:
    """[n]: width + 2 / (1 - level) times the miss (Gneiting and Raftery 2007)."""
    return 2 * half_n + 2 / (1 - level) * np.maximum(np.abs(error_n) - half_n, 0)


def interval_score(error_n: np.ndarray, half_n, level: float = LEVEL) -> float:
    """Their mean; nan without any."""
    score_n = interval_scores(error_n, half_n, level)
    return float(np.nanmean(score_n)) if np.isfinite(score_n).any() else float("nan")
