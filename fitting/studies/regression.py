"""Linear least squares and the jackknife, with Student's t: values and their 95 % intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fitting.errors import InputError

LEVEL = 0.95


@dataclass(frozen=True)
class Line:
    """y = basis @ q. cov: of q. dof: degrees of freedom of the residuals; inf where the noise of y was known."""

    q: np.ndarray
    cov: np.ndarray
    dof: float
    sd: float

    def of(self, weights: np.ndarray) -> tuple[float, tuple[float, float]]:
        """(value, 95 % interval) of weights @ q."""
        value, half = weights @ self.q, self.t * np.sqrt(weights @ self.cov @ weights)
        return float(value), (float(value - half), float(value + half))

    def band(self, basis_mP: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, lo, hi), each [m]: the 95 % interval of the mean of y."""
        value_m = basis_mP @ self.q
        half_m = self.t * np.sqrt(np.einsum("mp,pq,mq->m", basis_mP, self.cov, basis_mP))
        return value_m, value_m - half_m, value_m + half_m

    @property
    def t(self) -> float:
        return student(self.dof)


def student(dof: float) -> float:
    """Half of a 95 % interval in standard errors, where these have `dof` degrees of freedom (inf: they are known)."""
    return float(stats.t.ppf((1 + LEVEL) / 2, dof) if np.isfinite(dof) else stats.norm.ppf((1 + LEVEL) / 2))


def jackknife(left_out: np.ndarray) -> np.ndarray:
    """[n, ...]: deviations whose squares sum to the variance of an estimate. left_out: [n, ...], the estimates without
    one of n parts each (Tukey 1958)."""
    n = len(left_out)
    return np.sqrt((n - 1) / n) * (left_out - left_out.mean(axis=0))


def line(basis_nP: np.ndarray, y_n: np.ndarray, sd_n: np.ndarray | None = None) -> Line:
    """The least-squares fit. sd_n: known standard deviation of each y; None: one for all, from the residuals.

    Raises InputError where there are too few different points.
    """
    weight_n1 = (1 / sd_n if sd_n is not None else np.ones(len(y_n)))[:, None]
    weighted = basis_nP * weight_n1
    n, p = basis_nP.shape
    if np.linalg.matrix_rank(weighted) < p or (sd_n is None and n <= p):
        raise InputError(f"{n} runs are too few for the {p} coefficients of a fit")
    q, *_ = np.linalg.lstsq(weighted, y_n * weight_n1[:, 0], rcond=None)
    inverse = np.linalg.inv(weighted.T @ weighted)
    if sd_n is not None:
        return Line(q, inverse, np.inf, np.nan)
    variance = float(np.sum((y_n - basis_nP @ q) ** 2) / (n - p))
    return Line(q, inverse * variance, n - p, float(np.sqrt(variance)))


def mean(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """(mean, 95 % interval) of independent values. Raises InputError for fewer than two."""
    if len(values) < 2:
        raise InputError(f"{len(values)} independent values: an interval needs at least 2")
    return line(np.ones((len(values), 1)), np.asarray(values, float)).of(np.ones(1))


def deviation(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """(standard deviation, 95 % interval) of normal values, by the chi-squared distribution."""
    if (dof := len(values) - 1) < 1:
        raise InputError(f"{len(values)} seeds: a standard deviation needs at least 2")
    sd = float(np.std(values, ddof=1))
    return sd, spread(sd, dof)


def spread(sd: float, dof: int) -> tuple[float, float]:
    """The 95 % interval of a standard deviation that was estimated with `dof` degrees of freedom."""
    low, high = stats.chi2.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dof)
    return float(sd * np.sqrt(dof / high)), float(sd * np.sqrt(dof / low))
