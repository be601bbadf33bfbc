"""Causal attention behind one signature: attend(q_BLHK, k_BLGK, v_BLGK) -> o_BLHK.

H query heads share G <= H key-value heads, R = H / G each (grouped-query attention, Ainslie et al. 2023); scores are
scaled by 1/sqrt(K) and normalised in float32.
"""

import jax
import jax.numpy as jnp

from ladder.errors import InputError

BLOCK = 64


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


def choose(name: str, seq_len: int):
    """The implementation of a Mesh.attention name; "auto" is blockwise from two blocks on."""
    if name == "auto":
        name = "blockwise" if seq_len > BLOCK else "xla"
    there = {"xla": xla, "blockwise": blockwise}
    if name not in there:
        raise InputError(f"mesh.attention = {name!r} is not there; write one of auto, {', '.join(there)}")
    return there[name]
