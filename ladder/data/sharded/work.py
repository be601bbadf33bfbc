"""The work folder of a build: its files are what one step leaves for the next, and what a killed build goes on from.

Every step writes its files whole or not at all, and its marker last. A step that has a marker is not done again.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from etils import epath

from ladder.config import Data, canonical_json
from ladder.data.texts import python_code, text_files
from ladder.errors import InputError
from ladder.rundir.files import is_local, read_json, write_atomic

VERSION = 1  # of the files in the folder
# Of input files that are read together, and of text that is in memory at a time (of gzip files their own size), where
# this makes not more than so many parts and buckets. A bucket is read from every part, so their product counts.
PART_BYTES, MOST_PARTS = 1 << 24, 1 << 10
BUCKET_BYTES, MOST_BUCKETS = 1 << 24, 1 << 11
# A document: the two halves of its hash, and its bytes.
KEYS = np.dtype([("first", "<u8"), ("second", "<u8"), ("size", "<i8")])
# The same, and where its text lies: in which part, and from which byte.
PLACES = np.dtype([*KEYS.descr, ("part", "<i8"), ("offset", "<i8")])


@dataclass(frozen=True)
class Part:
    """Files of one source that are read together, in order. source, position: the text of data.text and its index.
    states: size and time of the last change of each file."""

    source: str
    position: int
    paths: tuple[str, ...]
    states: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Job:
    """What is read, and into how many ranges of hashes (buckets) its documents are divided."""

    parts: tuple[Part, ...]
    field: str
    validation: float
    n_buckets: int
    version: int = VERSION

    @property
    def name(self) -> str:
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()[:16]


def job_of(data: Data, distributions: Iterable[str] | None = None) -> Job:
    """The files of data.text in parts. Raises InputError for a source that is not files."""
    files = [[(str(path), state(path)) for path in _files(source, distributions)] for source in data.text]
    n_bytes = sum(size for of_source in files for _, (size, _) in of_source)
    parts = tuple(
        Part(source, position, *group)
        for position, source in enumerate(data.text)
        for group in _groups(files[position], max(PART_BYTES, n_bytes // MOST_PARTS))
    )
    n_buckets = min(max(1, -(-n_bytes // BUCKET_BYTES)), MOST_BUCKETS)
    return Job(parts, data.field, data.validation, n_buckets)


def _files(source: str, distributions) -> Iterator[epath.Path]:
    if source.startswith("tfds:"):
        raise InputError(f"{source}: a TFDS dataset is read by one process; build its corpus without Beam", "runner")
    if source == "python":
        return (epath.Path(path) for _, path in python_code.python_files(distributions))
    return text_files.files(epath.Path(source))


def _groups(files: Iterable[tuple[str, tuple[int, int]]], at_least: int) -> Iterator[tuple[tuple, tuple]]:
    """(paths, states) of files that are read together: of so many bytes, but for the last."""
    group, n_bytes = [], 0
    for file in files:
        group.append(file)
        n_bytes += file[1][0]
        if n_bytes >= at_least:
            yield tuple(zip(*group, strict=True))
            group, n_bytes = [], 0
    if group:
        yield tuple(zip(*group, strict=True))


def state(path: epath.Path) -> tuple[int, int]:
    if is_local(path):
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns
    stat = path.stat()
    return stat.length, int(stat.mtime)


def write_job(folder, job: Job) -> None:
    write_json(epath.Path(folder) / "job.json", asdict(job))


@functools.lru_cache(maxsize=2)
def read_job(folder: str) -> Job:
    job = read_json(epath.Path(folder) / "job.json")
    parts = [
        part | {"paths": tuple(part["paths"]), "states": tuple(map(tuple, part["states"]))} for part in job["parts"]
    ]
    return Job(**job | {"parts": tuple(Part(**part) for part in parts)})


def write_json(path: epath.Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(value) + "\n")


def write_file(path: epath.Path, chunks: Iterable[bytes]) -> None:
    """Write a file; if the process dies, it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_local(path):
        write_atomic(path, chunks)
    else:  # piece by piece, because a part may be larger than memory
        with path.open("wb") as file:
            file.writelines(chunks)


def read_range(path: epath.Path, start: int, size: int) -> bytes:
    """Bytes of a file. Raises OSError where it ends before."""
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(size)
    if len(content) != size:
        raise OSError(f"{path}: ends at byte {start + len(content)}, before byte {start + size}")
    return content


def read_rows(path: epath.Path, dtype: np.dtype, start: int = 0, n: int | None = None) -> np.ndarray:
    """Rows of a file of rows; all of them without n."""
    if n is None:
        return np.frombuffer(path.read_bytes(), dtype)
    return np.frombuffer(read_range(path, start * dtype.itemsize, n * dtype.itemsize), dtype)
