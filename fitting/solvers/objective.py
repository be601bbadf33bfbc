"""What a fit minimises: Huber's loss of the errors of a law."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp

from fitting.laws.base import Law

# (parameters [P], data of all lanes, data of this lane) -> one number per point, [n].
PerPoint = Callable[[jax.Array, dict, dict], jax.Array]


@lru_cache(maxsize=64)
def residuals(law: Law) -> PerPoint:
    """Residuals of a law for `solve`, half whose squares are `huber`.

    lane: the features in fit coordinates, and "y" (scaled). data["delta"]: Huber's threshold, in ln y if the law is
    fitted in log space, else in y. data["penalty"], if given: weight of a point below the law relative to one above.
    Cached, because `solve` compiles once for each function that it is given.
    """

    def huber_residuals(theta_P, data, lane):
        u = _error(law, theta_P, lane) / data["delta"]
        is_linear = jnp.abs(u) > 1
        # The square of sqrt(2 |u| - 1) is twice Huber's linear branch. The inner `where` keeps the gradient finite on
        # the other branch.
        linear = jnp.sign(u) * jnp.sqrt(jnp.where(is_linear, 2 * jnp.abs(u) - 1, 1.0))
        r = jnp.where(is_linear, linear, u)
        return jnp.where(u < 0, jnp.sqrt(data["penalty"]) * r, r) if "penalty" in data else r

    return huber_residuals


@lru_cache(maxsize=64)
def errors(law: Law) -> PerPoint:
    """Errors in units of data["delta"], for `solve` with the loss `huber`."""
    return lambda theta_P, data, lane: _error(law, theta_P, lane) / data["delta"]


def huber(u: jax.Array, data: dict) -> jax.Array:
    """Huber's loss of errors in units of its threshold; data["penalty"]: see `residuals`."""
    magnitude = jnp.abs(u)
    loss = jnp.where(magnitude > 1, magnitude - 0.5, magnitude**2 / 2)
    return jnp.where(u < 0, data["penalty"] * loss, loss) if "penalty" in data else loss


def _error(law: Law, theta_P: jax.Array, lane: dict) -> jax.Array:
    fitted = law.form(theta_P, lane)
    return jnp.log(lane["y"]) - jnp.log(fitted) if law.log_space else lane["y"] - fitted
