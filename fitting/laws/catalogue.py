"""Every law: its form, its parameters, where a fit starts, and where it comes from.

Adding a law is one entry in this file; `law.Law` says what its fields mean.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.annealing import annealed
from fitting.laws.base import INF, NO_E, Law, Param, floor, level, log_coordinates, log_scale
from fitting.laws.power_laws import B_CRIT, BATCH, KAPLAN, POWERS, RATE, TRANSFER

# Loss against parameters and tokens ------------------------------------------------------------


# The data determine the level and the two slopes at their centre; alpha and beta (the curvatures)
# only weakly, and E follows from all. So these are the coordinates: theta = (level, ln slope in N,
# alpha, ln slope in D, beta), with E = level - slope_N / alpha - slope_D / beta.


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


def _tied_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
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
    starts=_tied_starts,
    log_space=True,
    source="Muennighoff et al. 2023: one exponent, found equal when fitted apart; a short ladder cannot tell two apart",
    theta=lambda natural, centre: _chinchilla_theta(natural | {"beta": natural["alpha"]}, centre)[..., [0, 1, 3, 2]],
)


def _without_beta(natural: dict) -> dict:
    return {name: value for name, value in natural.items() if name != "beta"}


# Repeated data --------------------------------------------------------------------------------


def _effective(x, unique, log_r):
    """ln X' of X' = U (1 + R* (1 - exp(-R / R*))), R = X/U - 1 repetitions (Muennighoff et al. 2023, eqs. 5, 6)."""
    once, r = jnp.minimum(x, unique), jnp.exp(log_r)
    return once + jnp.log1p(-r * jnp.expm1(-jnp.expm1(x - once) / r))


def _repeated(theta: jax.Array, x: dict) -> jax.Array:
    _, slope_n, slope_d, alpha, log_rd, log_rn = jnp.unstack(theta, axis=-1)
    # The parameters for which U tokens are compute-optimal: there both slopes are the same.
    enough = jnp.minimum(x["U"], x["D"]) + (slope_n - slope_d) / alpha
    effective = {"N": _effective(x["N"], enough, log_rn), "D": _effective(x["D"], x["U"], log_rd)}
    return TIED.form(theta[..., :4], effective)


def _repeated_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([_tied_starts(x, y, n, rng), rng.uniform(0.0, 4.0, (n, 2))])


LOG_R = (np.log(0.05), np.log(1e4))
REPEATED = Law(
    name="muennighoff",
    formula="L = E + A/N'^alpha + B/D'^alpha, X' = U_X (1 + R_X (1 - exp(-(X/U_X - 1) / R_X)))",
    features=("N", "D", "U"),
    params=TIED.params + (Param("R_D", "repetitions", (0.05, 1e4)), Param("R_N", "repetitions", (0.05, 1e4))),
    bounds=TIED.bounds + (LOG_R, LOG_R),
    # D/U must survive: both are measured from the same centre.
    scale=lambda features, y: (centre := log_scale(features, y)) | {"U": centre["D"]},
    coordinates=log_coordinates,
    form=_repeated,
    natural=lambda theta, centre: (
        TIED.natural(theta[..., :4], centre) | {"R_D": np.exp(theta[..., 4]), "R_N": np.exp(theta[..., 5])}
    ),
    starts=_repeated_starts,
    log_space=True,
    source="Muennighoff et al. 2023: U_D unique tokens, U_N the parameters that they are compute-optimal for",
    theta=lambda p, centre: np.append(TIED.theta(p, centre), np.log([p["R_D"], p["R_N"]])),
)

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

# Along learning curves ---------------------------------------------------------------------------

POWER_D = next(law for law in POWERS if law.name == "power-d")
ANNEALING = annealed(POWER_D, "annealing"), annealed(CHINCHILLA, "annealing-n")

LAWS = {
    law.name: law
    for law in (CHINCHILLA, TIED, REPEATED, *KAPLAN, *POWERS, *ANNEALING, B_CRIT, BATCH, RATE, TRANSFER, SIGMOID)
}
