"""Loss when data are repeated (Muennighoff et al. 2023)."""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import Law, Param, log_scale
from fitting.laws.forms import SUM
from fitting.laws.power_sum import TIED, tied_starts

LOG_R = (np.log(0.05), np.log(1e4))


def _effective(x, unique, log_r):
    """ln X' of X' = U (1 + R* (1 - exp(-R / R*))), with R = X/U - 1 repetitions (equations 5 and 6).

    x, unique, log_r: ln X, ln U and ln R*.
    """
    once, r = jnp.minimum(x, unique), jnp.exp(log_r)
    return once + jnp.log1p(-r * jnp.expm1(-jnp.expm1(x - once) / r))


def _form(theta: jax.Array, x: dict) -> jax.Array:
    _, slope_n, slope_d, alpha, log_rd, log_rn = jnp.unstack(theta, axis=-1)
    # ln U_N: the number of parameters for which U tokens are compute-optimal, where both slopes are equal.
    log_u_n = jnp.minimum(x["U"], x["D"]) + (slope_n - slope_d) / alpha
    effective = {"N": _effective(x["N"], log_u_n, log_rn), "D": _effective(x["D"], x["U"], log_rd)}
    return TIED.form(theta[..., :4], effective)


def _curve(p, x):
    log_u_n = jnp.log(jnp.minimum(x.U, x.D)) + (jnp.log(p.A) - jnp.log(p.B)) / p.alpha
    n = jnp.exp(_effective(jnp.log(x.N), log_u_n, jnp.log(p.R_N)))
    d = jnp.exp(_effective(jnp.log(x.D), jnp.log(x.U), jnp.log(p.R_D)))
    return SUM.loss(n, d, p.E, p.A, p.B, p.alpha, p.alpha)


REPEATED = Law(
    name="muennighoff",
    formula="L = E + A/N'^alpha + B/D'^alpha, X' = U_X (1 + R_X (1 - exp(-(X/U_X - 1) / R_X)))",
    source="Muennighoff et al. 2023: U_D unique tokens, U_N the parameters that they are compute-optimal for",
    features=("N", "D", "U"),
    params=(*TIED.params, *(Param(name, "scale", "repetitions", (0.05, 1e4)) for name in ("R_D", "R_N"))),
    curve=_curve,
    bounds=(*TIED.bounds, LOG_R, LOG_R),
    # D and U have the same centre, so that their ratio is kept.
    scale=lambda features, y: (centre := log_scale(features, y)) | {"U": centre["D"]},
    form=_form,
    natural=lambda theta, centre: (
        TIED.natural(theta[..., :4], centre) | {"R_D": np.exp(theta[..., 4]), "R_N": np.exp(theta[..., 5])}
    ),
    starts=lambda x, y, n, rng: np.column_stack([tied_starts(x, y, n, rng), rng.uniform(0.0, 4.0, (n, 2))]),
    theta=lambda p, centre: np.append(TIED.theta(p, centre), np.log([p["R_D"], p["R_N"]])),
)
