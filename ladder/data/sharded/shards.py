"""The last step: cut the tokens of all buckets, one after the other, into records, and write each shard of them."""

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from etils import epath

from ladder.data import records
from ladder.data import tokenizer as tokenizers
from ladder.data.records import SPLITS, WrittenShard
from ladder.data.sharded import buckets, work
from ladder.errors import InputError
from ladder.rundir.files import is_local, read_json

READ_AT_ONCE = 256  # records


@dataclass(frozen=True)
class Stream:
    """The tokens of a split: those of all buckets in order. tokens, bytes: int64[n_buckets + 1], before each bucket."""

    folder: str
    name: str
    split: str
    tokens: np.ndarray
    bytes: np.ndarray

    def position_of_byte(self, n_bytes: float) -> int:
        """How many tokens precede the document with which the text reaches so many bytes."""
        bucket = int(np.searchsorted(self.bytes, n_bytes)) - 1
        path = buckets.tokens_file(self.folder, self.name, self.split, bucket, "sizes")
        sizes = work.read_rows(path, buckets.SIZES)
        document = int(np.searchsorted(self.bytes[bucket] + np.cumsum(sizes["bytes"]), n_bytes))
        return int(self.tokens[bucket] + sizes["tokens"][:document].sum())

    def read(self, start: int, end: int, dtype: np.dtype) -> np.ndarray:
        """Tokens start to end, or to the end of the stream."""
        pieces = [np.zeros(0, dtype)]
        for bucket in range(int(np.searchsorted(self.tokens, start, "right")) - 1, len(self.tokens) - 1):
            before, after = int(self.tokens[bucket]), int(self.tokens[bucket + 1])
            if before >= end:
                break
            path = buckets.tokens_file(self.folder, self.name, self.split, bucket, "tokens")
            first, last = max(start, before), min(end, after)
            pieces.append(work.read_rows(path, dtype, first - before, last - first))
        return np.concatenate(pieces)


def streams(folder: str, name: str) -> dict[str, Stream]:
    """{split: its Stream}. All buckets must be tokenized before."""
    n_buckets = work.read_job(folder).n_buckets
    sums = [read_json(buckets.tokens_marker(folder, name, bucket)) for bucket in range(n_buckets)]
    return {
        split: Stream(
            folder,
            name,
            split,
            np.cumsum([0, *(of_bucket[split]["tokens"] for of_bucket in sums)]),
            np.cumsum([0, *(of_bucket[split]["bytes"] for of_bucket in sums)]),
        )
        for split in SPLITS
    }


def plan(folder: str, name: str, _: Iterable[None] = ()) -> Iterator[tuple[str, int]]:
    """(split, number) of the shards to write, none where a split has less than a window; writes shards.json."""
    seq_len = read_json(epath.Path(folder) / name / "plan.json")["seq_len"]
    of_splits = streams(folder, name)
    try:
        for split, stream in of_splits.items():
            records.counts_of(split, int(stream.tokens[-1]), seq_len)
    except InputError:  # ShardedTexts.write_records raises it
        return
    ends = {split: _ends(stream, seq_len) for split, stream in of_splits.items()}
    work.write_json(epath.Path(folder) / name / "shards.json", ends)
    for split in SPLITS:
        yield from ((split, shard) for shard in range(len(ends[split])))


def _ends(stream: Stream, seq_len: int) -> list[int]:
    """The number of records before the end of each shard."""
    record_tokens = records.windows_per_record(seq_len) * seq_len
    full, left = divmod(int(stream.tokens[-1]) - 1, record_tokens)
    n_records = full + (left >= seq_len)
    ends = []
    for n_bytes in records.shard_ends(int(stream.bytes[-1]))[:-1]:
        # Record i, which ends with token (i + 1) * record_tokens, is the first to contain this document.
        record = max(0, -(-stream.position_of_byte(n_bytes) // record_tokens) - 1)
        ends.append(min(n_records, max(record, ends[-1] if ends else 0) + 1))
    return [*ends, n_records]


def write(folder: str, name: str, shard: tuple[str, int]) -> None:
    """Write a shard with the writer of every corpus. Its file is its own marker."""
    split, i = shard
    path = _file(folder, name, split, i)
    if path.exists():
        return
    seq_len = read_json(epath.Path(folder) / name / "plan.json")["seq_len"]
    tokenizer = tokenizers.load(epath.Path(folder) / name)
    first, end = _range(folder, name, split, i)
    stream = streams(folder, name)[split]
    length, dtype = records.windows_per_record(seq_len) * seq_len, np.dtype(tokenizer.dtype)

    def examples() -> Iterator[tuple[int, dict]]:
        for record in range(first, end):
            i = (record - first) % READ_AT_ONCE
            if i == 0:
                last = min(end, record + READ_AT_ONCE)
                tokens = stream.read(record * length, last * length + 1, dtype)
            of_record = tokens[i * length : (i + 1) * length + 1]
            if len(of_record) <= length:
                of_record = records.last_record(of_record, tokenizer, seq_len)
            yield record, records.example(name, split, record, of_record)

    with tempfile.TemporaryDirectory(dir=folder if is_local(folder) else None) as directory:
        # TFDS wants all splits; the other one is empty here.
        records.Writer({split: [examples]}, records.feature(tokenizer, seq_len), data_dir=directory).write()
        (written,) = Path(directory).rglob("*.array_record-*")
        _publish(written, path)


def _publish(written: Path, path: epath.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_local(path):
        written.replace(path)
        return
    with written.open("rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _file(folder: str, name: str, split: str, i: int) -> epath.Path:
    return epath.Path(folder) / name / "shards" / f"{split}-{i:06}"


def _range(folder: str, name: str, split: str, i: int) -> tuple[int, int]:
    ends = [0, *read_json(epath.Path(folder) / name / "shards.json")[split]]
    return ends[i], ends[i + 1]


def written(folder: str, name: str) -> dict[str, list[WrittenShard]]:
    """The shards of each split, once all are written."""
    ends = read_json(epath.Path(folder) / name / "shards.json")
    return {
        split: [
            WrittenShard(_file(folder, name, split, i), end - first)
            for i, (first, end) in enumerate(itertools.pairwise([0, *ends[split]]))
        ]
        for split in SPLITS
    }
