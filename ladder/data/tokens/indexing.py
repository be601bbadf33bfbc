"""Make the index of token files: hash every block, find the documents, decide which are held out.

Several files are read at a time, by threads where they are small, else by processes (workers.py). A file that was
indexed is not read again, so an indexing that was killed goes on with the others.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.data.storage.locations import Url, common_folder, location, real, relative
from ladder.data.storage.ranges import Storages
from ladder.data.tokens import formats, index
from ladder.data.tokens.blocks import BLOCK, digests
from ladder.data.tokens.formats import TokenFile
from ladder.data.tokens.index import Entry, Index
from ladder.data.tokens.workers import Workers
from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.rundir.kill_points import phase

CHUNK = 64 * BLOCK  # bytes that are hashed at a time
CHUNKS_AT_ONCE = 4  # are asked for of an object store
WORKERS = max(2, min(16, os.cpu_count() or 2))
IN_THREADS = 1 << 28  # bytes; for fewer, processes are not worth their start


@dataclass(frozen=True)
class Job:
    """A file to index. eos: None where its documents are known otherwise, or not needed."""

    file: TokenFile
    name: str
    whole: bool
    eos: int | None
    validation: float

    def made_from(self) -> dict:
        """What the part of the file depends on; a part that was made from something else is made again."""
        storage = Storages().of(self.file.path)
        states = [storage.state(self.file.path)]
        if self.file.format == "megatron":
            states.append(storage.state(self.file.path.with_suffix(".idx")))
        about = {"whole": self.whole, "eos": self.eos, "validation": self.validation, "dtype": self.file.dtype}
        return about | {"states": states, "format_version": index.FORMAT_VERSION}


def build(
    paths: Iterable,
    *,
    dtype: str | None = None,
    eos: int | None = None,
    tokenizer: str | None = None,
    validation: float = 0.001,
    validation_files: Iterable = (),
    folder=None,
    workers: int = WORKERS,
    start_bar: Callable[[int], Callable[[int], None]] | None = None,
) -> Index:
    """The index of the token files that `paths` name, which is written to `folder` (default: beside them).

    dtype: of raw files. eos: the id that ends a document; Megatron's .idx files tell without. tokenizer: a
    tokenizer.json or its folder, which is copied into the index and checked against the ids; its eos is the default.
    validation: the fraction of the documents that is held out, by their hashes. validation_files: held out as they
    are, instead; they may be among `paths`. start_bar(bytes to read) -> advance(bytes). Raises InputError.
    """
    paths, named = list(paths), list(validation_files)
    if not 0 <= validation < 0.5:
        raise InputError(f"validation = {validation}: a fraction from 0 to 0.5", "validation")
    storages = Storages()
    folder = location(folder) if folder is not None else index.default_folder(paths, storages)
    whole = set(map(real, formats.find(named, storages)))
    files = _together(lambda path: formats.inspect(path, dtype, storages), formats.find([*paths, *named], storages))
    vocabulary = _tokenizer(tokenizer)
    if eos is None and vocabulary is not None:
        eos = vocabulary.eos
    fraction = 0.0 if named else validation
    root = common_folder(file.path for file in files)
    jobs = _jobs(files, root, whole, eos, fraction)
    try:
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); name another folder", "index") from None
    entries, least = _index_all(folder, jobs, workers, start_bar)
    if vocabulary is not None:
        check_ids(entries, root, vocabulary.vocab_size)
        storages.of(folder).write(folder / index.TOKENIZER, vocabulary.definition.encode())
    _check_eos(jobs, entries)
    held_out = None if any(entry.stretches for entry in entries) or not fraction else least
    made = Index(
        folder=folder,
        root=root,
        entries=entries,
        hash=index.content_hash(entries, eos, held_out),
        eos=eos,
        vocab_size=vocabulary and vocabulary.vocab_size,
        tokenizer_hash=vocabulary.hash if vocabulary else "",
        validation=fraction,
        least=held_out,
    )
    if not made.total("tokens", "train"):
        raise InputError(f"{paths[0]}: everything would be held out; add documents, or hold out less", "validation")
    index.write(made, storages)
    return made


def _together(work: Callable, items: Iterable) -> list:
    """[work(item), ...], many at a time: in a bucket each waits for the answers to its requests."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(work, items))


def _jobs(files: list[TokenFile], root: Path | Url, whole: set[str], eos: int | None, fraction: float) -> list[Job]:
    """whole: real paths of the files that are held out as they are."""
    jobs = [
        Job(
            file=file,
            name=relative(file.path, root),
            whole=real(file.path) in whole,
            eos=None if file.format == "megatron" else eos,
            validation=fraction,
        )
        for file in files
    ]
    for job in jobs:
        if fraction and job.eos is None and job.file.format != "megatron":
            raise InputError(f"{job.file.path}: say which id ends a document, or name the files to hold out", "eos")
    return jobs


