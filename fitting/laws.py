"""Every law: its form, its parameters, where a fit starts, and where it comes from.

A law is fitted in *fit coordinates*: features enter as logarithms minus their mean, the fitted
quantity is divided by its geometric mean, and parameters are chosen so that those which the data
determine well do not move when the others do. All are then of order one, and the solver needs tens
of iterations instead of hundreds. `natural` turns them into the parameters that a paper would
print. Adding a law is one entry in this file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

INF = float("inf")
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
    form(theta, x) -> y / centre["y"]. natural(theta, centre) -> {name of parameter: value}.
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

    def on_bound(self, theta_P: np.ndarray) -> np.ndarray:
        """bool[P]: which parameters lie on a bound (within 1e-3, scaled to be of order one)."""
        scaled = self.natural(theta_P, dict.fromkeys(self.features, 0.0) | {"y": 1.0})
        value_P = np.array([float(scaled[p.name]) for p in self.params])
        lo_P, hi_P = np.array([p.bounds for p in self.params]).T
        return (value_P - lo_P < AT_BOUND) | (hi_P - value_P < AT_BOUND)


@lru_cache(maxsize=64)
def residuals(law: Law) -> Callable[[jax.Array, dict, dict], jax.Array]:
    """Huber residuals of a law for `solve`: half their squares sum to sum_n Huber(u_n / delta).

    lane: the features in fit coordinates and "y" (scaled); data["delta"]: Huber's threshold, in
    ln y or in y. Cached, since `solve` compiles once for each function that it is given.
    """

    def huber_residuals(theta_P, data, lane):
        fitted = law.form(theta_P, lane)
        error = jnp.log(lane["y"]) - jnp.log(fitted) if law.log_space else lane["y"] - fitted
        u = error / data["delta"]
        beyond = jnp.abs(u) > 1
        # sqrt(2 |u| - 1) squares to twice Huber's linear branch; the inner where keeps its gradient
        # finite on the other branch.
        linear = jnp.sign(u) * jnp.sqrt(jnp.where(beyond, 2 * jnp.abs(u) - 1, 1.0))
        return jnp.where(beyond, linear, u)

    return huber_residuals


# Loss against parameters and tokens ------------------------------------------------------------


def _log_scale(features: dict, y: np.ndarray) -> dict:
    centre = {k: float(np.mean(np.log(v))) for k, v in features.items()}
    return centre | {"y": float(np.exp(np.mean(np.log(y))))}


def _log_coordinates(features: dict, centre: dict) -> dict:
    return {k: np.log(v) - centre[k] for k, v in features.items()}


# The data determine the level and the two slopes at their centre; alpha and beta (the curvatures)
# only weakly, and E follows from all. So these are the coordinates: theta = (level, ln slope in N,
# alpha, ln slope in D, beta), with E = level - slope_N / alpha - slope_D / beta kept >= 0 by a
# softplus of this width (in units of mean y): a change of variables, not of the form.
SOFT = 0.05
# A level so low that E = 0, from which no gradient leads away: a start that keeps E at 0.
NO_E = -40.0


def _chinchilla_terms(theta, xp=jnp):
    """-> (E, A, B): the three terms at the centre of the data."""
    a = xp.exp(theta[..., 1]) / theta[..., 2]
    b = xp.exp(theta[..., 3]) / theta[..., 4]
    return SOFT * xp.logaddexp((theta[..., 0] - a - b) / SOFT, 0.0), a, b


def _chinchilla(theta: jax.Array, x: dict) -> jax.Array:
    e, a, b = _chinchilla_terms(theta)
    return e + a * jnp.exp(-theta[..., 2] * x["N"]) + b * jnp.exp(-theta[..., 4] * x["D"])


def _chinchilla_natural(theta: np.ndarray, centre: dict) -> dict:
    e, a, b = _chinchilla_terms(theta, np)
    alpha, beta = theta[..., 2], theta[..., 4]
    return {
        "E": e * centre["y"],
        "A": a * np.exp(alpha * centre["N"]) * centre["y"],
        "alpha": alpha,
        "B": b * np.exp(beta * centre["D"]) * centre["y"],
        "beta": beta,
    }


def _chinchilla_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    # The mean of y is split at random between the three terms; exponents of any published size.
    # Of such starts 99.9 % reach the optimum on Chinchilla's points, of Hoffmann's grid 5.5 %.
    e, a, b = rng.dirichlet((6.0, 2.0, 2.0), n).T * np.mean(y)
    alpha, beta = rng.uniform(0.1, 0.8, (2, n))
    level = a + b + e + SOFT * np.log(-np.expm1(-e / SOFT))
    level[::4] = NO_E
    return np.column_stack([level, np.log(a * alpha), alpha, np.log(b * beta), beta])


CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    features=("N", "D"),
    params=(
        Param("E", "y", (0.0, INF)),
        Param("A", "y * parameters^alpha", (0.0, INF)),
        Param("alpha", "1", (0.0, 2.0)),
        Param("B", "y * tokens^beta", (0.0, INF)),
        Param("beta", "1", (0.0, 2.0)),
    ),
    bounds=((-INF, INF), (-INF, INF), (0.0, 2.0), (-INF, INF), (0.0, 2.0)),
    scale=_log_scale,
    coordinates=_log_coordinates,
    form=_chinchilla,
    natural=_chinchilla_natural,
    starts=_chinchilla_starts,
    log_space=True,
    source="Hoffmann et al. 2022, approach 3; Bhagia et al. 2024, step 1",
)


# theta = (level, ln slope in N, ln slope in D, alpha): the coordinates above with one exponent.
def _untied(theta, xp=jnp):
    return xp.stack([theta[..., i] for i in (0, 1, 3, 2, 3)], axis=-1)


def _tied_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    level, slope_n, alpha, slope_d, beta = _chinchilla_starts(x, y, n, rng).T
    return np.column_stack([level, slope_n, slope_d, (alpha + beta) / 2])


TIED = Law(
    name="chinchilla-tied",
    formula="L = E + A/N^alpha + B/D^alpha",
    features=CHINCHILLA.features,
    params=CHINCHILLA.params[:2] + (Param("B", "y * tokens^alpha", (0.0, INF)), Param("alpha", "1", (0.0, 2.0))),
    bounds=((-INF, INF), (-INF, INF), (-INF, INF), (0.0, 2.0)),
    scale=_log_scale,
    coordinates=_log_coordinates,
    form=lambda theta, x: _chinchilla(_untied(theta), x),
    natural=lambda theta, centre: _without_beta(_chinchilla_natural(_untied(theta, np), centre)),
    starts=_tied_starts,
    log_space=True,
    source="Muennighoff et al. 2023: one exponent, found equal when fitted apart; a short ladder cannot tell two apart",
)


def _without_beta(natural: dict) -> dict:
    return {name: value for name, value in natural.items() if name != "beta"}


# Accuracy against bpb --------------------------------------------------------------------------


def _sigmoid(theta: jax.Array, x: dict) -> jax.Array:
    a, l0, k, b = (theta[..., i] for i in range(4))
    return b + a * jax.nn.sigmoid(k * (x["bpb"] - l0))


def _sigmoid_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    lo, hi = np.min(x["bpb"]), np.max(x["bpb"])
    ceiling = rng.uniform(np.clip(np.max(y), 0.1, 0.95), 1.0, n)
    ceiling[::2] = 1.0
    drop = np.clip(ceiling - np.min(y), 0.02, 0.98)
    return np.column_stack([-drop, rng.uniform(0.5 * lo, hi, n), rng.uniform(1.0, 8.0, n), ceiling])


SIGMOID = Law(
    name="sigmoid",
    formula="acc = b + a / (1 + exp(-k (bpb - L0)))",
    features=("bpb",),
    params=(
        Param("a", "1", (-1.0, 0.0)),
        Param("L0", "bits/byte", (0.0, INF)),
        Param("k", "bytes/bit", (0.0, 50.0)),
        Param("b", "1", (0.0, 1.0)),
    ),
    bounds=((-1.0, 0.0), (0.0, INF), (0.0, 50.0), (0.0, 1.0)),
    scale=lambda features, y: {"bpb": 0.0, "y": 1.0},
    coordinates=lambda features, centre: dict(features),
    form=_sigmoid,
    natural=lambda theta, centre: {n: theta[..., i] for i, n in enumerate(("a", "L0", "k", "b"))},
    starts=_sigmoid_starts,
    log_space=False,
    source="Bhagia et al. 2024, step 2",
)

LAWS = {law.name: law for law in (CHINCHILLA, TIED, SIGMOID)}
