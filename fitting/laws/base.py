"""What a law is: a formula, its parameters, and the coordinates in which it is fitted.

A law is fitted in *fit coordinates* theta: features enter as logarithms minus their mean, the fitted quantity y is
divided by its geometric mean, and each coordinate is of order one. They are chosen so that the coordinates that the
data determine well depend little on the others; the solver then needs tens of iterations instead of hundreds. `natural`
turns theta into the parameters that a paper prints; the field `theta` is its inverse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

INF = float("inf")
FREE = (-INF, INF)
AT_BOUND = 1e-3  # a parameter this close to a bound, in fit coordinates, is on it


@dataclass(frozen=True)
class Param:
    """A parameter as papers print it.

    role: "floor" is an irreducible loss; a "scale" is positive and may span decades (A, N_c, S_min), so its intervals
    are computed in its logarithm; "exponent"; "other". unit: {y} stands for the unit of the fitted quantity.
    """

    name: str
    role: Literal["floor", "scale", "exponent", "other"]
    unit: str
    bounds: tuple[float, float]

    def unit_in(self, quantity: str) -> str:
        return self.unit.format(y=quantity)


def log_scale(features: dict, y: np.ndarray) -> dict:
    """The centre of a law in logarithms: {feature: mean of its logarithm, "y": geometric mean}."""
    centre = {k: float(np.mean(np.log(v))) for k, v in features.items()}
    return centre | {"y": float(np.exp(np.mean(np.log(y))))}


def log_coordinates(features: dict, centre: dict) -> dict:
    """{feature: its logarithm minus the centre}."""
    return {k: np.log(v) - centre[k] for k, v in features.items()}


@dataclass(frozen=True, kw_only=True)
class Law:
    """A parametric form of y.

    features: the quantities it needs ("N": parameters, "D": tokens, "bpb", ...). source: paper and equation.
    curve(p, x) -> y: the formula, written with jax.numpy, of natural parameters p.NAME and features x.NAME.
    log_space: residuals are ln y - ln curve; otherwise y - curve.

    Fit coordinates: bounds of theta[..., P]; scale(features, y) -> centre, {name: number}, the origin and unit of the
    coordinates; coordinates(features, centre) -> features in fit coordinates; form(theta, x) -> y / centre["y"];
    natural(theta, centre) -> {name of parameter: value}; theta(natural, centre), its inverse; starts(x, y, n, rng) ->
    [n, P] from the data (y divided by centre["y"]), some of them on the bounds where fits often end.

    optimum(natural, batch) -> (k, a) of the compute-optimal size, ln N_opt = k + a ln C at C = 6 N D; None if the law
    has none. at_critical_batch: it is for training at B_crit(L), whose constants are `batch`.
    """

    name: str
    formula: str
    features: tuple[str, ...]
    params: tuple[Param, ...]
    curve: Callable
    bounds: tuple[tuple[float, float], ...]
    form: Callable[[jax.Array, dict], jax.Array]
    natural: Callable[[np.ndarray, dict], dict]
    starts: Callable[[dict, np.ndarray, int, np.random.Generator], np.ndarray]
    source: str
    theta: Callable[[dict, dict], np.ndarray] | None = None
    scale: Callable[[dict, np.ndarray], dict] = log_scale
    coordinates: Callable[[dict, dict], dict] = log_coordinates
    log_space: bool = True
    optimum: Callable[[dict, dict], tuple] | None = None
    at_critical_batch: bool = False

    def at(self, params: dict, features: dict) -> np.ndarray:
        """y[n] at natural parameters {name: number} and features {name: [n]}."""
        with jax.enable_x64(True):
            return np.asarray(_curve(self, params, {k: np.asarray(features[k], float) for k in self.features}))

    def on_bound(self, theta_P: np.ndarray) -> np.ndarray:
        """bool[P]: which parameters are within 1e-3 of a bound, in units of the centre."""
        scaled = self.natural(theta_P, dict.fromkeys(self.features, 0.0) | {"y": 1.0})
        value_P = np.array([float(scaled[p.name]) for p in self.params])
        lo_P, hi_P = np.array([p.bounds for p in self.params]).T
        return (value_P - lo_P < AT_BOUND) | (hi_P - value_P < AT_BOUND)


@partial(jax.jit, static_argnums=0)
def _curve(law: Law, params: dict, features: dict) -> jax.Array:
    return law.curve(SimpleNamespace(**params), SimpleNamespace(**features))


# E >= 0 is a softplus of (level - other terms), with this width in units of mean y. It only changes variables: the law
# itself stays as printed.
SOFT = 0.05
# A level so low that E = 0 and its gradient vanishes: a start there keeps E at 0.
NO_E = -40.0


def floor(left, xp=jnp):
    """E >= 0 from left = level - other terms."""
    return SOFT * xp.logaddexp(left / SOFT, 0.0)


def level(e, others):
    """The level at which `floor` gives E = e > 0. others: the sum of the other terms."""
    return others + e + SOFT * np.log(-np.expm1(-np.asarray(e) / SOFT))
