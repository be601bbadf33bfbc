"""Loss as an irreducible loss and two power terms (Hoffmann et al. 2022), with two exponents or one.

The data determine the level and the two slopes at their centre well; alpha and beta (the curvatures) weakly, and E
follows from all. So theta = (level, ln slope in N, alpha, ln slope in D, beta), with
E = level - slope_N / alpha - slope_D / beta.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, INF, NO_E, Law, Param, floor, level

EXPONENT = (0.0, 2.0)


def _terms(theta, xp=jnp):
    """-> (E, A, B): the three terms at the centre of the data."""
    a = xp.exp(theta[..., 1]) / theta[..., 2]
    b = xp.exp(theta[..., 3]) / theta[..., 4]
    return floor(theta[..., 0] - a - b, xp), a, b


def _form(theta: jax.Array, x: dict) -> jax.Array:
    e, a, b = _terms(theta)
    return e + a * jnp.exp(-theta[..., 2] * x["N"]) + b * jnp.exp(-theta[..., 4] * x["D"])


def _natural(theta: np.ndarray, centre: dict) -> dict:
    e, a, b = _terms(theta, np)
    alpha, beta = theta[..., 2], theta[..., 4]
    return {
        "E": e * centre["y"],
        "A": a * np.exp(alpha * centre["N"]) * centre["y"],
        "alpha": alpha,
        "B": b * np.exp(beta * centre["D"]) * centre["y"],
        "beta": beta,
    }


def _theta(natural: dict, centre: dict) -> np.ndarray:
    alpha, beta = natural["alpha"], natural["beta"]
    a = natural["A"] * np.exp(-alpha * centre["N"]) / centre["y"]
    b = natural["B"] * np.exp(-beta * centre["D"]) / centre["y"]
    at_centre = level(natural["E"] / centre["y"], a + b)
    return np.stack([at_centre, np.log(a * alpha), alpha, np.log(b * beta), beta], axis=-1)


def _starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    # The mean of y is split at random between the three terms; exponents of any published size. 99.9 % of such starts
    # reach the optimum on Chinchilla's points; of Hoffmann's grid 5.5 % do.
    e, a, b = rng.dirichlet((6.0, 2.0, 2.0), n).T * np.mean(y)
    alpha, beta = rng.uniform(0.1, 0.8, (2, n))
    at_centre = level(e, a + b)
    at_centre[::4] = NO_E
    return np.column_stack([at_centre, np.log(a * alpha), alpha, np.log(b * beta), beta])


def optimum_of_terms(log_a, alpha, log_b, beta) -> tuple:
    """(k, a) of ln N_opt = k + a ln C where A/N^alpha + B/D^beta is least at C = 6 N D.

    N = G (C/6)^a, a = beta / (alpha + beta), G = (alpha A / beta B)^(1 / (alpha + beta)) (Hoffmann et al. 2022,
    equation 4).
    """
    a = beta / (alpha + beta)
    log_g = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)
    return log_g - a * np.log(6), a


CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. 2022, approach 3; Bhagia et al. 2024, step 1",
    features=("N", "D"),
    params=(
        Param("E", "floor", "{y}", (0.0, INF)),
        Param("A", "scale", "{y} * parameters^alpha", (0.0, INF)),
        Param("alpha", "exponent", "1", EXPONENT),
        Param("B", "scale", "{y} * tokens^beta", (0.0, INF)),
        Param("beta", "exponent", "1", EXPONENT),
    ),
    curve=lambda p, x: p.E + p.A / x.N**p.alpha + p.B / x.D**p.beta,
    bounds=(FREE, FREE, EXPONENT, FREE, EXPONENT),
    form=_form,
    natural=_natural,
    starts=_starts,
    theta=_theta,
    optimum=lambda p, batch: optimum_of_terms(np.log(p["A"]), p["alpha"], np.log(p["B"]), p["beta"]),
)


# With one exponent theta = (level, ln slope in N, ln slope in D, alpha).
def _untied(theta, xp=jnp):
    return xp.stack([theta[..., i] for i in (0, 1, 3, 2, 3)], axis=-1)


def _natural_tied(theta: np.ndarray, centre: dict) -> dict:
    natural = _natural(_untied(theta, np), centre)
    return {name: natural[name] for name in ("E", "A", "B", "alpha")}


def tied_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    at_centre, slope_n, alpha, slope_d, beta = _starts(x, y, n, rng).T
    return np.column_stack([at_centre, slope_n, slope_d, (alpha + beta) / 2])


TIED = Law(
    name="chinchilla-tied",
    formula="L = E + A/N^alpha + B/D^alpha",
    source="Muennighoff et al. 2023: one exponent, found equal when fitted apart; a short ladder cannot tell two apart",
    features=CHINCHILLA.features,
    params=(
        *CHINCHILLA.params[:2],
        Param("B", "scale", "{y} * tokens^alpha", (0.0, INF)),
        Param("alpha", "exponent", "1", EXPONENT),
    ),
    curve=lambda p, x: p.E + p.A / x.N**p.alpha + p.B / x.D**p.alpha,
    bounds=(FREE, FREE, FREE, EXPONENT),
    form=lambda theta, x: _form(_untied(theta), x),
    natural=_natural_tied,
    starts=tied_starts,
    theta=lambda natural, centre: _theta(natural | {"beta": natural["alpha"]}, centre)[..., [0, 1, 3, 2]],
    optimum=lambda p, batch: optimum_of_terms(np.log(p["A"]), p["alpha"], np.log(p["B"]), p["alpha"]),
)
