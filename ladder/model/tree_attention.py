"""Attention among the nodes of a prefix tree (evaluation/prefix_tree.py): every node sees itself and its ancestors."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

NODES = 128  # queries, and keys, per tile within a row; at most half of the row
KEYS = 128  # keys per tile of the cached path, which all queries of a row attend to; fastest on two cores


class Path(NamedTuple):
    """Cached keys and values [N, G, M, K] of every layer: those of the ancestors of a step's first node, by depth."""

    keys: jax.Array
    values: jax.Array


class Tree(NamedTuple):
    """One step: B rows of L nodes of prefix trees in depth-first order; each row continues the one before it.

    depth_BL: depth of a node, which is its position. end_BL: index in the row where the descendants of a node end.
    path: of the ancestors of the first row's first node.
    """

    depth_BL: jax.Array
    end_BL: jax.Array
    path: Path


def last_at_depth(tree: Tree):
    """last_CM, C = B + 1: index in the step of the last node at each depth before row b; -1 if it is in the path.

    In depth-first order, last_CM[b, :d] are the ancestors of row b's first node, d its depth. b = B: the next step's.
    """
    B, L = tree.depth_BL.shape
    none_1M = jnp.full((1, tree.path.keys.shape[2]), -1)
    index_BL = jnp.arange(B * L).reshape(B, L)
    last_BM = jnp.tile(none_1M, (B, 1)).at[jnp.arange(B)[:, None], tree.depth_BL].max(index_BL)
    return jnp.concatenate([none_1M, jax.lax.cummax(last_BM, axis=0)])


def nodes_of_tile(L: int) -> int:
    """Nodes per tile of a row of L nodes: at least two tiles, so that the first half skips the keys of the second."""
    return min(NODES, -(-L // 2))


def attend(q_BLHK, k_BLGK, v_BLGK, tree: Tree, last_CM, layer):
    """o_BLHK: every node attends to itself and its ancestors. last_CM: from `last_at_depth`.

    Within its row, query l sees the keys j <= l with end_j > l. Above the row, it sees the depths below the minimum
    depth of nodes 0 ... l. Online softmax over tiles of keys (Rabe and Staats 2021): scores stay in the CPU cache, and
    tiles that no query sees are skipped.
    """
    B, L, H, K = q_BLHK.shape
    G, n = k_BLGK.shape[2], nodes_of_tile(L)
    R = H // G
    q_BGRLK = (q_BLHK * K**-0.5).reshape(B, L, G, R, K).transpose(0, 2, 3, 1, 4)
    k_BGLK, v_BGLK = k_BLGK.swapaxes(1, 2), v_BLGK.swapaxes(1, 2)
    dynamic_slice = jax.lax.dynamic_slice_in_dim

    def attend_row(start: int):
        q_BGQK = q_BGRLK[:, :, :, start : start + n].reshape(B, G, R * n, K)
        query_Q1 = start + jnp.arange(n)[:, None]

        def attend_tile(i, state):
            key_M, end_BM = i * n + jnp.arange(n), dynamic_slice(tree.end_BL, i * n, n, axis=1)
            seen_BQM = (key_M <= query_Q1) & (query_Q1 < end_BM[:, None])
            keys_values = (dynamic_slice(x_BGLK, i * n, n, axis=2) for x_BGLK in (k_BGLK, v_BGLK))
            return _add_tile(state, q_BGQK, *keys_values, jnp.tile(seen_BQM, (1, R, 1)))

        empty = jnp.full((B, G, R * n, 1), -jnp.inf), 0.0, 0.0
        first = (tree.end_BL > start).any(axis=0).argmax() // n
        state = jax.lax.fori_loop(first, start // n, attend_tile, attend_tile(start // n, empty))
        return [x_BGQx.reshape(B, G, R, n, -1) for x_BGQx in state]

    n_above_BQ1 = jnp.tile(jax.lax.cummin(tree.depth_BL, axis=1), (1, R))[:, :, None]

    def attend_above(i, state, all_seen: bool = False):
        keys_values = [jax.lax.dynamic_slice(x, (layer, 0, i * KEYS, 0), (1, G, KEYS, K)) for x in tree.path]
        if B > 1:
            last_BM = dynamic_slice(last_CM[:B], i * KEYS, KEYS, axis=1)
            in_step = (x_BLGK.reshape(-1, G, K)[last_BM].swapaxes(1, 2) for x_BLGK in (k_BLGK, v_BLGK))
            cached_B1M1 = last_BM[:, None, :, None] < 0
            keys_values = [jnp.where(cached_B1M1, *pair) for pair in zip(keys_values, in_step, strict=True)]
        seen_BQM = None if all_seen else i * KEYS + jnp.arange(KEYS) < n_above_BQ1
        return _add_tile(state, q_BGRLK.reshape(B, G, R * L, K), *keys_values, seen_BQM)

    parts = zip(*map(attend_row, range(0, L, n)), strict=True)
    state = tuple(jnp.concatenate(part, axis=3).reshape(B, G, R * L, -1) for part in parts)
    n_tiles, n_unmasked = -(-tree.depth_BL[:, 0].max() // KEYS), n_above_BQ1.min() // KEYS
    if tree.path.keys.shape[2] > KEYS:  # XLA computes the only tile of a loop whether or not the loop is entered
        state = jax.lax.fori_loop(0, n_unmasked, partial(attend_above, all_seen=True), state)
    _, sum_BGQ1, o_BGQK = jax.lax.fori_loop(n_unmasked, n_tiles, attend_above, state)
    o_BGRLK = (o_BGQK / sum_BGQ1).astype(q_BLHK.dtype).reshape(B, G, R, L, K)
    return o_BGRLK.transpose(0, 3, 1, 2, 4).reshape(B, L, H, K)


def _add_tile(state, q_BGQK, k_BGMK, v_BGMK, seen_BQM):
    """Online softmax. state: the maximum score so far, the sum of the weights, the weighted sum of the values."""
    max_BGQ1, sum_BGQ1, o_BGQK = state
    scores_BGQM = jnp.einsum("bgqk,bgmk->bgqm", q_BGQK, k_BGMK, preferred_element_type=jnp.float32)
    if seen_BQM is not None:
        scores_BGQM = jnp.where(seen_BQM[:, None], scores_BGQM, -jnp.inf)
    new_max_BGQ1 = jnp.maximum(max_BGQ1, scores_BGQM.max(axis=-1, keepdims=True))
    weights_BGQM, rescale_BGQ1 = jnp.exp(scores_BGQM - new_max_BGQ1), jnp.exp(max_BGQ1 - new_max_BGQ1)
    tile_o_BGQK = jnp.matmul(weights_BGQM.astype(v_BGMK.dtype), v_BGMK, preferred_element_type=jnp.float32)
    sum_BGQ1 = sum_BGQ1 * rescale_BGQ1 + weights_BGQM.sum(axis=-1, keepdims=True)
    return new_max_BGQ1, sum_BGQ1, o_BGQK * rescale_BGQ1 + tile_o_BGQK


def next_path(path: Path, last_M, k_NBLGK, v_NBLGK) -> Path:
    """The path of the next step, from this step's path, keys and values. last_M: the last row of `last_at_depth`."""

    def update(path_NGMK, step_NBLGK):
        N, _, _, G, K = step_NBLGK.shape
        step_NGMK = step_NBLGK.reshape(N, -1, G, K)[:, last_M].swapaxes(1, 2)
        return jnp.where(last_M[:, None] < 0, path_NGMK, step_NGMK)

    return Path(*map(update, path, (k_NBLGK, v_NBLGK)))
