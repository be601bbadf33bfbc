"""Accuracy as a sigmoid of bpb (Bhagia et al. 2024, step 2)."""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import INF, Law, Param


def _form(theta: jax.Array, x: dict) -> jax.Array:
    a, l0, k, b = (theta[..., i] for i in range(4))
    return b + a * jax.nn.sigmoid(k * (x["bpb"] - l0))


def _starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    lo, hi = np.min(x["bpb"]), np.max(x["bpb"])
    ceiling = rng.uniform(np.clip(np.max(y), 0.1, 0.95), 1.0, n)
    ceiling[::2] = 1.0
    drop = np.clip(ceiling - np.min(y), 0.02, 0.98)
    return np.column_stack([-drop, rng.uniform(0.5 * lo, hi, n), rng.uniform(1.0, 8.0, n), ceiling])


SIGMOID = Law(
    name="sigmoid",
    formula="acc = b + a / (1 + exp(-k (bpb - L0)))",
    source="Bhagia et al. 2024, step 2",
    features=("bpb",),
    params=(
        Param("a", "other", "1", (-1.0, 0.0)),
        Param("L0", "scale", "bits/byte", (0.0, INF)),
        Param("k", "scale", "bytes/bit", (0.0, 50.0)),
        Param("b", "other", "1", (0.0, 1.0)),
    ),
    curve=lambda p, x: p.b + p.a / (1 + jnp.exp(-p.k * (x.bpb - p.L0))),
    bounds=((-1.0, 0.0), (0.0, INF), (0.0, 50.0), (0.0, 1.0)),
    scale=lambda features, y: {"bpb": 0.0, "y": 1.0},
    coordinates=lambda features, centre: dict(features),
    form=_form,
    natural=lambda theta, centre: {n: theta[..., i] for i, n in enumerate(("a", "L0", "k", "b"))},
    starts=_starts,
    log_space=False,
)
