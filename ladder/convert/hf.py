"""Our models in Hugging Face's names: Olmo2ForCausalLM, LlamaForCausalLM and GPT2LMHeadModel of transformers.

Both sides pair dimension k of a head with k + K/2 in RoPE, normalise queries and keys over their full width (olmo2),
and let head h read key-value head h // R, so that no weight is reordered. A weight of torch's Linear is [out, in], ours
and that of GPT-2's Conv1D [in, out].
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from ladder.config import Model
from ladder.convert.safetensors_files import Entry
from ladder.model.transformer import init_params

BLOCKS = "blocks."  # begins the names of the parameters that have a layer axis
# The name of a block's tensor -> our parameters, joined along their last axis.
_PROJECTIONS = {
    "self_attn.q_proj.weight": ("query",),
    "self_attn.k_proj.weight": ("key",),
    "self_attn.v_proj.weight": ("value",),
    "self_attn.o_proj.weight": ("out",),
    "mlp.gate_proj.weight": ("gate",),
    "mlp.up_proj.weight": ("up",),
    "mlp.down_proj.weight": ("down",),
}
BLOCK = {
    "olmo2": _PROJECTIONS
    | {
        "self_attn.q_norm.weight": ("query_norm.scale",),
        "self_attn.k_norm.weight": ("key_norm.scale",),
        "post_attention_layernorm.weight": ("attention_norm.scale",),
        "post_feedforward_layernorm.weight": ("mlp_norm.scale",),
    },
    "llama": _PROJECTIONS
    | {
        "input_layernorm.weight": ("attention_norm.scale",),
        "post_attention_layernorm.weight": ("mlp_norm.scale",),
    },
    "gpt2": {
        "ln_1.weight": ("attention_norm.scale",),
        "ln_1.bias": ("attention_norm.bias",),
        "attn.c_attn.weight": ("query", "key", "value"),
        "attn.c_attn.bias": ("query_bias", "key_bias", "value_bias"),
        "attn.c_proj.weight": ("out",),
        "attn.c_proj.bias": ("out_bias",),
        "ln_2.weight": ("mlp_norm.scale",),
        "ln_2.bias": ("mlp_norm.bias",),
        "mlp.c_fc.weight": ("up",),
        "mlp.c_fc.bias": ("up_bias",),
        "mlp.c_proj.weight": ("down",),
        "mlp.c_proj.bias": ("down_bias",),
    },
}
_ROPE = {"embedding": "model.embed_tokens.weight", "final_norm.scale": "model.norm.weight", "head": "lm_head.weight"}
OUTSIDE = {
    "olmo2": _ROPE,
    "llama": _ROPE,
    "gpt2": {
        "embedding": "transformer.wte.weight",
        "positions": "transformer.wpe.weight",
        "final_norm.scale": "transformer.ln_f.weight",
        "final_norm.bias": "transformer.ln_f.bias",
        "head": "lm_head.weight",
    },
}
LAYER = {"olmo2": "model.layers.{}.", "llama": "model.layers.{}.", "gpt2": "transformer.h.{}."}


class _Group(NamedTuple):
    """Tensors that are made of the same parameters: one for each layer, or one outside the blocks."""

    names: list[str]
    parameters: tuple[str, ...]  # such as "blocks.query_norm.scale"
    transposed: bool


class Origin(NamedTuple):
    """Where the values of a parameter stand in the tensors: in `names`, one for each layer, or one."""

    names: list[str]
    transposed: bool
    first: int  # of its columns in the tensor, where a tensor is made of several parameters


def entries(model: Model) -> list[Entry]:
    """Name, type and shape of every tensor, in the order of `tensors`."""
    described = []
    for group in _groups(model):
        # Arrays of the right shape that need no memory.
        arrays = [np.broadcast_to(np.float32(0), shapes(model)[parameter]) for parameter in group.parameters]
        shape = _layer(model, group, arrays, 0).shape
        described += [Entry(name, model.param_dtype, shape) for name in group.names]
    return described


def tensors(model: Model, read: Callable[[str], np.ndarray]) -> Iterator[np.ndarray]:
    """The tensors of `entries`. read: a parameter by its dotted name, such as "blocks.query"; each is read once."""
    for group in _groups(model):
        arrays = [read(parameter) for parameter in group.parameters]
        for i in range(len(group.names)):
            yield _layer(model, group, arrays, i)
        arrays.clear()  # before the next are read


@functools.cache
def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter, by its dotted name."""
    flat, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(lambda: init_params(model, 0)))
    return {dotted(path): leaf.shape for path, leaf in flat}


def dotted(path) -> str:
    """The name of a parameter, such as "blocks.query_norm.scale", from its path in the tree."""
    return ".".join(key.key for key in path)


def origins(model: Model) -> dict[str, Origin]:
    """Where the values of each parameter stand. model: of GPT-2, without shared key-value heads, as transformers'."""
    found = {}
    for group in _groups(model):
        for i, parameter in enumerate(group.parameters):
            found[parameter] = Origin(group.names, group.transposed, i * model.d_model)
    return found


def _groups(model: Model) -> list[_Group]:
    layers, linear = LAYER[model.family], model.family != "gpt2"
    outside = [
        _Group([name], (parameter,), parameter == "head")
        for parameter, name in OUTSIDE[model.family].items()
        if not (parameter == "head" and model.tie_embeddings)
    ]
    blocks = [
        _Group(
            [f"{layers.format(i)}{name}" for i in range(model.n_layers)],
            tuple(f"{BLOCKS}{parameter}" for parameter in parameters),
            linear and name in _PROJECTIONS,
        )
        for name, parameters in BLOCK[model.family].items()
    ]
    return outside + blocks


def _layer(model: Model, group: _Group, arrays: list[np.ndarray], layer: int) -> np.ndarray:
    """The tensor of one layer; of a group outside the blocks, the only one."""
    parts = [array[layer] if group.parameters[0].startswith(BLOCKS) else array for array in arrays]
    if len(parts) == 3:  # GPT-2 has as many key-value heads as heads: a head of ours that is shared is repeated
        query, key, value = parts
        parts = [query, _repeated(model, key), _repeated(model, value)]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return joined.T if group.transposed else joined


def _repeated(model: Model, w: np.ndarray) -> np.ndarray:
    """Keys or values of every head, from those of the key-value heads."""
    heads = w.reshape(*w.shape[:-1], model.kv_heads, model.head_dim)
    return heads.repeat(model.n_heads // model.kv_heads, axis=-2).reshape(*w.shape[:-1], model.d_model)


def at(tree: dict, parameter: str):
    for key in parameter.split("."):
        tree = tree[key]
    return tree
