"""Bounds by a change of variables: from unconstrained (free) numbers to parameters within bounds, and back."""

import jax
import jax.numpy as jnp
import numpy as np

# Free numbers are clipped to this range, so that sigmoid and softplus do not overflow.
FREE_LIMIT = 40.0


def from_free(free_P: jax.Array, bounds: tuple) -> jax.Array:
    """Parameters from free numbers: by the identity, softplus, or a scaled logistic function."""
    limit = np.asarray(FREE_LIMIT, free_P.dtype)
    clipped_P = jax.lax.clamp(-limit, free_P, limit)
    if not np.isfinite(bounds).any():
        return clipped_P
    columns = []
    for z, (lo, hi) in zip(jnp.unstack(clipped_P, axis=-1), bounds, strict=True):
        if np.isfinite(lo) and np.isfinite(hi):
            columns.append(lo + (hi - lo) * jax.nn.sigmoid(z))
        elif np.isfinite(lo):
            columns.append(lo + jax.nn.softplus(z))
        elif np.isfinite(hi):
            columns.append(hi - jax.nn.softplus(z))
        else:
            columns.append(z)
    return jnp.stack(columns, axis=-1)


def to_free(params: np.ndarray, bounds: tuple) -> np.ndarray:
    """Inverse of from_free. A parameter on a bound becomes -FREE_LIMIT or FREE_LIMIT, where its gradient is zero."""

    def inverse_softplus(y):
        return y + np.log(-np.expm1(-y))

    columns = []
    for x, (lo, hi) in zip(np.moveaxis(params, -1, 0), bounds, strict=True):
        above, below = np.maximum(x - lo, 0), np.maximum(hi - x, 0)
        with np.errstate(divide="ignore"):
            if np.isfinite(lo) and np.isfinite(hi):
                columns.append(np.log(above) - np.log(below))
            elif np.isfinite(lo) or np.isfinite(hi):
                columns.append(inverse_softplus(above if np.isfinite(lo) else below))
            else:
                columns.append(x)
    return np.clip(np.stack(columns, axis=-1), -FREE_LIMIT, FREE_LIMIT)
