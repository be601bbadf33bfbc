"""The records of a corpus on disk: a TFDS dataset in array_record, written once, read by position.

A record is tokens, and then 8 bytes of hash, which covers the corpus, the split and the number of the record too: a
flipped bit, and a file that was exchanged for another, show when the record is read, without a second file that must
be read as well. It is no feature of its own, because TFDS takes 0.1 ms to decode a feature. Records of earlier versions
have no hash.
"""

import bisect
import contextlib
import functools
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

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


class Writer(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes the records of each split in order, one shard for every 64 MB of text.

    corpus: the hash of the corpus. records: per split, (bytes of text read so far, tokens) of each record. feature:
    shape and dtype of the tokens.

    Not a GeneratorBasedBuilder: above 1 GB that sorts on disk with TensorFlow, which nothing else here needs.
    """

    name = "ladder_corpus"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else TFDS looks for checksums beside this file, with a package that it does not declare

    def __init__(self, *, corpus: str, records: dict[str, Iterator], sizes: dict[str, int], feature: tuple, **kwargs):
        self._records = {split: _numbered(corpus, split, stream) for split, stream in records.items()}
        (tokens,), dtype = feature
        self._sizes, self._feature = sizes, ((tokens + DIGEST // dtype.itemsize,), dtype)
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
        shards = {}
        for split, records in self._records.items():
            ends = [*range(SHARD_BYTES, self._sizes[split] - SHARD_BYTES, SHARD_BYTES), np.inf]
            shards[split] = [functools.partial(self._shard, records, end) for end in ends]
        return shards

    @staticmethod
    def _shard(records: Iterator, end: float) -> Iterator[tuple[int, dict]]:
        for number, n_bytes, record in records:
            yield number, record
            if n_bytes >= end:
                return


def _numbered(corpus: str, split: str, stream: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, int, dict]]:
    for number, (n_bytes, tokens) in enumerate(stream):
        hash_ = np.frombuffer(digest(corpus, split, number, tokens), tokens.dtype.newbyteorder("<"))
        yield number, n_bytes, {"tokens": np.concatenate([tokens, hash_], dtype=tokens.dtype)}
