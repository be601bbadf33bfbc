"""Loss where data are seen more than once (Muennighoff et al. 2023)."""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import Law, Param, log_coordinates, log_scale
from fitting.laws.power_sum import TIED, tied_starts


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
    return np.column_stack([tied_starts(x, y, n, rng), rng.uniform(0.0, 4.0, (n, 2))])


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
