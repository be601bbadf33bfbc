"""Small models of each family, with weights that are all different from each other, norms included."""

import functools

import jax
import numpy as np

from ladder.config import Model
from ladder.model.transformer import init_params


def model(family: str, **changes) -> Model:
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48, "vocab_size": 512, "seq_len": 32}
    return Model(family, **shape | {"compute_dtype": "float32", "rope_theta": 100.0} | changes)


MODELS = {
    f"{family}, {name}": model(family, **changes)
    for family in ("olmo2", "llama", "gpt2")
    for name, changes in {
        "untied": {},
        "tied": {"tie_embeddings": True},
        "grouped heads": {"n_kv_heads": 2, "norm_eps": 1e-3},
        "one head": {"n_kv_heads": 1, "tie_embeddings": True},
    }.items()
}


def random_params(m: Model, seed: int = 0) -> dict:
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (draw.normal(size=x.shape) * 0.3 + 0.1).astype(x.dtype), abstract_params(m))


@functools.cache
def abstract_params(m: Model) -> dict:
    return jax.eval_shape(lambda: init_params(m, 0))


def read(params: dict):
    """What hf.tensors asks for parameters."""

    def parameter(name: str) -> np.ndarray:
        value = params
        for key in name.split("."):
            value = value[key]
        return np.asarray(value)

    return parameter
