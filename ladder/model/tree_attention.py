"""Attention among the nodes of a prefix tree (evaluation/prefix_tree.py): every node sees its ancestors."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

NODES = 128  # queries, and keys, of a tile in a tree's row, where that is at most half of the row
KEYS = 128  # of a tile of the path before it, which all of the row's queries meet: what two cores share best


class Path(NamedTuple):
    """Keys and values [N, G, M, K] of every layer, of nodes that stand before a step's rows, each at its depth."""

    keys: jax.Array
    values: jax.Array


class Tree(NamedTuple):
    """Rows of nodes of trees in depth-first order, each row going on where the one before it stopped.

    depth_BL: positions. end_BL: where in its row a node's descendants end. path: of the first row.
    """

    depth_BL: jax.Array
    end_BL: jax.Array
    path: Path


def met_last(tree: Tree):
    """[B + 1, M]: of the nodes of a depth the last one before a row (and after all), as its place in the step; -1 where
    it stands in the path. In depth-first order these are the ancestors of the row's first node, down to its depth."""
    B, L = tree.depth_BL.shape
    nothing_1M = jnp.full((1, tree.path.keys.shape[2]), -1)
    place_BL = jnp.arange(B * L).reshape(B, L)
    last_BM = jnp.tile(nothing_1M, (B, 1)).at[jnp.arange(B)[:, None], tree.depth_BL].max(place_BL)
    return jnp.concatenate([nothing_1M, jax.lax.cummax(last_BM, axis=0)])


def nodes_of_tile(L: int) -> int:
    """Of a tree's row of L nodes: two tiles at least, so that the first half does not meet the second."""
    return min(NODES, -(-L // 2))


def tree(q_BLHK, k_BLGK, v_BLGK, tree: Tree, met_CM, layer):
    """Nodes attend to themselves and their ancestors: in their row to the places j <= l that end after l, before it to
    the depths that no node of the row up to l has taken.

    met_CM: `met_last`. In tiles of keys with a running normaliser (Rabe and Staats 2021): scores stay in the cache, and
    there are none for tiles that no query sees.
    """
    B, L, H, K = q_BLHK.shape
    G, n = k_BLGK.shape[2], nodes_of_tile(L)
    R = H // G
    q_BGRLK = (q_BLHK * K**-0.5).reshape(B, L, G, R, K).transpose(0, 2, 3, 1, 4)
    k_BGLK, v_BGLK = k_BLGK.swapaxes(1, 2), v_BLGK.swapaxes(1, 2)
    cut = jax.lax.dynamic_slice_in_dim

    def in_row(start: int):
        q_BGQK = q_BGRLK[:, :, :, start : start + n].reshape(B, G, R * n, K)
        place_Q1 = start + jnp.arange(n)[:, None]

        def tile(i, state):
            place_M, end_BM = i * n + jnp.arange(n), cut(tree.end_BL, i * n, n, axis=1)
            seen_BQM = (place_M <= place_Q1) & (place_Q1 < end_BM[:, None])
            keys_values = (cut(x_BGLK, i * n, n, axis=2) for x_BGLK in (k_BGLK, v_BGLK))
            return _add(state, q_BGQK, *keys_values, jnp.tile(seen_BQM, (1, R, 1)))

        nothing = jnp.full((B, G, R * n, 1), -jnp.inf), 0.0, 0.0
        first = (tree.end_BL > start).any(axis=0).argmax() // n
        state = jax.lax.fori_loop(first, start // n, tile, tile(start // n, nothing))
        return [x_BGQx.reshape(B, G, R, n, -1) for x_BGQx in state]

    left_BQ1 = jnp.tile(jax.lax.cummin(tree.depth_BL, axis=1), (1, R))[:, :, None]

    def of_path(i, state, all_seen: bool = False):
        keys_values = [jax.lax.dynamic_slice(x, (layer, 0, i * KEYS, 0), (1, G, KEYS, K)) for x in tree.path]
        if B > 1:
            met_BM = cut(met_CM[:B], i * KEYS, KEYS, axis=1)
            own = (x_BLGK.reshape(-1, G, K)[met_BM].swapaxes(1, 2) for x_BLGK in (k_BLGK, v_BLGK))
            kept_B1M1 = met_BM[:, None, :, None] < 0
            keys_values = [jnp.where(kept_B1M1, *pair) for pair in zip(keys_values, own, strict=True)]
        seen_BQM = None if all_seen else i * KEYS + jnp.arange(KEYS) < left_BQ1
        return _add(state, q_BGRLK.reshape(B, G, R * L, K), *keys_values, seen_BQM)

    parts = zip(*map(in_row, range(0, L, n)), strict=True)
    state = tuple(jnp.concatenate(part, axis=3).reshape(B, G, R * L, -1) for part in parts)
    some, every = -(-tree.depth_BL[:, 0].max() // KEYS), left_BQ1.min() // KEYS
    if tree.path.keys.shape[2] > KEYS:  # XLA computes the only tile of a loop whether or not the loop is entered
        state = jax.lax.fori_loop(0, every, partial(of_path, all_seen=True), state)
    _, sum_BGQ1, o_BGQK = jax.lax.fori_loop(every, some, of_path, state)
    o_BGRLK = (o_BGQK / sum_BGQ1).astype(q_BLHK.dtype).reshape(B, G, R, L, K)
    return o_BGRLK.transpose(0, 3, 1, 2, 4).reshape(B, L, H, K)


def _add(state, q_BGQK, k_BGMK, v_BGMK, seen_BQM):
    """state: the largest score so far, the sum of the weights and that of the weighted values."""
    most_BGQ1, sum_BGQ1, o_BGQK = state
    scores_BGQM = jnp.einsum("bgqk,bgmk->bgqm", q_BGQK, k_BGMK, preferred_element_type=jnp.float32)
    if seen_BQM is not None:
        scores_BGQM = jnp.where(seen_BQM[:, None], scores_BGQM, -jnp.inf)
    new_BGQ1 = jnp.maximum(most_BGQ1, scores_BGQM.max(axis=-1, keepdims=True))
    weights_BGQM, less_BGQ1 = jnp.exp(scores_BGQM - new_BGQ1), jnp.exp(most_BGQ1 - new_BGQ1)
    part_BGQK = jnp.matmul(weights_BGQM.astype(v_BGMK.dtype), v_BGMK, preferred_element_type=jnp.float32)
    sum_BGQ1 = sum_BGQ1 * less_BGQ1 + weights_BGQM.sum(axis=-1, keepdims=True)
    return new_BGQ1, sum_BGQ1, o_BGQK * less_BGQ1 + part_BGQK


def onward(path: Path, met_M, k_NBLGK, v_NBLGK) -> Path:
    """The path of the step that follows. met_M: the last of `met_last`."""

    def keep(kept_NGMK, own_NBLGK):
        N, _, _, G, K = own_NBLGK.shape
        own_NGMK = own_NBLGK.reshape(N, -1, G, K)[:, met_M].swapaxes(1, 2)
        return jnp.where(met_M[:, None] < 0, kept_NGMK, own_NGMK)

    return Path(*map(keep, path, (k_NBLGK, v_NBLGK)))
