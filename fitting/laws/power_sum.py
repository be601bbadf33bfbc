"""Loss as a sum of two power terms and an irreducible loss (Hoffmann et al. 2022)."""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import INF, NO_E, Law, Param, floor, level, log_coordinates, log_scale


def _chinchilla_terms(theta, xp=jnp):
    """-> (E, A, B): the three terms at the centre of the data."""
    a = xp.exp(theta[..., 1]) / theta[..., 2]
    b = xp.exp(theta[..., 3]) / theta[..., 4]
    return floor(theta[..., 0] - a - b, xp), a, b


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


def _chinchilla_theta(natural: dict, centre: dict) -> np.ndarray:
    alpha, beta = natural["alpha"], natural["beta"]
    a = natural["A"] * np.exp(-alpha * centre["N"]) / centre["y"]
    b = natural["B"] * np.exp(-beta * centre["D"]) / centre["y"]
    at_centre = level(natural["E"] / centre["y"], a + b)
    return np.stack([at_centre, np.log(a * alpha), alpha, np.log(b * beta), beta], axis=-1)


def _chinchilla_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    # The mean of y is split at random between the three terms; exponents of any published size.
    # Of such starts 99.9 % reach the optimum on Chinchilla's points, of Hoffmann's grid 5.5 %.
    e, a, b = rng.dirichlet((6.0, 2.0, 2.0), n).T * np.mean(y)
    alpha, beta = rng.uniform(0.1, 0.8, (2, n))
    at_centre = level(e, a + b)
    at_centre[::4] = NO_E
    return np.column_stack([at_centre, np.log(a * alpha), alpha, np.log(b * beta), beta])


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
    scale=log_scale,
    coordinates=log_coordinates,
    form=_chinchilla,
    natural=_chinchilla_natural,
    starts=_chinchilla_starts,
    log_space=True,
    source="Hoffmann et al. 2022, approach 3; Bhagia et al. 2024, step 1",
    theta=_chinchilla_theta,
)


# theta = (level, ln slope in N, ln slope in D, alpha): the coordinates above with one exponent.
def _untied(theta, xp=jnp):
    return xp.stack([theta[..., i] for i in (0, 1, 3, 2, 3)], axis=-1)


def tied_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    at_centre, slope_n, alpha, slope_d, beta = _chinchilla_starts(x, y, n, rng).T
    return np.column_stack([at_centre, slope_n, slope_d, (alpha + beta) / 2])


TIED = Law(
    name="chinchilla-tied",
    formula="L = E + A/N^alpha + B/D^alpha",
    features=CHINCHILLA.features,
    params=CHINCHILLA.params[:2] + (Param("B", "y * tokens^alpha", (0.0, INF)), Param("alpha", "1", (0.0, 2.0))),
    bounds=((-INF, INF), (-INF, INF), (-INF, INF), (0.0, 2.0)),
    scale=log_scale,
    coordinates=log_coordinates,
    form=lambda theta, x: _chinchilla(_untied(theta), x),
    natural=lambda theta, centre: _without_beta(_chinchilla_natural(_untied(theta, np), centre)),
    starts=tied_starts,
    log_space=True,
    source="Muennighoff et al. 2023: one exponent, found equal when fitted apart; a short ladder cannot tell two apart",
    theta=lambda natural, centre: _chinchilla_theta(natural | {"beta": natural["alpha"]}, centre)[..., [0, 1, 3, 2]],
)


def _without_beta(natural: dict) -> dict:
    return {name: value for name, value in natural.items() if name != "beta"}
