"""Published models from GGUF files (the format of llama.cpp) as our llama family. The only file that knows gguf."""

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

# Parameter of a block -> its tensor, blk.<layer>.NAME.weight. A matrix is stored as [out, in]; ours are [in, out].
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
# tokenizer.ggml.pre -> how a text is cut before the merges.
CUTS = {"gpt-2": (), "smollm": (pre_tokenizers.Digits(individual_digits=True),)}
CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type


class Pretrained(NamedTuple):
    """model: the shape. params: as model.init_params, numpy float32."""

    model: Model
    params: dict
    tokenizer: tokenizer.Tokenizer


def read(path: Path) -> Pretrained:
    """A llama in any quantisation that the gguf package undoes, with the byte-level BPE that the file carries.

    Raises InputError for anything that we would not compute as it was trained: another architecture, scaled positions,
    biases, experts, a tokenizer that is not in CUTS.
    """
    facts, tensors = _open(path)
    architecture = facts.get("general.architecture")
    if architecture != "llama":
        raise InputError(f"{path}: its architecture is {architecture!r}; only 'llama' can be read")
    try:
        c = _model(facts, tensors)
        pretrained = Pretrained(c, _params(c, tensors), _tokenizer(facts))
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from None
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: {error}") from None
    if tensors:
        raise InputError(f"{path}: {min(tensors)} has no place in our llama family")
    return pretrained


def _open(path: Path) -> tuple[dict, dict]:
    """Metadata by key; tensors by name."""
    try:
        import gguf
    except ImportError:
        raise InputError(f"{path}: to read it, pip install 'ladder[gguf]'") from None
    try:
        reader = gguf.GGUFReader(path)
        facts = {key: field.contents() for key, field in reader.fields.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{path}: not a GGUF file, or cut off ({error})") from None
    return facts, {tensor.name: tensor for tensor in reader.tensors}


def _model(facts: dict, tensors: dict) -> Model:
    fact = {key.removeprefix("llama."): value for key, value in facts.items() if key.startswith("llama.")}
    scaling = fact.get("rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"llama.rope.scaling.type = {scaling!r}: our positions are not scaled")
    heads = fact["attention.head_count"]
    c = Model(
        "llama",
        d_model=fact["embedding_length"],
        n_layers=fact["block_count"],
        n_heads=heads,
        n_kv_heads=fact.get("attention.head_count_kv", heads),
        d_ff=fact["feed_forward_length"],
        vocab_size=len(tensors["token_embd.weight"].data),
        seq_len=fact["context_length"],
        tie_embeddings="output.weight" not in tensors,
        rope_theta=fact.get("rope.freq_base", 10_000.0),
        norm_eps=fact["attention.layer_norm_rms_epsilon"],
        compute_dtype="float32",
    )
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        if fact.get(key, c.head_dim) != c.head_dim:
            raise ValueError(f"llama.{key} = {fact[key]}: our heads are {c.head_dim} wide, and turn as a whole")
    return c


def _params(c: Model, tensors: dict) -> dict:
    """The parameters; what is read leaves `tensors`."""
    from gguf.quants import dequantize

    def weight(name: str) -> np.ndarray:
        tensor = tensors.pop(f"{name}.weight")
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)

    def of_layer(ours: str, layer: int) -> np.ndarray:
        w = weight(f"blk.{layer}.{BLOCK[ours]}")
        if ours in ("query", "key"):
            w = _halves(w, c.n_heads if ours == "query" else c.kv_heads)
        return w.T

    blocks = {ours: np.stack([of_layer(ours, layer) for layer in range(c.n_layers)]) for ours in BLOCK}
    blocks |= {norm: {"scale": blocks[norm]} for norm in ("attention_norm", "mlp_norm")}
    params = {"embedding": weight("token_embd"), "final_norm": {"scale": weight("output_norm")}, "blocks": blocks}
    if not c.tie_embeddings:
        params["head"] = weight("output").T
    wanted = jax.tree.map(np.shape, jax.eval_shape(lambda: init_params(c, 0)))
    if jax.tree.map(np.shape, params) != wanted:
        raise ValueError("its tensors have other shapes than its metadata says")
    return params


def _halves(w_OD: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns the adjacent rows 2k, 2k + 1 of a head by the k-th angle, model.rope rows k and K/2 + k."""
    return w_OD.reshape(heads, -1, 2, w_OD.shape[1]).swapaxes(1, 2).reshape(w_OD.shape)


def _tokenizer(facts: dict) -> tokenizer.Tokenizer:
    fact = {key.removeprefix("tokenizer.ggml."): value for key, value in facts.items()}
    kind, cut = fact["model"], fact.get("pre")
    if kind != "gpt2" or cut not in CUTS:
        raise ValueError(f"its tokenizer is {kind!r} cut as {cut!r}; only 'gpt2' cut as {', '.join(CUTS)} can be read")
    tokens, types = fact["tokens"], fact["token_type"]
    merges = [tuple(merge.split(" ")) for merge in fact["merges"]]
    engine = Engine(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    engine.pre_tokenizer = pre_tokenizers.Sequence([*CUTS[cut], pre_tokenizers.ByteLevel(add_prefix_space=False)])
    engine.decoder = decoders.ByteLevel()
    added = [
        (token, kind == CONTROL) for token, kind in zip(tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED)
    ]
    engine.add_tokens([AddedToken(token, special=special, normalized=False) for token, special in added])
    if fact.get("add_bos_token"):
        bos = fact["bos_token_id"]
        engine.post_processor = processors.TemplateProcessing(f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)])
    return tokenizer.from_definition(engine.to_str())