def check_ids(entries: Iterable[Entry], root: Path | Url, vocab_size: int) -> None:
    """Raises InputError for a file with an id that a vocabulary of this size does not have, with its place."""
    for entry in entries:
        for token, at in (entry.largest, entry.smallest):
            if not 0 <= token < vocab_size:
                raise InputError(f"{root / entry.name}: {wrong_id(token, at, entry, vocab_size)}")


def wrong_id(token: int, at: int, file: Entry | TokenFile, vocab_size: int) -> str:
    """What to say of an id outside the vocabulary; at: its token in the file."""
    byte = file.start + at * np.dtype(file.dtype).itemsize
    where = f"token {at:,} (byte {byte:,}) is {token:,}, but the vocabulary has {vocab_size:,} ids"
    return f"{where}; the file was made with another tokenizer, or its tokens are not {file.dtype}"


def _tokenizer(spec: str | None):
    if spec is None:
        return None
    from ladder.data import tokenizer as tokenizers

    folder = as_path(spec)  # only tokenizer.json: it alone is copied into the index
    return tokenizers.load(folder / tokenizers.FILE if folder.is_dir() else spec)


def _index_all(folder: Path | Url, jobs: list[Job], workers: int, start_bar) -> tuple[tuple[Entry, ...], tuple | None]:
    """(entries in order, document with the least hash as (file, first token, last + 1)); indexes what is not yet."""
    finished = _together(lambda job: _finished(folder, job), jobs)
    todo = [job for job, result in zip(jobs, finished, strict=True) if result is None]
    todo.sort(key=lambda job: -job.file.size)
    size = sum(job.file.size for job in todo)
    advance = start_bar(size) if start_bar else lambda n_bytes: None
    workers = min(workers, len(todo))
    stop, processes = threading.Event(), Workers(workers) if workers > 1 and size >= IN_THREADS else None
    with ThreadPoolExecutor(max(1, workers)) as pool:
        work = processes.index_file if processes else index_file
        futures = [pool.submit(work, folder, job, advance, stop) for job in todo]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()  # where one of them failed, or the user stopped this
            if processes:
                processes.close()
            pool.shutdown(cancel_futures=True)
    results = _together(lambda job: _finished(folder, job), jobs)
    for job, result in zip(jobs, results, strict=True):
        if result is None:
            raise InputError(f"{job.file.path}: was written while it was indexed; run the command again")
    least = [(key, number, first, last) for number, (_, row) in enumerate(results) if row for key, first, last in [row]]
    return tuple(entry for entry, _ in results), min(least)[1:] if least else None


def _finished(folder: Path | Url, job: Job) -> tuple[Entry, list | None] | None:
    """(entry, [least hash, first token, last token + 1]) of a file that was indexed; None where it was not, or it has
    been written since."""
    part = index.read_part(folder, job.name)
    if part is None or {key: value for key, value in part[1].items() if key != "least"} != job.made_from():
        return None
    return part[0], part[1]["least"]


class _Stopped(Exception):
    """Another file could not be indexed."""


def index_file(
    folder: Path | Url, job: Job, advance: Callable[[int], None], stop: threading.Event | None = None
) -> None:
    """Write what `_finished` reads. Raises InputError where the file changes meanwhile, _Stopped if `stop` is set."""
    file, made_from = job.file, job.made_from()
    ends = None
    if file.format == "megatron":
        ends = formats.Megatron.open(file.path.with_suffix(".idx")).document_ends(file.tokens)
    documents = _Documents(np.dtype(file.dtype).itemsize, 0.0 if job.whole else job.validation)
    extremes, hashes, first = _Extremes(), bytearray(), 0
    for raw, block_hashes in _chunks(file, stop):
        ids = np.frombuffer(raw, f"<{np.dtype(file.dtype).str[1:]}")
        extremes.add(ids, first)
        if ends is not None:
            low, high = np.searchsorted(ends, [first, first + len(ids)], side="right")
            here = ends[low:high]
        else:
            here = first + 1 + np.flatnonzero(ids == job.eos) if job.eos is not None else np.empty(0, np.int64)
        documents.add(raw, first, here)
        hashes += block_hashes
        first += len(ids)
        advance(len(raw))
    documents.finish(first)
    if job.made_from() != made_from:
        raise InputError(f"{file.path}: was written while it was indexed; run the command again when it is finished")
    stretches = [[0, first]] if job.whole else documents.held_out
    held = {"documents": documents.total if job.whole else documents.held_out_documents}
    held["tokens"] = sum(stop - start for start, stop in stretches)
    entry = Entry(
        name=job.name,
        format=file.format,
        dtype=file.dtype,
        start=file.start,
        size=file.size,
        whole=job.whole,
        largest=extremes.largest,
        smallest=extremes.smallest,
        documents={"train": documents.total - held["documents"], "validation": held["documents"]},
        tokens={"train": first - held["tokens"], "validation": held["tokens"]},
        pages="",
        stretches=0,
        validation="",
    )
    least = None if job.whole else documents.least
    index.write_part(folder, entry, bytes(hashes), np.array(stretches), made_from | {"least": least})
    phase("indexed-file")


