"""The documents of a source: read once into a file without a name, without duplicates, ordered by their hashes."""

import contextlib
import hashlib
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
from etils import epath
from rich import progress as bars
from rich.console import Console

from ladder.config import Data
from ladder.data import text, text_files, tfds_source
from ladder.errors import InputError
from ladder.rundir.files import is_local


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
        """The first documents that fit into max_bytes (at least one). A document's hash alone sets its split."""
        fits = np.cumsum(self.size) <= (max_bytes or np.inf)
        n = max(1, int(fits.sum()))
        held_out = self.keys[:n, 1] < np.uint64(int(fraction * 2**64))
        if not held_out.any():
            held_out[np.argmin(self.keys[:n, 1])] = True
        first = {"keys": self.keys[:n], "offset": self.offset[:n], "size": self.size[:n]}
        return replace(self, **first, validation=held_out)

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.validation == (split == "validation"))

    def read(self, row: int) -> str:
        return os.pread(self.file.fileno(), int(self.size[row]), int(self.offset[row])).decode("utf-8")

    def sample(self, missing_bytes: int) -> Iterator[str]:
        """Training documents of about so many bytes, to train a tokenizer on."""
        for row in self.rows("train"):
            if missing_bytes > 0:
                missing_bytes -= int(self.size[row])
                yield self.read(row)


def spool(root: epath.Path):
    """A file for the text, beside the corpora where these are on a disk; the system deletes it when it is closed."""
    root.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=root if is_local(root) else None)


def read(data: Data, file: BinaryIO, start_bar: Callable, distributions: Iterable[str] | None = None) -> Texts:
    """The distinct documents of data.text that fit into data.max_bytes; they lie in `file`. start_bar: as in
    `progress_bars`. distributions: for the text "python", instead of the project's own requirements."""
    counts = [{"source": source, "documents": 0, "bytes": 0, "null_texts": 0} for source in data.text]
    texts = _distinct(_documents(data, distributions, counts), file, start_bar("reading", None))
    return replace(texts.first(data.max_bytes, data.validation), sources=counts)


def _documents(data: Data, distributions: Iterable[str] | None, sources: list[dict]) -> Iterator[bytes]:
    """The documents of data.text, in the order in which they are read, as UTF-8; counted in `sources`, as those without
    a text are."""
    for source, counts in zip(data.text, sources, strict=True):
        if source == "python":
            documents = text.python_documents(distributions)
        elif source.startswith("tfds:"):
            documents = tfds_source.documents(source, data.field)
        else:
            documents = text_files.path_documents(epath.Path(source), data.field)
        for document in documents:
            counts["documents" if document is not None else "null_texts"] += 1
            counts["bytes"] += len(document or b"")
            yield document or b""


def _distinct(documents: Iterable[bytes], file: BinaryIO, advance: Callable[[int], None]) -> Texts:
    digests, sizes = bytearray(), array("Q")
    for document in documents:
        if document:
            digests += hashlib.blake2b(document, digest_size=16).digest()
            sizes.append(len(document))
            file.write(document)
            advance(len(document))
    file.flush()
    if not sizes:
        raise InputError("data.text contains no text; a corpus needs at least two documents")
    keys = np.frombuffer(bytes(digests), ">u8").reshape(-1, 2).astype(np.uint64)
    size = np.frombuffer(sizes, np.uint64).astype(np.int64)
    offset = np.concatenate([[0], np.cumsum(size)[:-1]])
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    distinct = np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
    return Texts(file, keys[distinct], offset[order][distinct], size[order][distinct], int((~distinct).sum()))


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
