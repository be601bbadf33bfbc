"""The documents of a source: read once into a file without a name, without duplicates, ordered by their hashes."""

import contextlib
import hashlib
import os
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import BinaryIO

import numpy as np
from etils import epath
from rich import progress as bars
from rich.console import Console

from ladder.config import Data
from ladder.data import records
from ladder.data.records import SPLITS
from ladder.data.texts import python_code, text_files, tfds_source
from ladder.data.tokenizer import Tokenizer
from ladder.errors import InputError
from ladder.rundir.files import is_local

ENCODERS = 2  # threads; tiktoken releases the GIL
NO_TEXT = "data.text contains no text; a corpus needs at least two documents"


@dataclass(frozen=True)
class Texts:
    """Distinct documents in a file, ordered by their hashes; document i is bytes offset[i] to offset[i] + size[i]."""

    file: BinaryIO
    keys: np.ndarray  # uint64[n, 2], the halves of a hash: the first orders the documents, the second sets the split
    offset: np.ndarray
    size: np.ndarray
    duplicates: int
    validation: np.ndarray | None = None  # bool[n]: which documents are held out
    sources: list[dict] = field(default_factory=list)  # of data.text, what each held

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.keys.tobytes()).hexdigest()

    def first(self, max_bytes: int | None, fraction: float) -> "Texts":
        """The first documents that fit into max_bytes (at least one). A document's hash alone sets its split.

        Raises InputError where there is none."""
        if not len(self.size):
            raise InputError(NO_TEXT)
        fits = np.cumsum(self.size) <= (max_bytes or np.inf)
        n = max(1, int(fits.sum()))
        held_out = self.keys[:n, 1] < held_out_below(fraction)
        if not held_out.any():
            held_out[np.argmin(self.keys[:n, 1])] = True
        first = {"keys": self.keys[:n], "offset": self.offset[:n], "size": self.size[:n]}
        return replace(self, **first, validation=held_out)

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.validation == (split == "validation"))

    @property
    def documents(self) -> dict[str, int]:
        return {split: len(self.rows(split)) for split in SPLITS}

    @property
    def bytes(self) -> dict[str, int]:
        return {split: int(self.size[self.rows(split)].sum()) for split in SPLITS}

    def content(self, row: int) -> bytes:
        return os.pread(self.file.fileno(), int(self.size[row]), int(self.offset[row]))

    def read(self, row: int) -> str:
        return self.content(row).decode("utf-8")

    def sample(self, missing_bytes: int) -> Iterator[str]:
        """Training documents with about `missing_bytes` bytes in total, to train a tokenizer on."""
        for row in self.rows("train"):
            if missing_bytes > 0:
                missing_bytes -= int(self.size[row])
                yield self.read(row)

    def write_records(
        self, directory, corpus: str, tokenizer: Tokenizer, seq_len: int, start_bar: Callable
    ) -> dict[str, dict]:
        """Write the tokens of both splits to a corpus in `directory`; returns its counts of tokens (records.py).

        Raises InputError where a split has less than a window. corpus: its hash. start_bar: as in `progress_bars`."""
        sizes, counts = self.bytes, {}
        advance = start_bar("writing tokens", sum(sizes.values()))
        shards = {}
        for split in SPLITS:
            encoded = self._encoded(split, tokenizer, advance)
            packed = records.packed(encoded, split, tokenizer, seq_len, counts)
            shards[split] = records.shards_of(packed, corpus, split, sizes[split])
        records.Writer(shards, records.feature(tokenizer, seq_len), data_dir=directory).write()
        return records.by_name(counts)

    def _encoded(self, split: str, tokenizer: Tokenizer, advance: Callable) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (bytes, ids) of each document in order; threads encode a few documents in advance."""
        ahead: deque = deque()
        with ThreadPoolExecutor(ENCODERS) as pool:
            for row in chain(self.rows(split), repeat(None, 4 * ENCODERS)):
                encode = lambda i: tokenizer.encode_document(self.read(i))  # noqa: E731
                ahead.append((row, None if row is None else pool.submit(encode, row)))
                if len(ahead) > 4 * ENCODERS:
                    row, future = ahead.popleft()
                    yield int(self.size[row]), future.result()
                    advance(int(self.size[row]))


def held_out_below(fraction: float) -> np.uint64:
    """A document is held out if the second half of its hash is below this."""
    return np.uint64(int(fraction * 2**64))


@contextlib.contextmanager
def opened(data: Data, root: epath.Path, start_bar: Callable, distributions: Iterable[str] | None = None):
    """Yields the Texts of `data`, as `read`, as long as the file exists."""
    with spool(root) as file:
        yield read(data, file, start_bar, distributions)


def spool(root: epath.Path):
    """A file for the text, beside the corpora where these are on a disk; the system deletes it when it is closed."""
    root.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=root if is_local(root) else None)


def read(data: Data, file: BinaryIO, start_bar: Callable, distributions: Iterable[str] | None = None) -> Texts:
    """The distinct documents of data.text that fit into data.max_bytes; they lie in `file`. start_bar: as in
    `progress_bars`. distributions: for the text "python", instead of the project's own requirements."""
    counts = [{"source": source, "documents": 0, "bytes": 0, "null_texts": 0} for source in data.text]
    documents = chain.from_iterable(
        counted(_documents(source, data.field, distributions), counts)
        for source, counts in zip(data.text, counts, strict=True)
    )
    texts = distinct(documents, file, start_bar("reading", None))
    return replace(texts.first(data.max_bytes, data.validation), sources=counts)


