"""The first step: read the files of a part, and write its distinct documents ordered by their hashes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from etils import epath

from ladder.data import documents
from ladder.data.documents import Texts
from ladder.data.sharded import work
from ladder.data.sharded.work import Part
from ladder.data.texts import python_code, text_files
from ladder.errors import InputError
from ladder.rundir.files import is_local

WRITTEN_AT_ONCE = 1 << 22  # bytes


def marker(folder: str, part: int) -> epath.Path:
    return _file(folder, part, "json")


def _file(folder: str, part: int, kind: str) -> epath.Path:
    return epath.Path(folder) / "parts" / f"{part:06}.{kind}"


def read(folder: str, i: int) -> None:
    """Read part i. Its files: .keys (KEYS of each document), .text (their texts, in the same order), .bounds (of each
    bucket its first row and byte, and the end); its marker counts what was read, or says what is wrong with it."""
    if marker(folder, i).exists():
        return
    job = work.read_job(folder)
    part = job.parts[i]
    counts = {"documents": 0, "bytes": 0, "null_texts": 0}
    with tempfile.TemporaryFile(dir=folder if is_local(folder) else None) as file:
        try:
            texts = documents.distinct(documents.counted(_documents(part, job.field), counts), file, lambda _: None)
        except InputError as error:
            work.write_json(marker(folder, i), {"error": str(error), "argument": error.argument})
            return
        keys = np.empty(len(texts.size), work.KEYS)
        keys["first"], keys["second"], keys["size"] = texts.keys[:, 0], texts.keys[:, 1], texts.size
        work.write_file(_file(folder, i, "text"), _text(texts))
    work.write_file(_file(folder, i, "keys"), [keys.tobytes()])
    work.write_file(_file(folder, i, "bounds"), [_bounds(keys, job.n_buckets).tobytes()])
    work.write_json(marker(folder, i), counts | {"duplicates": texts.duplicates})


def _documents(part: Part, field: str) -> Iterator[bytes | None]:
    for path, state in zip(map(epath.Path, part.paths), part.states, strict=True):
        is_code = part.source == "python"
        yield from python_code.python_texts([Path(path)]) if is_code else text_files.file_documents(path, field)
        if work.state(path) != state:
            raise InputError(f"{path}: was written to while it was read; run the command again")


def _text(texts: Texts) -> Iterator[bytes]:
    chunk = bytearray()
    for row in range(len(texts.size)):
        chunk += texts.content(row)
        if len(chunk) >= WRITTEN_AT_ONCE:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _bounds(keys: np.ndarray, n_buckets: int) -> np.ndarray:
    """int64[n_buckets + 1, 2]: rows and bytes before each bucket. A bucket is a range of the first half of the hash."""
    starts = np.array([(bucket << 64) // n_buckets for bucket in range(n_buckets)], np.uint64)
    rows = np.concatenate([np.searchsorted(keys["first"], starts), [len(keys)]]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(keys["size"])])
    return np.stack([rows, ends[rows]], axis=1)


def bounds(folder: str, part: int, bucket: int) -> np.ndarray:
    """int64[2, 2]: (row, byte) of a part at which a bucket starts, and at which it ends."""
    return work.read_rows(_file(folder, part, "bounds"), np.dtype("<i8"), 2 * bucket, 4).reshape(2, 2)


def places(folder: str, part: int, bucket: int) -> np.ndarray:
    """PLACES of the documents of a part in a bucket."""
    (row, byte), (end, _) = bounds(folder, part, bucket)
    keys = work.read_rows(_file(folder, part, "keys"), work.KEYS, int(row), int(end - row))
    rows = np.empty(len(keys), work.PLACES)
    for name in work.KEYS.names:
        rows[name] = keys[name]
    rows["part"], rows["offset"] = part, byte + np.cumsum(keys["size"]) - keys["size"]
    return rows


def texts(folder: str, part: int, bucket: int) -> tuple[int, bytes]:
    """(first byte, texts) of the documents of a part in a bucket."""
    (_, byte), (_, end) = bounds(folder, part, bucket)
    return int(byte), work.read_range(_file(folder, part, "text"), int(byte), int(end - byte))
