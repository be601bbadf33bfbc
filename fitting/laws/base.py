"""What a law is: a form, its parameters, and the coordinates in which it is fitted.

A law is fitted in *fit coordinates*: features enter as logarithms minus their mean, the fitted
quantity is divided by its geometric mean, and parameters are chosen so that those which the data
determine well do not move when the others do. All are then of order one, and the solver needs tens
of iterations instead of hundreds. `natural` turns them into the parameters that a paper would
print, `theta` turns those back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

INF = float("inf")
FREE = (-INF, INF)
AT_BOUND = 1e-3


@dataclass(frozen=True)
class Param:
    """A parameter as printed: name, unit (y: that of the fitted quantity), bounds."""

    name: str
    unit: str
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Law:
    """A parametric form y = form(parameters, features).

    features: the quantities it needs ("N": parameters, "D": tokens, "bpb", ...).
    params: as printed. bounds: of the fit coordinates theta[..., P], one for each of params.
    scale(features, y) -> centre: what fit coordinates are measured from, a dict of numbers.
    coordinates(features, centre) -> features in fit coordinates.
    form(theta, x) -> y / centre["y"]. natural(theta, centre) -> {name of parameter: value}; theta(natural,
    centre) is its inverse, for laws whose published parameters are used.
    starts(x, y, n, rng) -> [n, P] from the data (y scaled); some on the bounds that fits end on.
    log_space: residuals are ln y - ln form, or y - form.
    """

    name: str
    formula: str
    features: tuple[str, ...]
    params: tuple[Param, ...]
    bounds: tuple[tuple[float, float], ...]
    scale: Callable[[dict, np.ndarray], dict]
    coordinates: Callable[[dict, dict], dict]
    form: Callable[[jax.Array, dict], jax.Array]
    natural: Callable[[np.ndarray, dict], dict]
    starts: Callable[[dict, np.ndarray, int, np.random.Generator], np.ndarray]
    log_space: bool
    source: str
    theta: Callable[[dict, dict], np.ndarray] | None = None

    def at(self, params: dict, features: dict) -> np.ndarray:
        """y[n] at natural parameters {name: number} and features {name: [n]}: what a published law says."""
        features = {k: np.asarray(features[k], float) for k in self.features}
        centre = self.scale(features, np.ones_like(features[self.features[0]]))
        with jax.enable_x64(True):
            theta_P = jnp.asarray(self.theta(params, centre))
            return np.asarray(self.form(theta_P, self.coordinates(features, centre))) * centre["y"]

    @property
    def has_floor(self) -> bool:
        """Whether the first fit coordinate is the level that `floor` turns into E."""
        return self.params[0].name == "E"

    def without_floor(self, theta_P: np.ndarray) -> np.ndarray:
        """The same point with E on 0, where a start stays."""
        return np.concatenate([np.full_like(theta_P[..., :1], NO_E), theta_P[..., 1:]], axis=-1)

    def on_bound(self, theta_P: np.ndarray) -> np.ndarray:
        """bool[P]: which parameters lie on a bound (within 1e-3, scaled to be of order one)."""
        scaled = self.natural(theta_P, dict.fromkeys(self.features, 0.0) | {"y": 1.0})
        value_P = np.array([float(scaled[p.name]) for p in self.params])
        lo_P, hi_P = np.array([p.bounds for p in self.params]).T
        return (value_P - lo_P < AT_BOUND) | (hi_P - value_P < AT_BOUND)


def log_scale(features: dict, y: np.ndarray) -> dict:
    """Centre of a law in logarithms: means of ln feature, geometric mean of y."""
    centre = {k: float(np.mean(np.log(v))) for k, v in features.items()}
    return centre | {"y": float(np.exp(np.mean(np.log(y))))}


def log_coordinates(features: dict, centre: dict) -> dict:
    """ln feature - its centre."""
    return {k: np.log(v) - centre[k] for k, v in features.items()}


# An irreducible loss E >= 0 is a softplus of this width (in units of mean y) of what the other terms leave of
# the level at the centre: a change of variables, not of the form.
SOFT = 0.05
# A level so low that E = 0, from which no gradient leads away: a start that keeps E at 0.
NO_E = -40.0


def floor(left, xp=jnp):
    """E >= 0 from the level less the other terms."""
    return SOFT * xp.logaddexp(left / SOFT, 0.0)


def level(e, others):
    """The level that leaves E > 0 above the other terms: the inverse of `floor`."""
    return others + e + SOFT * np.log(-np.expm1(-np.asarray(e) / SOFT))
