"""Token files written from the descriptions of their formats, without the code that reads them."""

import struct
from pathlib import Path

import numpy as np

CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "float32": 7, "uint16": 8}


def raw(path: Path, ids, dtype: str) -> Path:
    path.write_bytes(np.asarray(ids).astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    return path


def npy(path: Path, ids, dtype: str, version: int = 1, padding: int | None = None) -> Path:
    """By numpy.lib.format: magic, two bytes of version, length of the header (2 or 4 bytes), header, data."""
    kind = np.dtype(dtype).newbyteorder("<").str
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({len(ids)},), }}".encode()
    length = 10 if version == 1 else 12
    padding = -(length + len(header) + 1) % 64 if padding is None else padding
    header += b" " * padding + b"\n"
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header
    path.write_bytes(head + np.asarray(ids).astype(kind).tobytes())
    return path


def megatron(path: Path, documents: list, dtype: str, modes: bool = False, old: bool = False, parts: int = 1) -> Path:
    """path: of the .bin file. documents: lists of ids; each is written as `parts` sequences. old: without documents."""
    itemsize, lengths, first, pointer = np.dtype(dtype).itemsize, [], [0], []
    ids = np.concatenate([np.asarray(document, np.int64) for document in documents])
    path.write_bytes(ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    for document in documents:
        lengths += [len(piece) for piece in np.array_split(np.arange(len(document)), 1 if old else parts)]
        first.append(len(lengths))
    position = 0
    for length in lengths:
        pointer.append(position)
        position += length * itemsize
    out = b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", CODES[dtype]) + struct.pack("<Q", len(lengths))
    out += b"" if old else struct.pack("<Q", len(first))
    out += struct.pack(f"<{len(lengths)}i", *lengths) + struct.pack(f"<{len(pointer)}q", *pointer)
    out += b"" if old else struct.pack(f"<{len(first)}q", *first)
    out += bytes(len(lengths)) if modes else b""
    path.with_suffix(".idx").write_bytes(out)
    return path
