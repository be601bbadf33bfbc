"""Training FLOPs per token, counted from the shape of a model. Forward 2 and backward 4 for each weight.

Two counts: the paper's, which the laws are fitted with, and that of the matrix products alone, which utilisation is
measured with. Both count attention in full, not halved for causality: 12 layers d L.
"""

from ladder.config import Model
from ladder.sizes import n_non_embedding, n_params


def flops_per_token(m: Model) -> int:
    """As Bhagia et al. 2024 count (exact for their eight sizes): with a backward pass of the input embedding."""
    head = m.vocab_size * m.d_model
    weights = n_params(m) + (head if m.tie_embeddings else 0)
    embedding = 0 if m.tie_embeddings else head
    return 2 * weights + 4 * (weights + embedding) + _attention(m)


def matmul_flops_per_token(m: Model) -> int:
    """Of the matrix products alone, the output head included. A lookup in the input embedding has none."""
    return 6 * (n_non_embedding(m) + m.vocab_size * m.d_model) + _attention(m)


def _attention(m: Model) -> int:
    return 12 * m.n_layers * m.d_model * m.seq_len
