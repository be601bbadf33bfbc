"""Open a published model, a GGUF file or a Hugging Face folder, and read its parameters straight to their shards."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from ladder.config import Model, Rung
from ladder.convert import gguf, hf, hf_folder
from ladder.convert.safetensors_folder import Tensors
from ladder.data.tokenizer import Tokenizer
from ladder.errors import InputError
from ladder.rundir.files import as_path, is_local

GGUF = ".gguf"


@dataclass(frozen=True)
class Pretrained:
    """read(parameter, index): a part of a parameter, such as "blocks.query", as a numpy array. Of a folder it reads
    only this part from the disk; the parameters of a GGUF file are in memory already."""

    model: Model
    tokenizer: Tokenizer
    read: Callable[[str, tuple[slice, ...]], np.ndarray]

    def params(self, shardings: dict, dtype: str | None = None) -> dict:
        """The parameters, as transformer.init_params. Each process reads only what its devices hold, one parameter
        after the other. dtype: None for that of the model."""
        shapes, dtype = hf.shapes(self.model), dtype or self.model.param_dtype

        def placed(path, sharding) -> jax.Array:
            name = hf.dotted(path)
            part = lambda index: self.read(name, index).astype(dtype, copy=False)  # noqa: E731
            # Waits, so that what is read of the next parameter does not come on top of it.
            return jax.block_until_ready(jax.make_array_from_callback(shapes[name], sharding, part))

        return jax.tree_util.tree_map_with_path(placed, shardings)


def is_model(path: Path) -> bool:
    """Whether a path is one of a published model: a file .gguf, or a folder with safetensors or with the config.json
    of transformers."""
    if not path.is_dir():
        return path.suffix == GGUF
    if not is_local(path):
        return False
    try:
        config = json.loads((path / hf_folder.CONFIG).read_text())
    except (OSError, ValueError, RecursionError):
        return next(path.glob("*.safetensors*"), None) is not None
    return isinstance(config, dict) and ("model_type" in config or "architectures" in config)


def open_model(path: str | Path) -> Pretrained:
    """Raises InputError for a model that is not there, or that ours would not compute as it was trained."""
    path = _local(path)
    if path.is_dir():
        return Pretrained(*hf_folder.read(path))
    if path.suffix != GGUF:
        raise InputError(f"{path}: no published model here; name a Hugging Face folder or a {GGUF} file")
    model, params, tokenizer = gguf.read(path)
    return Pretrained(model, tokenizer, lambda name, index: hf.at(params, name)[index])


def check_shape(model: Model, rung: Rung) -> None:
    """Raise InputError where the model that a rung starts from is not of the rung's shape. The type of the parameters
    may differ, and the length of the context unless positions have parameters."""
    names = ["family", "d_model", "n_layers", "n_heads", "kv_heads", "d_ff", "vocab_size", "tie_embeddings", "norm_eps"]
    for name in [*names, "seq_len" if model.family == "gpt2" else "rope_theta"]:
        theirs, field = getattr(model, name), {"kv_heads": "n_kv_heads"}.get(name, name)
        if theirs != (own := getattr(rung.model, name)):
            reason = f"its {field} is {theirs}, model.{field} of this rung is {own}; set model.{field}={theirs}"
            raise InputError(f"rung {rung.label}: init_from = {rung.init_from!r}: {reason}")


def content_hash(path: str | Path) -> str:
    """16 hex digits of the sha256 of the files that hold the weights. It does not depend on where they lie."""
    path = _local(path)
    files = Tensors(path).files if path.is_dir() else [path]
    digests = []
    for file in files:
        try:
            with open(file, "rb") as opened:
                digests.append(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _local(path: str | Path) -> Path:
    if not is_local(as_path(str(path))):
        raise InputError(f"{path}: a published model is read from a disk; copy it to this machine")
    return Path(path)
