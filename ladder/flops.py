"""Training FLOPs per token, counted from the shape of a model: 2 forward and 4 backward per weight.

Two counts: the paper's, with which the laws are fitted, and that of the matrix products alone, for utilisation.
Both count attention in full, 12 layers d L, not halved for causality.
"""

from ladder.config import Model
from ladder.sizes import n_non_embedding, n_params


def flops_per_token(m: Model) -> int:
    """The count of Bhagia et al. 2024 (exact for their eight sizes): with a backward pass of the input embedding."""
    head = m.vocab_size * m.d_model
    weights = n_params(m) + (head if m.tie_embeddings else 0)
    embedding = 0 if m.tie_embeddings else head
    return 2 * weights + 4 * (weights + embedding) + _attention(m)


def matmul_flops_per_token(m: Model) -> int:
    """FLOPs of the matrix products alone, the output head included; the input embedding is a lookup without FLOPs."""
    return 6 * (n_non_embedding(m) + m.vocab_size * m.d_model) + _attention(m)


def _attention(m: Model) -> int:
    return 12 * m.n_layers * m.d_model * m.seq_len
