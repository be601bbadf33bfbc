"""Causal attention behind one signature: attend(q_BLHK, k_BLGK, v_BLGK, document_BL=None) -> o_BLHK.

A query sees the keys up to its own position; with document_BL, the number of each token's document in its row, only
those of its document. H query heads share G <= H key-value heads, R = H / G query heads each (grouped-query attention,
Ainslie et al. 2023).
Scores are scaled by 1/sqrt(K) and the softmax is computed in float32.
"""

import jax
import jax.numpy as jnp

from ladder.errors import InputError

BLOCK = 64  # queries per block of `blockwise`
LANES = 128  # width of a TPU's vector and matrix units


def documents(tokens_BL, eos: int):
    """(document_BL, position_BL): the number of each token's document in its row, and its position in the document.

    The token `eos` is the last of its document. A row begins with a document, or with the rest of one: position 0.
    """
    begins_BL = jnp.pad(tokens_BL[:, :-1] == eos, ((0, 0), (1, 0)))
    index_L = jnp.arange(tokens_BL.shape[1])
    begin_BL = jax.lax.cummax(jnp.where(begins_BL, index_L, 0), axis=1)
    return jnp.cumsum(begins_BL, axis=1), index_L - begin_BL


def xla(q_BLHK, k_BLGK, v_BLGK, document_BL=None):
    """The reference implementation: materialises all L x L scores."""
    B, L, H, K = q_BLHK.shape
    G = k_BLGK.shape[2]
    q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K) * K**-0.5
    scores_BGRLM = jnp.einsum("blgrk,bmgk->bgrlm", q_BLGRK, k_BLGK, preferred_element_type=jnp.float32)
    seen = jnp.tri(L, dtype=bool)
    if document_BL is not None:
        seen = seen & (document_BL[:, :, None] == document_BL[:, None, :])[:, None, None]
    weights_BGRLM = jax.nn.softmax(jnp.where(seen, scores_BGRLM, -jnp.inf), axis=-1)
    o_BLGRK = jnp.einsum("bgrlm,bmgk->blgrk", weights_BGRLM.astype(v_BLGK.dtype), v_BLGK)
    return o_BLGRK.reshape(B, L, H, K)


def blockwise(q_BLHK, k_BLGK, v_BLGK, document_BL=None):
    """Attention by blocks of queries, each with the keys up to the block's end.

    Half the FLOPs of `xla`; the L x L scores are never materialised, and the backward pass recomputes them.
    A matmul batched over B and G is the fastest form on a CPU.
    """
    B, L, H, K = q_BLHK.shape
    G = k_BLGK.shape[2]
    q_BGRLK = q_BLHK.reshape(B, L, G, H // G, K).transpose(0, 2, 3, 1, 4) * K**-0.5
    k_BGLK, v_BGLK = k_BLGK.swapaxes(1, 2), v_BLGK.swapaxes(1, 2)
    blocks = []
    for start in range(0, L, BLOCK):
        stop = min(start + BLOCK, L)
        q = q_BGRLK[:, :, :, start:stop].reshape(B, G, -1, K)
        document_BM = None if document_BL is None else document_BL[:, :stop]
        attend_block = jax.checkpoint(_attend_block, static_argnums=3)
        o = attend_block(q, k_BGLK[:, :, :stop], v_BGLK[:, :, :stop], start, document_BM)
        blocks.append(o.reshape(B, G, H // G, stop - start, K))
    return jnp.concatenate(blocks, axis=3).transpose(0, 3, 1, 2, 4).reshape(B, L, H, K)


def _attend_block(q_BGQK, k_BGMK, v_BGMK, start: int, document_BM=None):
    """The Q queries are the positions start ... M - 1, once for each of R heads; each sees keys up to its position."""
    M = k_BGMK.shape[2]
    position_Q = start + jnp.arange(q_BGQK.shape[2]) % (M - start)
    seen = jnp.arange(M) <= position_Q[:, None]
    if document_BM is not None:
        seen = seen & (document_BM[:, position_Q, None] == document_BM[:, None, :])[:, None]
    scores_BGQM = jnp.matmul(q_BGQK, k_BGMK.swapaxes(2, 3), preferred_element_type=jnp.float32)
    weights_BGQM = jax.nn.softmax(jnp.where(seen, scores_BGQM, -jnp.inf), axis=-1)
    return jnp.matmul(weights_BGQM.astype(v_BGMK.dtype), v_BGMK)


def splash_kernel(length: int, heads: int, parts: int = 1, interpret: bool = False):
    """JAX's Pallas splash attention for TPU: scores are never materialised, fully masked blocks are skipped.

    parts: number of devices that share the queries of a sequence; `manual_sharding_spec` of the kernel then shards
    its mask in the same way. interpret: run it as ordinary JAX operations, on any platform.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as kernels

    block = next(b for b in (512, 256, LANES) if length // parts % b == 0)
    sides = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute")
    sizes = kernels.BlockSizes(**dict.fromkeys((*sides, "block_q_dq", "block_kv_dq"), block))
    mask = kernels.MultiHeadMask([kernels.CausalMask((length, length), shard_count=parts)] * heads)
    return kernels.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=parts, interpret=interpret)


def splash(q_BLHK, k_BMGK, v_BMGK, document_BL=None, kernel=None, document_BM=None):
    """Splash attention on one device: its rows and heads, its L queries of a sequence and all M keys.

    kernel: a `splash_kernel` for these queries; document_BM: of the keys; both None where L = M. Heads are zero-padded
    to a multiple of 128 lanes.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    L, H, K = q_BLHK.shape[1:]
    kernel = kernel or splash_kernel(L, H)
    padding = ((0, 0), (0, 0), (0, 0), (0, -K % LANES))
    q, k, v = (jnp.pad(x, padding).swapaxes(1, 2) for x in (q_BLHK * K**-0.5, k_BMGK, v_BMGK))
    segments = None
    if document_BL is not None:
        segments = SegmentIds(document_BL, document_BL if document_BM is None else document_BM)
    return jax.vmap(kernel)(q, k, v, segments).swapaxes(1, 2)[..., :K]


def choose(name: str, seq_len: int, platform: str = "cpu", sequence: int = 1, kv_heads: int = 1, tensor: int = 1):
    """The implementation that a Mesh.attention name stands for.

    "auto" is splash on a TPU where the shapes allow it; otherwise blockwise if a sequence is longer than one block,
    else xla. sequence, tensor: numbers of devices that share a sequence and its heads. Splash needs the key-value heads
    of a device's queries on that device. Raises InputError for an unknown name, or splash where it cannot run.
    """
    splash_fits = platform == "tpu" and seq_len % (LANES * sequence) == 0 and kv_heads % tensor == 0
    if name == "auto":
        name = "splash" if splash_fits else "blockwise" if seq_len > BLOCK else "xla"
    implementations = {"xla": xla, "blockwise": blockwise, "splash": splash}
    if name not in implementations:
        raise InputError(f"mesh.attention = {name!r} is unknown; write one of auto, {', '.join(implementations)}")
    if name == "splash" and not splash_fits:
        raise InputError(
            f"mesh.attention = 'splash' needs a TPU, model.seq_len a multiple of {LANES} x mesh.sequence and "
            f"model.n_kv_heads a multiple of mesh.tensor (here {platform}, {seq_len}, {LANES} x {sequence}, "
            f"{kv_heads}, {tensor}); write mesh.attention=auto"
        )
    return implementations[name]
