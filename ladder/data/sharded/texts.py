"""The documents of a source as `documents.Texts` has them, read, ordered, encoded and written by Beam pipelines."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from etils import epath

from ladder.config import Data
from ladder.data import documents, records
from ladder.data.records import SPLITS
from ladder.data.sharded import buckets, parts, shards, work
from ladder.data.sharded.environment import Beam
from ladder.data.sharded.work import Job
from ladder.data.tokenizer import Tokenizer
from ladder.errors import InputError
from ladder.rundir.files import absolute, is_local, read_json


def reader(beam: Beam) -> Callable:
    """What `corpus.build` calls to read: `documents.opened`, on Beam. The work folder lies beside the corpora; it goes
    when the corpus is there."""

    @contextlib.contextmanager
    def opened(data: Data, root: epath.Path, start_bar: Callable, distributions: Iterable[str] | None = None):
        beam.check(data.text, root)
        job = work.job_of(data, distributions)
        folder = absolute(root) / f".beam-{job.name}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "job.json").exists():
            work.write_job(folder, job)
        start_bar("reading", None)
        beam.run("read", folder)
        yield _texts(data, job, str(folder), beam)
        shutil.rmtree(folder) if is_local(folder) else folder.rmtree()

    return opened


@dataclass(frozen=True)
class ShardedTexts:
    """Distinct documents in the buckets of a work folder. rows: how many of each bucket fit into data.max_bytes.

    held_out: (bucket, row) of the one document that is held out where no hash is below the fraction. The other fields
    are those of `documents.Texts`.
    """

    folder: str
    beam: Beam
    rows: tuple[int, ...]
    held_out: tuple[int, int] | None
    documents: dict[str, int]
    bytes: dict[str, int]
    duplicates: int
    sources: list[dict]
    validation: float

    def _places(self) -> Iterator[tuple[int, np.ndarray]]:
        """(bucket, its documents) in order."""
        for bucket, n in enumerate(self.rows):
            if n:
                yield bucket, buckets.places(self.folder, bucket, n)

    @property
    def hash(self) -> str:
        digest = hashlib.sha256()
        for _, rows in self._places():
            digest.update(np.stack([rows["first"], rows["second"]], axis=1).astype(np.uint64).tobytes())
        return digest.hexdigest()

    def sample(self, missing_bytes: int) -> Iterator[str]:
        """Training documents of about so many bytes, to train a tokenizer on."""
        for bucket, rows in self._places():
            if missing_bytes <= 0:
                return
            read = buckets.reader(self.folder, bucket)
            is_held_out = buckets.held_out(rows, bucket, self.validation, self.held_out)
            for row in rows[~is_held_out]:
                if missing_bytes > 0:
                    missing_bytes -= int(row["size"])
                    yield read(row)

    def write_records(
        self, directory, corpus: str, tokenizer: Tokenizer, seq_len: int, start_bar: Callable
    ) -> dict[str, dict]:
        """As Texts.write_records. The tokens and shards lie under the hash of the corpus in the work folder."""
        start_bar("writing tokens", None)
        plan = {"seq_len": seq_len, "rows": self.rows, "held_out": self.held_out}
        tokenizer.save(epath.Path(self.folder) / corpus)
        work.write_json(epath.Path(self.folder) / corpus / "plan.json", plan)
        self.beam.run("write", self.folder, corpus)
        streams = shards.streams(self.folder, corpus)
        counts = {split: records.counts_of(split, int(streams[split].tokens[-1]), seq_len) for split in SPLITS}
        written = shards.written(self.folder, corpus)
        records.Writer(written, records.feature(tokenizer, seq_len), data_dir=directory).write()
        return records.by_name(counts)


def _texts(data: Data, job: Job, folder: str, beam: Beam) -> ShardedTexts:
    """The documents that fit into data.max_bytes, once they are read and merged. Raises InputError as `documents.read`
    does."""
    read = [read_json(parts.marker(folder, i)) for i in range(len(job.parts))]
    for counts in read:
        if "error" in counts:
            raise InputError(counts["error"], counts["argument"])
    merged = [read_json(buckets.marker(folder, bucket)) for bucket in range(job.n_buckets)]
    if not any(counts["rows"] for counts in merged):
        raise InputError(documents.NO_TEXT)
    rows = _first_rows(folder, merged, data.max_bytes)
    totals = [
        counts if n == counts["rows"] else buckets.totals(buckets.places(folder, bucket, n), job.validation)
        for bucket, (n, counts) in enumerate(zip(rows, merged, strict=True))
    ]
    n_documents = {split: sum(counts["documents"][split] for counts in totals) for split in SPLITS}
    n_bytes = {split: sum(counts["bytes"][split] for counts in totals) for split in SPLITS}
    held_out = None
    if not n_documents["validation"]:
        bucket = min((b for b, n in enumerate(rows) if n), key=lambda b: totals[b]["least"])
        of_bucket = buckets.places(folder, bucket, rows[bucket])
        row = int(np.argmin(of_bucket["second"]))
        held_out, size = (bucket, row), int(of_bucket["size"][row])
        n_documents = {"train": n_documents["train"] - 1, "validation": 1}
        n_bytes = {"train": n_bytes["train"] - size, "validation": size}
    duplicates = sum(counts["duplicates"] for counts in [*read, *merged])
    sources = _sources(data, job, read)
    return ShardedTexts(folder, beam, tuple(rows), held_out, n_documents, n_bytes, duplicates, sources, job.validation)


def _first_rows(folder: str, merged: list[dict], max_bytes: int | None) -> list[int]:
    """How many documents of each bucket are among the first that fit into max_bytes; of all buckets at least one."""
    rows, missing_bytes = [], max_bytes or float("inf")
    for bucket, counts in enumerate(merged):
        size = sum(counts["bytes"].values())
        n = counts["rows"]
        if size > missing_bytes:
            ends = np.cumsum(buckets.places(folder, bucket)["size"]) if missing_bytes > 0 else np.zeros(0)
            n, missing_bytes = int((ends <= missing_bytes).sum()), 0
        rows.append(n)
        missing_bytes -= size
    if not any(rows):
        rows[next(bucket for bucket, counts in enumerate(merged) if counts["rows"])] = 1
    return rows


def _sources(data: Data, job: Job, read: list[dict]) -> list[dict]:
    """What each source of data.text held, as `documents.read` counts it. A source that is named twice is read twice."""
    names = ("documents", "bytes", "null_texts")
    counted = [{"source": source} | dict.fromkeys(names, 0) for source in data.text]
    for part, counts in zip(job.parts, read, strict=True):
        for name in names:
            counted[part.position][name] += counts[name]
    return counted
