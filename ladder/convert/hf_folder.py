"""Read a folder that transformers saved: config.json, safetensors, tokenizer.json. hf.py has the names of tensors."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ladder.config import Model
from ladder.convert import hf, hf_config
from ladder.convert.safetensors_folder import Tensors
from ladder.data import tokenizer as tokenizers
from ladder.errors import InputError

CONFIG = "config.json"
# Tensors that older versions of transformers saved and no version reads: masks and the angles' frequencies.
BUFFERS = re.compile(r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$")
HEAD, ROWS = "lm_head.weight", 4096


def read(folder: Path) -> tuple[Model, tokenizers.Tokenizer, Callable]:
    """(model, tokenizer, read_part) of a folder; read_part(parameter, index) reads just that part of a parameter, such
    as "blocks.query", in the type of the model's parameters.

    Raises InputError for what our models would not compute as transformers does, and for files that do not agree.
    """
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: has no {CONFIG}; name a folder as transformers saves it")
    hf_config.read(folder / CONFIG, "float32")  # says what our models lack before any file of weights is opened
    tensors = Tensors(folder)
    only_bfloat16 = set(tensors.dtypes.values()) == {"bfloat16"}
    model = hf_config.read(folder / CONFIG, "bfloat16" if only_bfloat16 else "float32")
    names = _names(folder, model, tensors)
    tokenizer = tokenizers.load(folder)
    if tokenizer.vocab_size > model.vocab_size:
        has = f"has {tokenizer.vocab_size:,} tokens, the model only {model.vocab_size:,}"
        raise InputError(f"{folder}: its tokenizer {has}; take the tokenizer that the model was trained with")
    return model, tokenizer, _reader(model, tensors, names)


def _names(folder: Path, model: Model, tensors: Tensors) -> dict[str, str]:
    """{our name of a tensor: its name in the files}. Raises InputError where one is missing, unknown or misshapen."""
    expected = {entry.name: entry.shape for entry in hf.entries(model)}
    # GPT-2 as first published: without the name of the module around the blocks.
    bare = model.family == "gpt2" and "wte.weight" in tensors.shapes
    names = {name: name.removeprefix("transformer.") if bare else name for name in expected}
    for name, shape in expected.items():
        stored = tensors.shapes.get(names[name])
        if stored is None:
            raise InputError(f"{folder}: the tensor {names[name]} is missing, so it is no whole {model.family}")
        if stored != shape:
            raise InputError(f"{folder}: the tensor {names[name]} is {list(stored)}; {CONFIG} says {list(shape)}")
    extra = {name for name in tensors.shapes if not BUFFERS.search(name)} - set(names.values())
    if model.tie_embeddings and HEAD in extra:
        _check_tied(folder, tensors, names[hf.OUTSIDE[model.family]["embedding"]])
        extra.remove(HEAD)
    if extra:
        raise InputError(f"{folder}: our {model.family} has no parameter for its tensor {min(extra)}")
    return names


def _check_tied(folder: Path, tensors: Tensors, embedding: str) -> None:
    """Raise InputError where a tied model has a head that is not its embedding."""
    rows = tensors.shapes[embedding][0]
    parts = [slice(first, min(first + ROWS, rows)) for first in range(0, rows, ROWS)]
    same = tensors.shapes[HEAD] == tensors.shapes[embedding] and all(
        np.array_equal(tensors.read(HEAD, (part,)), tensors.read(embedding, (part,))) for part in parts
    )
    if not same:
        reason = f"{HEAD} differs from {embedding}, but {CONFIG} says that they are one"
        raise InputError(f'{folder}: {reason}; set "tie_word_embeddings": false there')


def _reader(model: Model, tensors: Tensors, names: dict[str, str]) -> Callable:
    origins, shapes = hf.origins(model), hf.shapes(model)

    def read_part(parameter: str, index: tuple[slice, ...]) -> np.ndarray:
        origin, shape = origins[parameter], shapes[parameter]
        ranges = [range(n)[part] for n, part in zip(shape, index, strict=True)]
        layers, within = (ranges[0], ranges[1:]) if parameter.startswith(hf.BLOCKS) else (range(1), ranges)
        part = [slice(r.start, r.stop) for r in within]
        part[-1] = slice(within[-1].start + origin.first, within[-1].stop + origin.first)
        part = tuple(reversed(part)) if origin.transposed else tuple(part)
        out = np.empty([len(r) for r in ranges], model.param_dtype)
        of_layers = out if parameter.startswith(hf.BLOCKS) else out[None]
        for i, layer in enumerate(layers):
            w = tensors.read(names[origin.names[layer]], part)
            of_layers[i] = w.T if origin.transposed else w
        return out

    return read_part
