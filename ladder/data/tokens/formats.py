"""What token files are: flat .npy and .bin files, and Megatron's pairs of .bin and .idx.

A .npy file begins with numpy's header, or it is raw: OLMo names raw files so. A raw file is nothing but tokens, little
endian. Sources of the formats: numpy.lib.format (NEP 1); Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

import contextlib
import glob
import io
import os
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.data.storage.locations import Url, location, parts, real
from ladder.data.storage.ranges import Storages
from ladder.errors import InputError

SUFFIXES = (".npy", ".bin")  # of the files that are read where a folder is named
OTHER_SUFFIXES = (".gz", ".zst", ".json", ".jsonl", ".txt", ".parquet", ".csv", ".idx", ".zip", ".npz")
DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "int64")
FOLDER = "ladder-index"  # of an index, see index.py; its files are not tokens
NUMPY_MAGIC = b"\x93NUMPY"
PARSING = threading.Lock()  # numpy calls ast.literal_eval, which fails where several threads of Python 3.11 do
MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
MEGATRON_DTYPES = {1: "uint8", 3: "int16", 4: "int32", 5: "int64", 8: "uint16"}
MEGATRON_HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the dtype, number of sequences
MOST_HEAD = 1 << 14  # bytes of a file that are read for its header; numpy refuses longer ones
CHUNK = 1 << 20  # sequences of an .idx that are in memory at a time


@dataclass(frozen=True)
class TokenFile:
    """A file of tokens, which lie without gaps from byte `start` to its end. size: bytes of the file."""

    path: Path | Url
    format: str  # "npy", "raw" or "megatron"
    dtype: str
    start: int
    tokens: int
    size: int


def find(paths: Iterable, storages: Storages | None = None) -> list[Path | Url]:
    """The token files that `paths` name, sorted by name, each once: files, folders, patterns with * and Megatron's
    prefixes, on a disk or in a bucket. Raises InputError where a path names none."""
    files: dict[str, Path | Url] = {}
    storages = storages or Storages()
    for path in map(str, paths):
        named = list(_named_in_store(location(path), storages) if "://" in path else _named(path))
        if not named:
            wanted = " or ".join(SUFFIXES)
            raise InputError(f"{path}: no token files here; name files, or a folder with files *{wanted}")
        for file in named:
            files.setdefault(real(file), file)
    return sorted(files.values(), key=parts)


def _named(path: str) -> Iterable[Path]:
    if os.path.isdir(path):
        for folder, folders, names in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if FOLDER not in name and not name.startswith("."))
            yield from (Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith("."))
    elif os.path.isfile(path):
        if path.endswith(OTHER_SUFFIXES):
            raise InputError(f"{path}: not a token file, by its name; token files end in {' or '.join(SUFFIXES)}")
        yield Path(path)
    elif os.path.isfile(f"{path}.bin"):
        yield Path(f"{path}.bin")
    elif any(character in path for character in "*?["):
        for match in sorted(glob.glob(path)):
            if not match.endswith(".idx") and FOLDER not in os.path.basename(match):
                yield from _named(match)
    else:
        raise InputError(f"{path}: no such file or folder")


def _named_in_store(url: Url, storages: Storages) -> list[Url]:
    store = storages.of(url)
    if any(character in url.text for character in "*?["):
        return [file for file in store.glob(url) if file.suffix != ".idx" and FOLDER not in file.text]
    if url.name.endswith(OTHER_SUFFIXES) and store.is_file(url):
        raise InputError(f"{url}: not a token file, by its name; token files end in {' or '.join(SUFFIXES)}")
    prefix = Url(f"{url}.bin")
    for file in (url, prefix) if not url.name.endswith(SUFFIXES) else (url,):
        if store.is_file(file):
            return [file]
    below = [(file, parts(file)[len(parts(url)) :]) for file in store.find(url)]
    if not below:
        raise InputError(f"{url}: no such file or folder")
    shown = (file for file, names in below if not any(FOLDER in name or name.startswith(".") for name in names))
    return [file for file in shown if file.name.endswith(SUFFIXES)]


def inspect(path, dtype: str | None = None, storages: Storages | None = None) -> TokenFile:
    """What a token file holds, from its first bytes, its size and, beside a .bin file, the head of its .idx.

    dtype: of raw files; that of another file must not differ. Raises InputError where the file is not whole tokens.
    """
    path, storages = location(path), storages or Storages()
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}: choose one of {', '.join(DTYPES)}", "dtype")
    storage = storages.of(path)
    opened = storage.open(path)
    size = opened.size
    if size == 0:
        raise InputError(f"{path}: empty; remove it")
    head = bytes(storage.read([(opened, 0, min(size, MOST_HEAD))])[0])
    if path.suffix == ".bin" and storage.is_file(path.with_suffix(".idx")):
        kind, own, start = "megatron", Megatron.open(path.with_suffix(".idx"), storages).dtype, 0
    elif head.startswith(NUMPY_MAGIC):
        kind, (own, start) = "npy", _numpy_header(head, path, size)
    else:
        kind, own, start = "raw", dtype, 0
    if own is None:
        raise InputError(f"{path}: has no numpy header, so say what its tokens are, for example uint16", "dtype")
    if dtype not in (None, own):
        raise InputError(f"{path}: its tokens are {own}, not {dtype}: leave the dtype out", "dtype")
    tokens, left = divmod(size - start, np.dtype(own).itemsize)
    if left:
        at = f"byte {size - left:,}: the last {left} of {size:,} bytes are not a whole token of {own}"
        raise InputError(f"{path}: {at}; the file was cut, or its tokens have another dtype")
    if not tokens:
        raise InputError(f"{path}: holds no token after its header of {start} bytes; remove it")
    return TokenFile(path, kind, own, start, tokens, size)


def _numpy_header(head: bytes, path: Path | Url, size: int) -> tuple[str, int]:
    """(dtype, bytes of the header). Raises InputError unless the file is a whole array of one dimension."""
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with PARSING:
            shape, _, dtype = reader(file)
    except Exception as error:  # of a damaged header: numpy raises ValueError, and what its parser raises
        raise InputError(f"{path}: byte {file.tell()}: a damaged numpy header ({_line(error)})") from None
    start = file.tell()
    if len(shape) != 1:
        raise InputError(f"{path}: an array of the shape {shape}; tokens have one dimension: save array.reshape(-1)")
    if dtype.name not in DTYPES or dtype.newbyteorder("<") != dtype:
        names = ", ".join(DTYPES)
        raise InputError(f"{path}: an array of {dtype.str}; tokens are little endian and one of {names}")
    if size != start + shape[0] * dtype.itemsize:
        whole = f"its header says {shape[0]:,} tokens, which end at byte {start + shape[0] * dtype.itemsize:,}"
        raise InputError(f"{path}: byte {size:,}: the file ends here, but {whole}")
    return dtype.name, start


@dataclass(frozen=True)
class Megatron:
    """An .idx file: magic, version 1, dtype, counts; then for each sequence its length (int32) and its byte in the .bin
    file (int64), and for each document the number of its first sequence (int64), with the number of all at the end.

    Files for images and text have a mode (int8) for each sequence after that. Files of the older form, by fairseq, name
    no documents: each sequence is one.
    """

    path: Path | Url
    dtype: str
    sequences: int
    documents: int | None  # entries of the list of documents; None in the older form
    storages: Storages

    @classmethod
    def open(cls, path: Path | Url, storages: Storages | None = None) -> "Megatron":
        """Reads the head. Raises InputError where it is not one, or the file has not the size that the head says."""
        storages = storages or Storages()
        opened = storages.of(path).open(path)
        size = opened.size
        head = bytes(opened.reader.read([(opened, 0, min(size, MEGATRON_HEADER.size + 8))])[0])
        if head[:9] != MEGATRON_MAGIC:
            older = ": it is of the form TNTIDX, which Megatron no longer writes" * head.startswith(b"TNTIDX")
            raise InputError(f"{path}: byte 0: not an index of Megatron{older}; write it anew, or remove it")
        if len(head) < MEGATRON_HEADER.size:
            raise InputError(f"{path}: byte {size}: cut within its header")
        _, version, code, sequences = MEGATRON_HEADER.unpack(head[: MEGATRON_HEADER.size])
        if version != 1:
            raise InputError(f"{path}: byte 9: version {version} of the format; 1 can be read")
        if code not in MEGATRON_DTYPES:
            codes = ", ".join(f"{code} ({dtype})" for code, dtype in MEGATRON_DTYPES.items())
            raise InputError(f"{path}: byte 17: {code} is not the code of a dtype of tokens, which are {codes}")
        fairseq = MEGATRON_HEADER.size + 12 * sequences
        if size == fairseq:
            return cls(path, MEGATRON_DTYPES[code], sequences, None, storages)
        documents = int.from_bytes(head[MEGATRON_HEADER.size :], "little")
        expected = 8 + fairseq + 8 * documents
        if size not in (expected, expected + sequences):
            counts = f"{sequences:,} sequences and a list of {documents:,} documents end at byte {expected:,}"
            raise InputError(f"{path}: byte {size:,}: the file ends here, but its {counts}; write it anew")
        return cls(path, MEGATRON_DTYPES[code], sequences, documents, storages)

    def first_document_ends(self, n: int) -> np.ndarray:
        """As `document_ends`, of the documents within the first n sequences, and unchecked."""
        start = MEGATRON_HEADER.size + (0 if self.documents is None else 8)
        wanted = [("<i4", start, min(n, self.sequences))]
        if self.documents is not None:
            wanted.append(("<i8", start + 12 * self.sequences, min(n + 1, self.documents)))
        lengths, *firsts = self._arrays(*wanted)
        ends = np.cumsum(lengths, dtype=np.int64)
        for first in firsts:
            ends = np.concatenate([[0], ends])[first[(first > 0) & (first <= len(ends))]]
        return ends[np.diff(ends, prepend=0) > 0]

    def document_ends(self, tokens: int) -> np.ndarray:
        """int64[documents]: the token of the .bin file at which each document ends; documents without tokens are left
        out. Raises InputError where the sequences are not the `tokens` tokens of the .bin file without a gap."""
        ends = np.empty(self.sequences, np.int64)
        start = MEGATRON_HEADER.size + (0 if self.documents is None else 8)
        itemsize, total = np.dtype(self.dtype).itemsize, 0
        for first in range(0, self.sequences, CHUNK):
            n = min(CHUNK, self.sequences - first)
            at = start + 4 * self.sequences + 8 * first
            length, pointer = self._arrays(("<i4", start + 4 * first, n), ("<i8", at, n))
            length = length.astype(np.int64)
            ends[first : first + n] = total + np.cumsum(length)
            wrong = np.flatnonzero((length < 0) | (pointer != (ends[first : first + n] - length) * itemsize))
            if len(wrong):
                byte = start + 4 * self.sequences + 8 * (first + wrong[0])
                where = f"sequence {first + wrong[0]:,} does not begin where the one before it ends"
                raise InputError(f"{self.path}: byte {byte:,}: {where}; write it anew")
            total = int(ends[first + n - 1])
        if total != tokens:
            holds = f"its sequences are {total:,} tokens, but {self.path.with_suffix('.bin')} holds {tokens:,}"
            raise InputError(f"{self.path}: {holds}: the two do not belong together")
        if self.documents is not None:
            [first] = self._arrays(("<i8", start + 12 * self.sequences, self.documents))
            if not len(first) or first[0] != 0 or first[-1] != self.sequences or (np.diff(first) < 0).any():
                byte = start + 12 * self.sequences
                raise InputError(f"{self.path}: byte {byte:,}: its documents are not its sequences; write it anew")
            ends = np.concatenate([[0], ends])[first[1:]]
        return ends[np.diff(ends, prepend=0) > 0]

    def _arrays(self, *wanted: tuple[str, int, int]) -> list[np.ndarray]:
        """Of (dtype, byte, length) each, read at the same time."""
        opened = self.storages.of(self.path).open(self.path)
        ranges = [(opened, at, at + n * np.dtype(dtype).itemsize) for dtype, at, n in wanted]
        contents = opened.reader.read(ranges)
        return [np.frombuffer(data, dtype) for data, (dtype, _, _) in zip(contents, wanted, strict=True)]


def _line(error: Exception) -> str:
    with contextlib.suppress(Exception):
        return " ".join(str(error).split())[:120]
    return type(error).__name__