def _chunks(file: TokenFile, stop: threading.Event | None):
    """Yields (whole tokens, hashes of the blocks that were read for them) of a file."""
    itemsize, carry = np.dtype(file.dtype).itemsize, b""
    storage = Storages().of(file.path)
    opened = storage.open(file.path)
    at_once = CHUNKS_AT_ONCE if storage.over_network else 1
    chunks = [(opened, begin, min(begin + CHUNK, file.size)) for begin in range(0, file.size, CHUNK)]
    for i in range(0, len(chunks), at_once):
        if stop is not None and stop.is_set():
            raise _Stopped
        some = chunks[i : i + at_once]
        for (_, begin, _), content in zip(some, storage.read(some), strict=True):
            data = bytes(content)
            raw = carry + data[max(0, file.start - begin) :] if carry or begin < file.start else data
            whole = len(raw) // itemsize * itemsize
            carry = raw[whole:]
            yield raw[:whole], digests(data)


class _Extremes:
    """The largest and the smallest id, each with the first token that has it."""

    def __init__(self):
        self.largest, self.smallest = [-1, 0], [1 << 62, 0]

    def add(self, ids: np.ndarray, first: int) -> None:
        if len(ids):
            largest, smallest = int(ids.max()), int(ids.min())
            if largest > self.largest[0]:
                self.largest = [largest, first + int(ids.argmax())]
            if smallest < self.smallest[0]:
                self.smallest = [smallest, first + int(ids.argmin())]


class _Documents:
    """Counts the documents of a file and decides by the hash of each, which is of its bytes, whether it is held out.

    held_out: [first token, last + 1] of stretches of such documents. least: [hash, first token, last + 1] of the
    document with the least hash.
    """

    def __init__(self, itemsize: int, fraction: float):
        self._itemsize, self._below = itemsize, int(fraction * 2**64).to_bytes(8, "big")
        self._hashing = fraction > 0
        self._open, self._begin, self._position = None, 0, 0  # the document that has begun and not yet ended
        self._least = b"\xff" * 9
        self.least: list | None = None
        self.total, self.held_out_documents, self.held_out = 0, 0, []

    def add(self, raw: bytes, first: int, ends: np.ndarray) -> None:
        """The tokens `raw`, of which token `first` is the first. ends: where documents end in them."""
        self._position = first + len(raw) // self._itemsize
        if not self._hashing:
            self.total += len(ends)
            self._begin = int(ends[-1]) if len(ends) else self._begin
            return
        view, size, start = memoryview(raw), self._itemsize, first
        for end in ends.tolist():
            piece = view[(start - first) * size : (end - first) * size]
            if self._open is not None:
                self._open.update(piece)
                self._decide(self._open.digest(), end)
                self._open = None
            else:
                self._begin = start
                self._decide(hashlib.blake2b(piece, digest_size=8).digest(), end)
            start = end
        if start < self._position:
            if self._open is None:
                self._open, self._begin = hashlib.blake2b(digest_size=8), start
            self._open.update(view[(start - first) * size :])

    def finish(self, tokens: int) -> None:
        """The file ends, and with it the document that has begun."""
        if self._hashing and self._open is not None:
            self._decide(self._open.digest(), tokens)
        elif not self._hashing and self._begin < tokens:
            self.total += 1

    def _decide(self, key: bytes, end: int) -> None:
        self.total += 1
        if key < self._below:
            self.held_out_documents += 1
            if self.held_out and self.held_out[-1][1] == self._begin:
                self.held_out[-1][1] = end
            else:
                self.held_out.append([self._begin, end])
        if key < self._least:
            self._least, self.least = key, [key.hex(), self._begin, end]


def _check_eos(jobs: list[Job], entries: tuple[Entry, ...]) -> None:
    """Raises InputError where the id that should end documents is in none of the files."""
    flat = [(job, entry) for job, entry in zip(jobs, entries, strict=True) if job.eos is not None]
    for job, entry in flat:
        if sum(entry.documents.values()) > 1:
            return
        itemsize = np.dtype(entry.dtype).itemsize
        opened = Storages().of(job.file.path).open(job.file.path)
        [last] = opened.reader.read([(opened, entry.size - itemsize, entry.size)])
        if np.frombuffer(last, f"<{np.dtype(entry.dtype).str[1:]}")[0] == job.eos:
            return
    if flat:
        n_tokens = sum(entry.all_tokens for _, entry in flat)
        reason = f"the id {flat[0][0].eos}, which should end documents, is nowhere in {n_tokens:,} tokens"
        raise InputError(f"{flat[0][0].file.path}: {reason}; another id ends them, or the dtype is another", "eos")
