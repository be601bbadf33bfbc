"""Causal attention behind one signature: attend(q_BLHK, k_BLGK, v_BLGK) -> o_BLHK.

H query heads share G <= H key-value heads, R = H / G each (grouped-query attention, Ainslie et al. 2023); scores are
scaled by 1/sqrt(K) and normalised in float32.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ladder.errors import InputError

BLOCK = 64
NODES = 128  # queries, and keys, of a tile in a tree's row, where that is at most half of the row
KEYS = 128  # of a tile of the path before it, which all of the row's queries meet: what two cores share best
LANES = 128  # of a TPU's vector and matrix units


def xla(q_BLHK, k_BLGK, v_BLGK):
    """The reference: all L x L scores at once."""
    B, L, H, K = q_BLHK.shape
    G = k_BLGK.shape[2]
    q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K) * K**-0.5
    scores_BGRLM = jnp.einsum("blgrk,bmgk->bgrlm", q_BLGRK, k_BLGK, preferred_element_type=jnp.float32)
    weights_BGRLM = jax.nn.softmax(jnp.where(jnp.tri(L, dtype=bool), scores_BGRLM, -jnp.inf), axis=-1)
    o_BLGRK = jnp.einsum("bgrlm,bmgk->blgrk", weights_BGRLM.astype(v_BLGK.dtype), v_BLGK)
    return o_BLGRK.reshape(B, L, H, K)


def blockwise(q_BLHK, k_BLGK, v_BLGK):
    """Blocks of queries, each against the keys before its end: half the work, and no L x L array.

    One batched matmul over B G is what a CPU does best; the backward pass computes the scores again.
    """
    B, L, H, K = q_BLHK.shape
    G = k_BLGK.shape[2]
    q_BGRLK = q_BLHK.reshape(B, L, G, H // G, K).transpose(0, 2, 3, 1, 4) * K**-0.5
    k_BGLK, v_BGLK = k_BLGK.swapaxes(1, 2), v_BLGK.swapaxes(1, 2)
    blocks = []
    for start in range(0, L, BLOCK):
        stop = min(start + BLOCK, L)
        q = q_BGRLK[:, :, :, start:stop].reshape(B, G, -1, K)
        o = jax.checkpoint(_attend, static_argnums=3)(q, k_BGLK[:, :, :stop], v_BGLK[:, :, :stop], start)
        blocks.append(o.reshape(B, G, H // G, stop - start, K))
    return jnp.concatenate(blocks, axis=3).transpose(0, 3, 1, 2, 4).reshape(B, L, H, K)


def _attend(q_BGQK, k_BGMK, v_BGMK, start: int):
    """Queries are R times the positions start ... M - 1; each sees the keys up to its own position."""
    M = k_BGMK.shape[2]
    position_Q = start + jnp.arange(q_BGQK.shape[2]) % (M - start)
    scores_BGQM = jnp.matmul(q_BGQK, k_BGMK.swapaxes(2, 3), preferred_element_type=jnp.float32)
    weights_BGQM = jax.nn.softmax(jnp.where(jnp.arange(M) <= position_Q[:, None], scores_BGQM, -jnp.inf), axis=-1)
    return jnp.matmul(weights_BGQM.astype(v_BGMK.dtype), v_BGMK)


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


def splash_kernel(length: int, heads: int, parts: int = 1, interpret: bool = False):
    """The Pallas kernel of JAX for TPU: no scores in memory, masked blocks skipped.

    parts: into which the queries are split over devices; the kernel's mask is then split with them
    (`manual_sharding_spec`). interpret: run it as ordinary operations, anywhere.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as kernels

    block = next(b for b in (512, 256, LANES) if length // parts % b == 0)
    sides = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute")
    sizes = kernels.BlockSizes(**dict.fromkeys((*sides, "block_q_dq", "block_kv_dq"), block))
    mask = kernels.MultiHeadMask([kernels.CausalMask((length, length), shard_count=parts)] * heads)
    return kernels.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=parts, interpret=interpret)


def splash(q_BLHK, k_BMGK, v_BMGK, kernel=None):
    """One device's rows and heads, all queries or the part of them that `kernel` is made for, against whole rows.

    Heads are padded with zeros to the 128 lanes of the hardware.
    """
    L, H, K = q_BLHK.shape[1:]
    kernel = kernel or splash_kernel(L, H)
    lanes = ((0, 0), (0, 0), (0, 0), (0, -K % LANES))
    q, k, v = (jnp.pad(x, lanes).swapaxes(1, 2) for x in (q_BLHK * K**-0.5, k_BMGK, v_BMGK))
    return jax.vmap(kernel)(q, k, v).swapaxes(1, 2)[..., :K]


def choose(name: str, seq_len: int, platform: str = "cpu", sequence: int = 1, kv_heads: int = 1, tensor: int = 1):
    """The implementation of a Mesh.attention name.

    "auto" on a TPU is splash where it can be; elsewhere blockwise from two blocks on. sequence, tensor: the devices
    that a sequence and its heads are split over. A device of splash has the key-value heads of its own queries.
    """
    splashes = platform == "tpu" and seq_len % (LANES * sequence) == 0 and kv_heads % tensor == 0
    if name == "auto":
        name = "splash" if splashes else "blockwise" if seq_len > BLOCK else "xla"
    there = {"xla": xla, "blockwise": blockwise, "splash": splash}
    if name not in there:
        raise InputError(f"mesh.attention = {name!r} is not there; write one of auto, {', '.join(there)}")
    if name == "splash" and not splashes:
        raise InputError(
            f"mesh.attention = 'splash' needs a TPU, model.seq_len a multiple of {LANES} x mesh.sequence and "
            f"model.n_kv_heads one of mesh.tensor (here {platform}, {seq_len}, {LANES} x {sequence}, {kv_heads}, "
            f"{tensor}); write auto"
        )
    return there[name]
