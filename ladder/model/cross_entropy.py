"""Cross-entropy of next tokens, in chunks so that the logits of a whole batch are never materialised."""

import jax
import jax.numpy as jnp

from ladder.sizes import CHUNK_ELEMENTS


def token_nats(logits, params, x_TD, targets_T):
    """(nats_T, log_z_T) in float32: -ln p(target) and the log of the softmax normaliser, for every token.

    logits: (params, x_..D) -> logits_..V. The backward pass recomputes the logits of each chunk.
    """

    def score(params, x_TD, targets_T):
        logits_TV = logits(params, x_TD)
        log_z_T = jax.nn.logsumexp(logits_TV, axis=-1)
        return log_z_T - jnp.take_along_axis(logits_TV, targets_T[:, None], axis=-1)[:, 0], log_z_T

    T = x_TD.shape[0]
    V = jax.eval_shape(logits, params, x_TD).shape[-1]
    n = _n_chunks(T, V)
    if n == 1:
        return score(params, x_TD, targets_T)
    # Chunk c takes tokens c, c + n, c + 2n, ...: where GSPMD shards the tokens, each device keeps its own.
    chunks = (x_TD.reshape(T // n, n, -1).swapaxes(0, 1), targets_T.reshape(-1, n).T)
    nats, log_z = jax.lax.map(lambda chunk: jax.checkpoint(score)(params, *chunk), chunks)
    return nats.T.reshape(T), log_z.T.reshape(T)


def _n_chunks(tokens: int, vocab: int) -> int:
    """Fewest equal chunks whose logits fit in CHUNK_ELEMENTS; chunks of one token where even those do not fit."""
    fewest = -(-tokens * vocab // CHUNK_ELEMENTS)
    return next(n for n in range(max(1, min(fewest, tokens)), tokens + 1) if tokens % n == 0)
