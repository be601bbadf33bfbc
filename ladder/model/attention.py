"""Causal attention behind one signature: attend(q_BLHK, k_BLGK, v_BLGK) -> o_BLHK.

H query heads share G <= H key-value heads, R = H / G each (grouped-query attention, Ainslie et al. 2023); scores are
scaled by 1/sqrt(K) and normalised in float32.
"""

import jax
import jax.numpy as jnp

from ladder.errors import InputError

BLOCK = 64
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
