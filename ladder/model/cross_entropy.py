"""Cross-entropy of next tokens, in chunks so that the logits of a whole batch never stand in memory."""

import jax
import jax.numpy as jnp

from ladder.sizes import CHUNK_ELEMENTS


def token_nats(logits, params, x_TD, targets_T):
    """(nats_T, log_z_T): -ln p(target) of every token and the log of its softmax normaliser, in float32.

    logits: (params, x_..D) -> logits_..V. The backward pass recomputes a chunk's logits.
    """

    def score(params, x_TD, targets_T):
        logits_TV = logits(params, x_TD)
        log_z_T = jax.nn.logsumexp(logits_TV, axis=-1)
        return log_z_T - jnp.take_along_axis(logits_TV, targets_T[:, None], axis=-1)[:, 0], log_z_T

    T = x_TD.shape[0]
    V = jax.eval_shape(logits, params, x_TD).shape[-1]
    chunks = _chunks(T, V)
    if chunks == 1:
        return score(params, x_TD, targets_T)
    # Where GSPMD splits the tokens, every device keeps its own: chunk c takes tokens c, c + chunks, c + 2 chunks, ...
    split = (x_TD.reshape(T // chunks, chunks, -1).swapaxes(0, 1), targets_T.reshape(-1, chunks).T)
    nats, log_z = jax.lax.map(lambda chunk: jax.checkpoint(score)(params, *chunk), split)
    return nats.T.reshape(T), log_z.T.reshape(T)


def _chunks(tokens: int, vocab: int) -> int:
    """The fewest equal chunks whose logits stay under the limit; one token each where even that is over it."""
    least = -(-tokens * vocab // CHUNK_ELEMENTS)
    return next(n for n in range(max(1, min(least, tokens)), tokens + 1) if tokens % n == 0)
