"""Causal attention behind one signature: attend(q_BLHK, k_BLGK, v_BLGK) -> o_BLHK.

H query heads share G <= H key-value heads (grouped-query attention, Ainslie et al. 2023); scores are scaled by
1/sqrt(K) and normalised in float32.
"""

import jax
import jax.numpy as jnp

BLOCK = 128


def xla(q_BLHK, k_BLGK, v_BLGK):
    """The reference: all L x L scores at once."""
    return _attend(q_BLHK, k_BLGK, v_BLGK, 0)


def blockwise(q_BLHK, k_BLGK, v_BLGK):
    """Query blocks of 128, each against the keys before its end: half the work, and no L x L array."""
    L = q_BLHK.shape[1]
    blocks = [
        jax.checkpoint(_attend, static_argnums=3)(
            q_BLHK[:, start : start + BLOCK], k_BLGK[:, : start + BLOCK], v_BLGK[:, : start + BLOCK], start
        )
        for start in range(0, L, BLOCK)
    ]
    return jnp.concatenate(blocks, axis=1)


def _attend(q_BLHK, k_BMGK, v_BMGK, first: int):
    """Queries at positions first, first + 1, ... attend to the keys at positions up to their own."""
    B, L, H, K = q_BLHK.shape
    M, G = k_BMGK.shape[1:3]
    q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K) * K**-0.5
    scores_BGRLM = jnp.einsum("blgrk,bmgk->bgrlm", q_BLGRK, k_BMGK, preferred_element_type=jnp.float32)
    visible_LM = jnp.arange(M) <= first + jnp.arange(L)[:, None]
    weights_BGRLM = jax.nn.softmax(jnp.where(visible_LM, scores_BGRLM, -jnp.inf), axis=-1)
    o_BLGRK = jnp.einsum("bgrlm,bmgk->blgrk", weights_BGRLM.astype(v_BMGK.dtype), v_BMGK)
    return o_BLGRK.reshape(B, L, H, K)


def choose(name: str, seq_len: int):
    """The implementation of a Mesh.attention name; "auto" is blockwise from two blocks on."""
    if name == "auto":
        name = "blockwise" if seq_len > BLOCK else "xla"
    return {"xla": xla, "blockwise": blockwise}[name]
