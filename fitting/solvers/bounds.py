"""Bounds kept by a change of variables: unconstrained numbers to parameters and back."""

import jax
import jax.numpy as jnp
import numpy as np

# Beyond this range exp() and softplus() leave float64.
FREE_LIMIT = 40.0


def from_free(free_P: jax.Array, bounds: tuple) -> jax.Array:
    """Unconstrained -> within bounds: identity, softplus, or a scaled logistic function."""
    columns = []
    for z, (lo, hi) in zip(jnp.unstack(free_P, axis=-1), bounds, strict=True):
        z = jnp.clip(z, -FREE_LIMIT, FREE_LIMIT)
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
    """Inverse of from_free. A start on a bound stays there: its gradient is zero (FREE_LIMIT)."""
    columns = []
    for x, (lo, hi) in zip(np.moveaxis(params, -1, 0), bounds, strict=True):
        with np.errstate(divide="ignore"):
            if np.isfinite(lo) and np.isfinite(hi):
                columns.append(np.log(np.maximum(x - lo, 0)) - np.log(np.maximum(hi - x, 0)))
            elif np.isfinite(lo):
                columns.append(_inverse_softplus(np.maximum(x - lo, 0)))
            elif np.isfinite(hi):
                columns.append(_inverse_softplus(np.maximum(hi - x, 0)))
            else:
                columns.append(x)
    return np.clip(np.stack(columns, axis=-1), -FREE_LIMIT, FREE_LIMIT)


def _inverse_softplus(x: np.ndarray) -> np.ndarray:
    return x + np.log(-np.expm1(-x))
