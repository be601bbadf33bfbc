"""The records of a corpus on disk: a TFDS dataset in array_record, written once, read by position.

A record is tokens, and then 8 bytes of hash, which covers the corpus, the split and the number of the record too: a
flipped bit, and a file that was exchanged for another, show when the record is read, without a second file that must
be read as well. It is no feature of its own, because TFDS takes 0.1 ms to decode a feature. Records of earlier versions
have no hash.

Windows lie together in records: reading 4,096 tokens takes as long as reading 256, and writing a tenth of the time.
"""

import bisect
import contextlib
import functools
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from ladder.data.tokenizer import Tokenizer
from ladder.errors import InputError

SPLITS = ("train", "validation")
RECORD_TOKENS = 4096
COUNTS = ("tokens", "windows", "dropped_tokens")
NAME = ".array_record-"  # stands in the name of every shard
DIGEST = 8  # bytes of a hash: a damaged record passes with the chance of 1 in 10^19
MOST_OPEN = 256  # files of a split; a process may often have 1,024
SHARD_BYTES = 1 << 26  # of text; TFDS holds a shard's tokens in memory while it writes it


def source(directory, split: str) -> "Source":
    """Random access to the records of a split of the corpus in `directory`. Raises what TFDS raises."""
    return Source(directory / Writer.name / str(Writer.VERSION), split)