def _documents(source: str, field: str, distributions: Iterable[str] | None) -> Iterator[bytes | None]:
    if source == "python":
        return python_code.python_documents(distributions)
    if source.startswith("tfds:"):
        return tfds_source.documents(source, field)
    return text_files.path_documents(epath.Path(source), field)


def counted(documents: Iterable[bytes | None], counts: dict[str, int]) -> Iterator[bytes]:
    """The documents that have a text, as UTF-8, in the order in which they are read; `counts` counts all of them."""
    for document in documents:
        counts["documents" if document is not None else "null_texts"] += 1
        counts["bytes"] += len(document or b"")
        if document:
            yield document


def distinct(documents: Iterable[bytes], file: BinaryIO, advance: Callable[[int], None]) -> Texts:
    """Write the documents to `file`. Of documents with the same bytes only the first is kept."""
    digests, sizes = bytearray(), array("Q")
    for document in documents:
        digests += hashlib.blake2b(document, digest_size=16).digest()
        sizes.append(len(document))
        file.write(document)
        advance(len(document))
    file.flush()
    keys = np.frombuffer(bytes(digests), ">u8").reshape(-1, 2).astype(np.uint64)
    size = np.frombuffer(sizes, np.uint64).astype(np.int64)
    offset = np.cumsum(size) - size
    order, is_first = order_of(keys)
    rows = order[is_first]
    return Texts(file, keys[rows], offset[rows], size[rows], len(order) - len(rows))


def order_of(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(order, is_first): the rows of `keys` by their hashes, and whether each is the first with its hash. Equal rows
    keep their order. keys: uint64[n, 2]."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, is_first


@contextlib.contextmanager
def progress_bars(show: bool) -> Iterator[Callable]:
    """A function (name, total bytes or None) -> advance(bytes). It shows one progress bar at a time, on stderr."""
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.DownloadColumn())
    columns += (bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True, disable=not show) as live:

        def start_bar(name: str, total: int | None) -> Callable[[int], None]:
            for earlier in live.task_ids:
                live.update(earlier, visible=False)
            task, pending_bytes = live.add_task(name, total=total), 0

            def advance(n_bytes: int) -> None:
                nonlocal pending_bytes
                pending_bytes += n_bytes
                if pending_bytes >= 1 << 18:  # not at every short document
                    live.advance(task, pending_bytes)
                    pending_bytes = 0

            return advance

        yield start_bar
