"""Log-probabilities of requests and of the validation text, computed inside jit."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ladder.evaluation.prefix_tree import Arrays, Rows
from ladder.model.cross_entropy import token_nats
from ladder.model.tree_attention import Tree

BATCH_TOKENS = 8192  # of validation text, about
CPU_BATCH_TOKENS = 2048  # the same on a CPU: more do not fit into its cache
PADDING = -1  # in place of a token


def score_requests(functions, params, arrays: Arrays):
    """S_Q: log-probability (nats) of every request's continuation.

    Logits are computed only where a continuation's token is predicted, for one chunk of every row at a time.
    """

    def step(carry, rows: Rows):
        nats_2Q, path = carry
        x_BLD, path = functions.nodes(params, rows.tokens_nBL, Tree(rows.depth_nBL, rows.end_nBL, path))

        def head(chunk, nats_2Q):
            index_BT, target_BT, request_BT = (x_hBT[chunk] for x_hBT in arrays.targets)
            x_BTD = jnp.take_along_axis(x_BLD, index_BT[:, :, None], axis=1)
            nats_T, _ = token_nats(functions.logits, params, x_BTD.reshape(-1, x_BTD.shape[-1]), target_BT.ravel())
            # Multiples of 1/256 and remainders are summed apart: hundreds of nats in one float32 lose the 4th decimal.
            coarse_T = jnp.round(nats_T * 256) / 256
            return nats_2Q.at[:, request_BT.ravel()].add(jnp.stack([coarse_T, nats_T - coarse_T]))

        return (jax.lax.fori_loop(*rows.chunks_n2, head, nats_2Q), path), None

    # Padding is added to the last entry.
    initial = jnp.zeros((2, arrays.bytes_Q.shape[0] + 1)), functions.root()
    nats_2Q, _ = jax.lax.scan(step, initial, arrays.rows)[0]
    return -nats_2Q.sum(0)[:-1]


def validation_batches(windows_WL1: np.ndarray, shards: int) -> np.ndarray:
    """int32[n, B, L+1]: the windows in order, then windows of PADDING, as few as make all batches equal.

    A batch has about BATCH_TOKENS tokens (on a CPU CPU_BATCH_TOKENS) or, if these are fewer, one window for each of the
    shards that divide it.
    """
    W, L = windows_WL1.shape[0], windows_WL1.shape[1] - 1
    batch_tokens = CPU_BATCH_TOKENS if jax.default_backend() == "cpu" else BATCH_TOKENS
    n = math.ceil(W / (shards * max(1, batch_tokens // (L * shards))))
    B = shards * math.ceil(W / (n * shards))
    return np.pad(windows_WL1, ((0, n * B - W), (0, 0)), constant_values=PADDING).reshape(n, B, L + 1)


def validation_score(functions, params, tokens_nBL1, token_bytes_V, space_after_V=None):
    """Per batch [n]: nats of all targets; nats of the targets that have bytes (separators have none); those bytes; the
    number of targets. Windows of PADDING add nothing to any of them.

    space_after_V: 1 for a token after which the tokenizer, not the text, puts a space. None: for no token.
    """

    def score(padded_BL1):
        tokens_BL1, is_text_T = jnp.maximum(padded_BL1, 0), padded_BL1[:, 1:].reshape(-1) != PADDING
        x_BLD = functions.hidden(params, tokens_BL1[:, :-1])
        target_T = tokens_BL1[:, 1:].reshape(-1)
        nats_T, _ = token_nats(functions.logits, params, x_BLD.reshape(-1, x_BLD.shape[-1]), target_T)
        nats_T, bytes_T = jnp.where(is_text_T, nats_T, 0.0), jnp.where(is_text_T, token_bytes_V[target_T], 0)
        nats_of_bytes = jnp.where(bytes_T > 0, nats_T, 0.0).sum()
        if space_after_V is not None:
            bytes_T = bytes_T - jnp.where(bytes_T > 0, space_after_V[tokens_BL1[:, :-1].reshape(-1)], 0)
        return nats_T.sum(), nats_of_bytes, bytes_T.sum(), is_text_T.sum()

    return jax.lax.map(score, tokens_nBL1)