class Source:
    """The records of a split: source[i] is an array. Raises what TFDS and array_record raise.

    Not TFDS's own data source, which keeps every file open that it has read, each with a thread: a TB has 16,000 files.
    """

    def __init__(self, folder, split: str):
        info = tfds.builder_from_directory(folder).info
        self._features, self._paths = info.features, sorted(map(str, info.splits[split].filepaths))
        self._ends = np.cumsum(info.splits[split].shard_lengths).tolist()
        self._reader = functools.lru_cache(MOST_OPEN)(_opened)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, i: int) -> np.ndarray:
        shard = self._shard(i)
        [record] = self._reader(self._paths[shard]).read([i - (self._ends[shard - 1] if shard else 0)])
        return self._features.deserialize_example_np(record)["tokens"]

    def file(self, i: int) -> str:
        """The name, in the folder of the corpus, of the file that holds record i."""
        return "/".join(Path(self._paths[self._shard(i)]).parts[-3:])

    def _shard(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        return bisect.bisect_right(self._ends, i)


def _opened(path: str) -> ArrayRecordReader:
    return ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")  # records are read one at a time


def digest(corpus: str, split: str, number: int, tokens: np.ndarray) -> bytes:
    """The hash of record `number` of a split of a corpus, which is named by its own hash."""
    data = np.ascontiguousarray(tokens, tokens.dtype.newbyteorder("<"))
    return hashlib.blake2b(data, digest_size=DIGEST, key=f"{corpus}/{split}/{number}".encode()).digest()


def windows_per_record(seq_len: int) -> int:
    return max(1, RECORD_TOKENS // seq_len)


def feature(tokenizer: Tokenizer, seq_len: int) -> tuple[tuple[int], np.dtype]:
    """Shape and dtype of a record: its windows, the token that follows them, and the hash."""
    dtype = np.dtype(tokenizer.dtype)
    return (windows_per_record(seq_len) * seq_len + 1 + DIGEST // dtype.itemsize,), dtype


def example(corpus: str, split: str, number: int, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """What TFDS writes of a record. corpus: its hash. number: of the record in its split."""
    hash_ = np.frombuffer(digest(corpus, split, number, tokens), tokens.dtype.newbyteorder("<"))
    return {"tokens": np.concatenate([tokens, hash_], dtype=tokens.dtype)}


def counts_of(split: str, n_tokens: int, seq_len: int) -> dict[str, int]:
    """The COUNTS of a split of so many tokens. Raises InputError where they are less than a window."""
    windows, dropped = divmod(n_tokens - 1, seq_len)
    if n_tokens <= seq_len:
        raise InputError(
            f"the {split} split has {n_tokens} tokens, fewer than a window of {seq_len + 1}: "
            f"add text{', raise data.validation' if split == 'validation' else ''} or shorten model.seq_len"
        )
    return {"tokens": n_tokens, "windows": windows, "dropped_tokens": dropped}


def by_name(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """{count: {split: n}} from {split: {count: n}}, as a card holds them."""
    return {name: {split: counts[split][name] for split in SPLITS} for name in COUNTS}


def packed(
    documents: Iterable[tuple[int, np.ndarray]], split: str, tokenizer: Tokenizer, seq_len: int, counts: dict
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (bytes of text read so far, tokens of a record); at the end puts the COUNTS of the split into `counts`.

    documents: (bytes, ids). Raises InputError where they are less than a window.
    """
    record_tokens = windows_per_record(seq_len) * seq_len
    buffer, n_tokens, n_bytes = np.zeros(0, tokenizer.dtype), 0, 0
    for size, ids in documents:
        n_tokens, n_bytes = n_tokens + len(ids), n_bytes + size
        buffer = np.concatenate([buffer, ids])
        while len(buffer) > record_tokens:
            yield n_bytes, buffer[: record_tokens + 1]
            buffer = buffer[record_tokens:]  # the last token again: it is the first input of the next window
    counts[split] = counts_of(split, n_tokens, seq_len)
    if len(buffer) > seq_len:
        yield n_bytes, last_record(buffer, tokenizer, seq_len)


def last_record(tokens: np.ndarray, tokenizer: Tokenizer, seq_len: int) -> np.ndarray:
    """The windows of the tokens that are left, filled up with eos to a whole record."""
    end = (len(tokens) - 1) // seq_len * seq_len + 1
    record = np.full(windows_per_record(seq_len) * seq_len + 1, tokenizer.eos, tokenizer.dtype)
    record[:end] = tokens[:end]
    return record


def shard_ends(n_bytes: int) -> list[float]:
    """Where the shards of so many bytes of text end: after the record in which a document passes this many bytes."""
    return [*range(SHARD_BYTES, n_bytes - SHARD_BYTES, SHARD_BYTES), np.inf]


def shards_of(
    records: Iterator[tuple[int, np.ndarray]], corpus: str, split: str, n_bytes: int
) -> list[Callable[[], Iterator]]:
    """For each shard a function that returns its examples: all read from one iterator, in order."""
    numbered = enumerate(records)

    def shard(end: float) -> Iterator[tuple[int, dict]]:
        for number, (bytes_read, tokens) in numbered:
            yield number, example(corpus, split, number, tokens)
            if bytes_read >= end:
                return

    return [functools.partial(shard, end) for end in shard_ends(n_bytes)]


@dataclass(frozen=True)
class WrittenShard:
    """A shard that a Writer wrote before: its file, and how many records it holds."""

    path: epath.Path
    n_records: int

    def __call__(self) -> Iterator[tuple[int, None]]:
        return ((i, None) for i in range(self.n_records))


class Writer(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes the records of each split in order. shards: of each split, functions that return (position, example)s; or
    WrittenShards, whose files become those of the corpus.

    Not a GeneratorBasedBuilder: above 1 GB that sorts on disk with TensorFlow, which nothing else here needs.
    """

    name = "ladder_corpus"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else TFDS looks for checksums beside this file, with a package that it does not declare

    def __init__(self, shards: dict[str, list[Callable[[], Iterator]]], feature: tuple, **kwargs):
        self._shards, self._feature = shards, feature
        super().__init__(file_format="array_record", **kwargs)

    def write(self) -> None:
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads
            self.download_and_prepare()

    def _info(self):
        shape, dtype = self._feature
        # As bytes: 4 times as fast as a list of integers, and no larger.
        tokens = tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"tokens": tokens}))

    def _shard_iterators_per_split(self, dl_manager):
        return self._shards

    def _example_writer(self):
        shards = [shard for of_split in self._shards.values() for shard in of_split]
        written = [shard.path for shard in shards if isinstance(shard, WrittenShard)]
        return _Linker(written) if written else super()._example_writer()


class _Linker:
    """What TFDS asks to write shards, one after the other, where they are written already. Their files are linked, so
    that they stay where they are; across disks, and from a bucket, they are copied."""

    def __init__(self, paths: Iterable):
        self._paths = iter(paths)

    def write(self, path, examples: Iterator) -> None:
        written = next(self._paths)
        try:
            os.link(written, path)
        except OSError:
            with written.open("rb") as source, epath.Path(path).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
