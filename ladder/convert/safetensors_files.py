"""Write tensors as safetensors files, one after the other: a file larger than memory needs the memory of one tensor.

A file is the length of its header (8 bytes), the header (JSON: name -> type, shape, first and last byte), and the
tensors' bytes in that order. The safetensors package reads such files; to write one it needs all its tensors at once.
"""

import json
import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

MOST_BYTES = 5 * 10**9  # of the tensors in one file; a larger model has several files and an index
DTYPES = {"float32": ("F32", 4), "bfloat16": ("BF16", 2)}  # name -> the name in the header, bytes


class Entry(NamedTuple):
    """A tensor that will be written. dtype: one of DTYPES."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype][1]


def write(folder: Path, entries: Sequence[Entry], tensors: Iterable[np.ndarray], most_bytes: int = MOST_BYTES) -> None:
    """Write model.safetensors into `folder`; or, above `most_bytes`, model-00001-of-0000N.safetensors and their index.

    tensors: those of `entries`, in the same order; each is asked for when the one before it is written.
    """
    groups, tensors = _groups(entries, most_bytes), iter(tensors)
    n = len(groups)
    names = ["model.safetensors"] if n == 1 else [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    for name, group in zip(names, groups, strict=True):
        with open(folder / name, "wb") as file:
            file.write(_header(group))
            for entry in group:
                tensor = next(tensors)
                if (tensor.shape, str(tensor.dtype)) != (entry.shape, entry.dtype):
                    raise ValueError(f"{entry.name}: {tensor.dtype}{tensor.shape} instead of {entry[1:]}")
                file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8))
                del tensor  # a part of a larger array, which can then be freed
    if n > 1:
        where = {entry.name: name for name, group in zip(names, groups, strict=True) for entry in group}
        index = {"metadata": {"total_size": sum(entry.n_bytes for entry in entries)}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _groups(entries: Sequence[Entry], most_bytes: int) -> list[list[Entry]]:
    """The entries of each file: as many as fit, at least one."""
    groups, used = [[]], 0
    for entry in entries:
        if groups[-1] and used + entry.n_bytes > most_bytes:
            groups.append([])
            used = 0
        groups[-1].append(entry)
        used += entry.n_bytes
    return groups


def _header(entries: list[Entry]) -> bytes:
    described, begin = {"__metadata__": {"format": "pt"}}, 0  # transformers asks for the format
    for entry in entries:
        end = begin + entry.n_bytes
        dtype, _ = DTYPES[entry.dtype]
        described[entry.name] = {"dtype": dtype, "shape": entry.shape, "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(described, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8 bytes
    return struct.pack("<Q", len(header)) + header
