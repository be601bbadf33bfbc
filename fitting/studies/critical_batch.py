"""B_crit(L): the critical batch size as a power of the loss, measured by `ladder study batch` on a text."""

from dataclasses import asdict, dataclass, replace

import numpy as np

from fitting.errors import InputError
from fitting.inference import measured
from fitting.studies.regression import student

KEY = "critical_batch"  # in study.json, under "measured"


@dataclass(frozen=True)
class CriticalBatch:
    """ln B_crit(L) = log_tokens - exponent ln(L / loss), B_crit in tokens and L in bits per byte.

    cov: covariance of (log_tokens, exponent), estimated with dof degrees of freedom. measured: the highest and the
    lowest loss at which it was measured. corpora: that the runs read; () where it is not known.
    """

    loss: float
    log_tokens: float
    exponent: float
    cov: tuple[tuple[float, float], tuple[float, float]]
    dof: int
    measured: tuple[float, float]
    corpora: tuple[str, ...] = ()

    def at(self, loss: np.ndarray) -> np.ndarray:
        """B_crit in tokens at losses."""
        return np.exp(self.log_tokens - self.exponent * np.log(np.asarray(loss) / self.loss))

    def share_of_least(self, loss: np.ndarray, batch_tokens: np.ndarray) -> np.ndarray:
        """C_min / C, and also D_min / D (Kaplan et al. 2020, equation 5.5): the share of a run's compute that training
        to its loss at a batch far below B_crit would take."""
        return 1 / (1 + np.asarray(batch_tokens) / self.at(loss))

    def deviations(self) -> list[tuple["CriticalBatch", "CriticalBatch"]]:
        """Pairs of laws, one standard deviation above and below this one along each principal axis of cov."""
        variance_P, axes_PP = np.linalg.eigh(np.array(self.cov))
        pairs = []
        for axis_P in (np.sqrt(np.maximum(variance_P, 0)) * axes_PP).T:
            pairs.append(tuple(self._moved(sign * axis_P) for sign in (1, -1)))
        return pairs

    def _moved(self, by: np.ndarray) -> "CriticalBatch":
        return replace(self, log_tokens=self.log_tokens + by[0], exponent=self.exponent + by[1])

    @property
    def t(self) -> float:
        return student(self.dof)

    def json(self) -> dict:
        return asdict(self)


def read(path) -> CriticalBatch:
    """Read B_crit(L) from study.json of `ladder study batch`. Raises InputError if it is not in it."""
    found = measured.read(path, KEY, "batch")
    try:
        return CriticalBatch(
            *(float(found[name]) for name in ("loss", "log_tokens", "exponent")),
            tuple(tuple(map(float, row)) for row in found["cov"]),
            int(found["dof"]),
            tuple(map(float, found["measured"])),
            tuple(map(str, found["corpora"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error!r}); write it again with ladder study batch") from None
