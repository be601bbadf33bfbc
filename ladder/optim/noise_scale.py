"""The gradient noise scale, measured from the gradients of a batch's parts (McCandlish et al. 2018, appendix A.1).

The simple noise scale is B_simple = tr(Sigma) / |G|^2. G is the gradient of the loss over all data, and Sigma / B the
covariance of the gradient of a batch of B tokens. The squared norm of such a gradient is |G|^2 + tr(Sigma) / B in
expectation, so that two batch sizes give both unknowns: the batch, and its microbatches. A gradient is that of the
optimizer before clipping, the z-loss included.

B counts tokens, but what is drawn at random is a sequence: tr(Sigma) is seq_len times that of sequences. One step says
little, because both estimates are noisy and |G|^2 may even come out negative. fitting/loss_laws/noise_scale.py divides
their means over many steps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

METRICS = ("grad_variance", "grad_squared")  # tr(Sigma) of one token, |G|^2


def accumulated(gradient: Callable, params, tokens_BL: jax.Array, microbatches: int):
    """((gradient, nats), METRICS): the sums over a batch's target tokens, added up in float32, and both estimates.

    gradient: (params, tokens[b, L]) -> (gradient, nats), sums over the L - 1 target tokens of each row. microbatches: a
    divisor of B, at least two.
    """
    n_big = tokens_BL.shape[0] * (tokens_BL.shape[1] - 1)
    n_small = n_big // microbatches
    # Microbatch a takes rows a, a + A, a + 2A, ..., so that every device keeps its own rows.
    tokens_AbL = jnp.swapaxes(tokens_BL.reshape(-1, microbatches, tokens_BL.shape[1]), 0, 1)
    zero = (jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params), jnp.zeros(())), jnp.zeros(())

    def add(carry, tokens_bL):
        total, squares = carry
        part = gradient(params, tokens_bL)
        return (jax.tree.map(jnp.add, total, part), squares + squared_norm(part[0], n_small)), None

    (total, squares), _ = jax.lax.scan(add, zero, tokens_AbL)
    return total, estimates(squares / microbatches, n_small, squared_norm(total[0], n_big), n_big)


def estimates(small: jax.Array, n_small: int, big: jax.Array, n_big: int) -> dict[str, jax.Array]:
    """Unbiased estimates of METRICS from the squared norms of mean gradients over n_small and over n_big tokens."""
    variance = (small - big) / (1 / n_small - 1 / n_big)
    return dict(zip(METRICS, (variance, (n_big * big - n_small * small) / (n_big - n_small)), strict=True))


def squared_norm(tree, n: int) -> jax.Array:
    """The squared norm of a sum's mean over n, in float32."""
    return sum(jnp.sum(jnp.square(x.astype(jnp.float32) / n)) for x in jax.tree.leaves(tree))
