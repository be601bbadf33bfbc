"""Parameter counts and memory of a model shape, and the published rules for learning rate, batch size and tokens.

Three counts of N (DESIGN, Words): n_params excludes the input embedding (Bhagia et al. 2024), n_non_embedding is
Kaplan's (the matrices of the blocks), n_total includes all parameters.
"""

import math

from ladder.config import Model, Optimizer

TOKENS_PER_PARAM = 20
WIDTH = {"float32": 4, "bfloat16": 2}  # bytes
CHUNK_ELEMENTS = 1 << 25  # logits that one device materialises at once: 128 MiB in float32


def _block_matrices(m: Model) -> int:
    """Weights of one block's matrices: query, output, key, value and the feed-forward."""
    d, kv = m.d_model, m.kv_heads * m.head_dim
    feed_forward = 2 if m.family == "gpt2" else 3
    return 2 * d * d + 2 * d * kv + feed_forward * d * m.d_ff


def _block_vectors(m: Model) -> int:
    """Norms and biases of one block."""
    d, kv = m.d_model, m.kv_heads * m.head_dim
    match m.family:
        case "olmo2":  # two norms, and the norms of queries and keys over their full width
            return 2 * d + d + kv
        case "llama":
            return 2 * d
        case "gpt2":  # two LayerNorms with bias, biases of q, k, v, output and both feed-forward matrices
            return 4 * d + (d + 2 * kv) + d + m.d_ff + d


def n_total(m: Model) -> int:
    """All parameters."""
    final_norm = 2 * m.d_model if m.family == "gpt2" else m.d_model
    head = 0 if m.tie_embeddings else m.vocab_size * m.d_model
    return m.n_layers * (_block_matrices(m) + _block_vectors(m)) + final_norm + head + input_embedding(m)


def input_embedding(m: Model) -> int:
    """Parameters of the token embedding, and of the position embedding where it is learned."""
    positions = m.seq_len if m.family == "gpt2" else 0
    return (m.vocab_size + positions) * m.d_model


def n_params(m: Model) -> int:
    """All parameters but the input embedding; an untied output head is included (Bhagia et al. 2024)."""
    return n_total(m) - input_embedding(m)


def n_non_embedding(m: Model) -> int:
    """Kaplan et al. 2020, table 1: the matrices of the blocks, 12 layers d^2 for the GPT shape."""
    return m.n_layers * _block_matrices(m)


def train_tokens(n: int, multiple: float) -> int:
    """Training tokens of a multiple, n = n_params: "2xC" is 2 x 20 n (Chinchilla's rule of thumb)."""
    return round(multiple * TOKENS_PER_PARAM * n)


def olmo_peak_lr(n: int, seq_len: int) -> float:
    """Bhagia et al. 2024: 0.0047 (N / 108M)^(-1/3) at sequence 2048 (after Porian et al. 2024), a quarter at 4096."""
    return 0.0047 * (n / 108e6) ** (-1 / 3) / (4 if seq_len == 4096 else 1)


def olmo_batch_sequences(n: int, seq_len: int, divisor: int = 64) -> int:
    """Bhagia et al. 2024: 160 (N / 108M)^(2/3) sequences of 2048 tokens, rounded to a multiple of `divisor`."""
    sequences = 160 * (n / 108e6) ** (2 / 3) * 2048 / seq_len
    return divisor * max(1, round(sequences / divisor))


def kaplan_peak_lr(n: int) -> float:
    """Kaplan et al. 2020, eq. D.1 (n = non-embedding parameters, below 1e10)."""
    return 0.003239 - 0.0001395 * math.log(n)


def memory_bytes(
    m: Model, sequences: int, shards: int = 1, remat: str = "full", optimizer: Optimizer | None = None
) -> dict[str, int]:
    """Estimated bytes on one device while training, by category (`ladder check` gives the compiler's figures).

    sequences: of one microbatch on this device. Parameters and AdamW's two moments in their types, and gradients in
    float32, are sharded over `shards` devices. Activations as in Korthikanti et al. 2022, without the L x L scores.
    """
    tokens = sequences * m.seq_len
    width = WIDTH[m.compute_dtype]
    moments = (optimizer.mu_dtype, optimizer.nu_dtype) if optimizer else (None, None)
    kv = m.kv_heads * m.head_dim
    one_block = 10 * m.d_model + 2 * kv + 4 * m.d_ff
    saved = {"full": m.d_model, "dots": 3 * m.d_model + 2 * kv + 2 * m.d_ff, "none": one_block}[remat]
    return {
        "parameters": WIDTH[m.param_dtype] * n_total(m) // shards,
        "gradients": 4 * n_total(m) // shards,
        "optimizer": sum(WIDTH[moment or m.param_dtype] for moment in moments) * n_total(m) // shards,
        "activations": width * tokens * (m.n_layers * saved + one_block),
        "logits": 2 * 4 * min(tokens * m.vocab_size, CHUNK_ELEMENTS),
    }
