"""A small causal model, its log-probabilities by plain NumPy, and rows of an evaluation by task and metric."""

from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from ladder.model.tree_attention import Tree

# A causal model: a decaying sum of embeddings, squashed, and a linear head.
DECAY = 0.8
SEQ_LEN = 128


def toy_params(seed=0, vocab=256, width=12):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(0, 1, shape).astype(np.float32)  # noqa: E731
    return {"embedding": draw(vocab, width), "head": draw(width, vocab)}


def toy_nodes(params, tokens_BL, tree):
    """Row after row; the path holds, by depth, the embeddings of the nodes that later rows may descend from."""
    M = len(tree.path)

    def row(path_MD, nodes):
        tokens_L, depth_L, end_L = nodes
        x_LD, place_L = params["embedding"][tokens_L], jnp.arange(len(tokens_L))
        sees_LL = (place_L <= place_L[:, None]) & (place_L[:, None] < end_L)
        sees_LM = jnp.arange(M) < jax.lax.cummin(depth_L)[:, None]
        weight_LL = jnp.where(sees_LL, DECAY ** (depth_L[:, None] - depth_L).clip(0), 0)
        weight_LM = jnp.where(sees_LM, DECAY ** (depth_L[:, None] - jnp.arange(M)).clip(0), 0)
        kept_MD = path_MD.at[jnp.where(end_L == len(end_L), depth_L, M)].set(x_LD, mode="drop")
        return kept_MD, jnp.tanh(weight_LL @ x_LD + weight_LM @ path_MD)

    path, x_BLD = jax.lax.scan(row, tree.path, (tokens_BL, tree.depth_BL, tree.end_BL))
    return x_BLD, path


def toy_root():
    return jnp.zeros((2 * SEQ_LEN, 12))  # as long as the longest test's requests


def toy_hidden(params, tokens_BL):
    depth_BL = jnp.broadcast_to(jnp.arange(tokens_BL.shape[1]), tokens_BL.shape)
    return toy_nodes(params, tokens_BL, Tree(depth_BL, jnp.full(tokens_BL.shape, tokens_BL.shape[1]), toy_root()))[0]


TOY = SimpleNamespace(hidden=toy_hidden, nodes=toy_nodes, root=toy_root, logits=lambda params, x: x @ params["head"])


def unigram(**probability):
    """p(byte) as given for single letters, the rest spread over the other bytes; whatever the context."""
    p = np.full(256, (1 - sum(probability.values())) / (256 - len(probability)))
    p[[ord(letter) for letter in probability]] = list(probability.values())
    logits = lambda params, x: jnp.broadcast_to(jnp.log(p), (*x.shape[:-1], 256))  # noqa: E731
    return SimpleNamespace(hidden=toy_hidden, nodes=toy_nodes, root=toy_root, logits=logits)


def log_p(params, ids):
    """ln p of every token but the first, in float64, token by token."""
    state, out = np.zeros(params["embedding"].shape[1]), []
    for before, after in pairwise(ids):
        state = DECAY * state + params["embedding"][before]
        logits = np.tanh(state) @ params["head"].astype(float)
        out.append(logits[after] - np.logaddexp.reduce(logits))
    return out


def by_metric(rows):
    return {(row["task"], row["metric"]): row for row in rows}
