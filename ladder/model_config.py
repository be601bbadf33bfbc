"""The part of a rung's configuration that says what the model looks like. Imports no jax."""

from dataclasses import dataclass
from typing import Literal

from ladder.errors import check as _check

INF = float("inf")
MOST = 2**31 - 1  # of every side of an array, and so of token ids: int32
Family = Literal["olmo2", "llama", "gpt2"]


@dataclass(frozen=True)
class Model:
    """A size: the shape of one decoder-only transformer.

    family: olmo2 (RMSNorm on sub-layer output, QK-norm, RoPE, SwiGLU), llama (pre-RMSNorm, grouped-query heads,
    RoPE, SwiGLU) or gpt2 (pre-LayerNorm, learned positions, GELU). d_ff: the hidden width of the feed-forward layer.
    n_kv_heads: None for n_heads.
    """

    family: Family
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    vocab_size: int
    seq_len: int
    n_kv_heads: int | None = None
    tie_embeddings: bool = False
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-6
    init_std: float = 0.02
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self):
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "seq_len", "vocab_size"):
            value, least = getattr(self, name), 2 if name == "vocab_size" else 1
            _check(value >= least, f"model.{name} = {value}: must be at least {least}")
            _check(value <= MOST, f"model.{name} = {value}: must be at most 2^31 - 1")
        _check(self.kv_heads >= 1, f"model.n_kv_heads = {self.n_kv_heads}: must be at least 1")
        _check(
            self.d_model % self.n_heads == 0,
            f"model.d_model = {self.d_model} is not a multiple of model.n_heads = {self.n_heads}",
        )
        _check(
            self.n_heads % self.kv_heads == 0,
            f"model.n_heads = {self.n_heads} is not a multiple of model.n_kv_heads = {self.kv_heads}",
        )
        _check(
            self.family == "gpt2" or self.head_dim % 2 == 0,
            f"model.d_model / model.n_heads = {self.head_dim}: RoPE needs an even head size",
        )
        for name in ("rope_theta", "norm_eps", "init_std"):
            value = getattr(self, name)
            _check(0 < value < INF, f"model.{name} = {value}: must be positive and finite")

    @property
    def kv_heads(self) -> int:
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads
