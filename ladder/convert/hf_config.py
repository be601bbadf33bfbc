"""config.json of a Hugging Face folder: the shape of our model in the words of transformers, and back."""

import json
from pathlib import Path

from ladder.config import Model
from ladder.errors import InputError

ARCHITECTURES = {"olmo2": "Olmo2ForCausalLM", "llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}
# model_type -> our family. A Mistral without a sliding window is a Llama.
FAMILIES = {"olmo2": "olmo2", "llama": "llama", "gpt2": "gpt2", "mistral": "llama"}
READABLE = {*ARCHITECTURES.values(), "MistralForCausalLM"}
# What our models lack of others that people have.
LACKING = {
    "olmo": "LayerNorm without parameters",
    "olmo3": "sliding windows",
    "qwen2": "biases of queries, keys and values",
    "qwen3": "norms of the queries and keys of each head",
    "gemma": "GELU gates and scaled embeddings",
    "gemma2": "GELU gates, scaled embeddings and soft caps",
    "gemma3_text": "GELU gates, scaled embeddings and norms of each head",
    "phi3": "joined projections and partly rotated heads",
    "gpt_neox": "parallel sub-layers and partly rotated heads",
    "mixtral": "experts",
}
_SILU, _NONE = ("silu", "swish"), (None,)
# A key of config.json -> the values with which our model computes the same; absent, transformers takes the first.
_ROPE = {
    "hidden_act": _SILU,
    "attention_bias": (False,),
    "sliding_window": _NONE,
    "quantization_config": _NONE,
    "partial_rotary_factor": (1.0, None),
}
COMPUTED = {
    "olmo2": _ROPE,
    "llama": _ROPE | {"mlp_bias": (False,)},
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "quantization_config": _NONE,
    },
}


def read(path: Path, param_dtype: str) -> Model:
    """The model of a config.json. param_dtype: of its parameters; it computes in float32.

    Raises InputError, which names what our models lack, or what the file does not say.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a JSON object; download it again")
    try:
        family = _family(config)
        _check_computed(config, family)
        shape = _gpt2_shape(config) if family == "gpt2" else _rope_shape(config, family)
        return Model(family, **shape, param_dtype=param_dtype, compute_dtype="float32")
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None


def write(model: Model, eos: int, bos: int | None) -> dict:
    """config.json: what transformers needs to build the model. eos, bos: ids that end and begin a document."""
    common = {
        "architectures": [ARCHITECTURES[model.family]],
        "model_type": model.family,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_embeddings,
        "initializer_range": model.init_std,
        "torch_dtype": model.param_dtype,
        "use_cache": True,
    } | token_ids(eos, bos)
    if model.family == "gpt2":
        shape = {"n_embd": model.d_model, "n_layer": model.n_layers, "n_head": model.n_heads, "n_inner": model.d_ff}
        shape |= {"n_positions": model.seq_len, "layer_norm_epsilon": model.norm_eps}
        shape |= {"activation_function": "gelu_new"}  # the approximation by tanh, as ours
        return common | shape | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    bias = {"attention_bias": False} | ({"mlp_bias": False} if model.family == "llama" else {})
    return common | {
        "hidden_size": model.d_model,
        "intermediate_size": model.d_ff,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": model.seq_len,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,  # transformers 4 reads this one, 5 the next
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "attention_dropout": 0.0,
        **bias,
    }


def token_ids(eos: int, bos: int | None) -> dict:
    """The ids of special tokens, for config.json and generation_config.json."""
    return {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": eos}


def _family(config: dict) -> str:
    kind, architectures = config.get("model_type"), config.get("architectures")
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    if kind in FAMILIES and (not names or names[0] in READABLE):
        return FAMILIES[kind]
    lacks = f", which has {LACKING[kind]}; our models have not" if kind in LACKING else ""
    readable = ", ".join(sorted(READABLE))
    shown = names[0] if names else f"{kind!r}"
    raise ValueError(f"its architecture is {shown}{lacks}; only {readable} can be read")


def _check_computed(config: dict, family: str) -> None:
    if config["model_type"] == "mistral":
        config = {"sliding_window": 4096} | config  # what transformers takes where the key is absent
    for key, allowed in COMPUTED[family].items():
        value = config.get(key, allowed[0])
        if value not in allowed:
            shown = f"{value!r:.60}"
            raise ValueError(
                f"{key} = {shown}; our {family} computes only {key} = {allowed[0]!r}, so it cannot be read"
            )


def _gpt2_shape(config: dict) -> dict:
    d_model, d_ff = _count(config, "n_embd"), config.get("n_inner")
    return {
        "d_model": d_model,
        "n_layers": _count(config, "n_layer"),
        "n_heads": _count(config, "n_head"),
        "d_ff": 4 * d_model if d_ff is None else _count(config, "n_inner"),
        "vocab_size": _count(config, "vocab_size"),
        "seq_len": _count(config, "n_positions"),
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "norm_eps": _number(config, "layer_norm_epsilon", 1e-5),
    }


def _rope_shape(config: dict, family: str) -> dict:
    d_model, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    shared = config.get("num_key_value_heads") is not None
    if config.get("head_dim") not in (None, d_model / heads):
        reason = f"only hidden_size / num_attention_heads = {d_model / heads:g} can be read"
        raise ValueError(f"head_dim = {config['head_dim']!r}; {reason}")
    return {
        "d_model": d_model,
        "n_layers": _count(config, "num_hidden_layers"),
        "n_heads": heads,
        "n_kv_heads": _count(config, "num_key_value_heads") if shared else None,
        "d_ff": _count(config, "intermediate_size"),
        "vocab_size": _count(config, "vocab_size"),
        "seq_len": _count(config, "max_position_embeddings"),
        "tie_embeddings": config.get("tie_word_embeddings", False),
        "rope_theta": _rope_theta(config),
        "norm_eps": _number(config, "rms_norm_eps", 1e-5 if family == "olmo2" else 1e-6),
    }


def _rope_theta(config: dict) -> float:
    """The base of the angles; raises ValueError where positions are scaled (Llama 3.1's "llama3", "yarn", ...)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
        raise ValueError(f"{key} = {rope!r:.60}; our models have no scaled positions, so it cannot be read")
    if any(isinstance(value, dict) for value in rope.values()):
        raise ValueError("rope_parameters differ between layers; our models rotate all layers alike")
    return _number(rope if "rope_theta" in rope else config, "rope_theta", 10_000.0)


def _count(config: dict, key: str) -> int:
    if type(value := config[key]) is not int:
        raise ValueError(f"{key} = {value!r:.40}; needs a whole number")
    return value


def _number(config: dict, key: str, default: float) -> float:
    value = config.get(key, default)
    if type(value) not in (int, float):
        raise ValueError(f"{key} = {value!r:.40}; needs a number")
    return float(value)
