"""Read published models from GGUF files (the format of llama.cpp) as our llama. The only file that imports gguf."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from ladder.config import Model
from ladder.data import tokenizer
from ladder.errors import InputError
from ladder.model.transformer import init_params

# Our parameter of a block -> its tensor's NAME in blk.<layer>.NAME.weight. A GGUF matrix is [out, in], ours [in, out].
BLOCK = {
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "out": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "attention_norm": "attn_norm",
    "mlp_norm": "ffn_norm",
}
# tokenizer.ggml.pre -> the pre-tokenizers that split a text before the byte-level one.
PRE_SPLITS = {"gpt-2": (), "smollm": (pre_tokenizers.Digits(individual_digits=True),)}
CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type


class Pretrained(NamedTuple):
    """model: the shape. params: as model.init_params, numpy float32."""

    model: Model
    params: dict
    tokenizer: tokenizer.Tokenizer


def read(path: Path) -> Pretrained:
    """A llama in any quantisation that the gguf package can dequantise, with the file's own byte-level BPE.

    Raises InputError for anything that would not be computed as it was trained: another architecture, scaled positions,
    biases, experts, a tokenizer that is not in PRE_SPLITS.
    """
    metadata, tensors = _open(path)
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise InputError(f"{path}: its architecture is {architecture!r}; only 'llama' can be read")
    try:
        model = _model(metadata, tensors)
        pretrained = Pretrained(model, _params(model, tensors), _tokenizer(metadata))
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from None
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: {error}") from None
    except (IndexError, TypeError, AttributeError) as error:  # a number out of range, or a text where a list belongs
        raise InputError(f"{path}: its metadata cannot be used ({error})") from None
    if tensors:
        raise InputError(f"{path}: our llama has no parameter for its tensor {min(tensors)}, so it cannot be read")
    return pretrained


def _open(path: Path) -> tuple[dict, dict]:
    """Metadata by key; tensors by name."""
    try:
        import gguf
    except ImportError:
        raise InputError(f"{path}: to read it, pip install 'ladder-lm[gguf]'") from None
    try:
        reader = gguf.GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{path}: not a GGUF file, or truncated ({error})") from None
    return metadata, {tensor.name: tensor for tensor in reader.tensors}


def _model(metadata: dict, tensors: dict) -> Model:
    fields = {key.removeprefix("llama."): value for key, value in metadata.items() if key.startswith("llama.")}
    scaling = fields.get("rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"llama.rope.scaling.type = {scaling!r}: scaled positions are not supported")
    heads = fields["attention.head_count"]
    model = Model(
        "llama",
        d_model=fields["embedding_length"],
        n_layers=fields["block_count"],
        n_heads=heads,
        n_kv_heads=fields.get("attention.head_count_kv", heads),
        d_ff=fields["feed_forward_length"],
        vocab_size=len(tensors["token_embd.weight"].data),
        seq_len=fields["context_length"],
        tie_embeddings="output.weight" not in tensors,
        rope_theta=fields.get("rope.freq_base", 10_000.0),
        norm_eps=fields["attention.layer_norm_rms_epsilon"],
        compute_dtype="float32",
    )
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        if fields.get(key, model.head_dim) != model.head_dim:
            raise ValueError(f"llama.{key} = {fields[key]}: only d_model / n_heads = {model.head_dim} is supported")
    return model


def _params(model: Model, tensors: dict) -> dict:
    """The parameters as model.init_params. Removes the tensors that it reads from `tensors`."""
    from gguf.quants import dequantize

    def weight(name: str) -> np.ndarray:
        tensor = tensors.pop(f"{name}.weight")
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)

    def of_layer(parameter: str, layer: int) -> np.ndarray:
        w = weight(f"blk.{layer}.{BLOCK[parameter]}")
        if parameter in ("query", "key"):
            w = _rotary_halves(w, model.n_heads if parameter == "query" else model.kv_heads)
        return w.T

    blocks = {name: np.stack([of_layer(name, layer) for layer in range(model.n_layers)]) for name in BLOCK}
    blocks |= {norm: {"scale": blocks[norm]} for norm in ("attention_norm", "mlp_norm")}
    params = {"embedding": weight("token_embd"), "final_norm": {"scale": weight("output_norm")}, "blocks": blocks}
    if not model.tie_embeddings:
        params["head"] = weight("output").T
    expected = jax.tree.map(np.shape, jax.eval_shape(lambda: init_params(model, 0)))
    if jax.tree.map(np.shape, params) != expected:
        raise ValueError("the shapes of its tensors do not match its metadata")
    return params


def _rotary_halves(w_OD: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head, reordered: llama.cpp rotates rows 2k, 2k + 1 by the k-th angle, our rope rows k, K/2 + k."""
    return w_OD.reshape(heads, -1, 2, w_OD.shape[1]).swapaxes(1, 2).reshape(w_OD.shape)


def _tokenizer(metadata: dict) -> tokenizer.Tokenizer:
    fields = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    kind, pre = fields["model"], fields.get("pre")
    if kind != "gpt2" or pre not in PRE_SPLITS:
        known = ", ".join(PRE_SPLITS)
        raise ValueError(f"its tokenizer is {kind!r} with pre-tokenizer {pre!r}; only 'gpt2' with {known} can be read")
    tokens, types = fields["tokens"], fields["token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    for merge in merges:
        absent = [repr(token) for token in (*merge, "".join(merge)) if token not in vocabulary]
        if absent or len(merge) != 2:
            reason = f"needs {absent[0]}, which its vocabulary lacks" if absent else "is not two tokens"
            raise ValueError(f"the merge {' '.join(merge)!r} of its tokenizer {reason}; take a file with all of it")
    engine = Engine(models.BPE(vocab=vocabulary, merges=merges))
    engine.pre_tokenizer = pre_tokenizers.Sequence([*PRE_SPLITS[pre], pre_tokenizers.ByteLevel(add_prefix_space=False)])
    engine.decoder = decoders.ByteLevel()
    added = [
        (token, kind == CONTROL) for token, kind in zip(tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED)
    ]
    engine.add_tokens([AddedToken(token, special=special, normalized=False) for token, special in added])
    if fields.get("add_bos_token"):
        bos = fields["bos_token_id"]
        engine.post_processor = processors.TemplateProcessing(f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)])
    return tokenizer.from_definition(engine.to_str())
