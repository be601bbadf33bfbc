"""Text to a corpus: documents, each once and in the order of their hashes, as fixed windows of tokens.

A corpus is a directory named by the hash of what is in it: `card.json` (counts), `tokenizer/tokenizer.json` and a
TFDS dataset (array_record). It is found again by its content, wherever the text lies and in whatever order it is read.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import tempfile
import time
import uuid
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat
from typing import BinaryIO

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from rich import progress as bars
from rich.console import Console

from ladder.config import Data, canonical_json
from ladder.data import text, tfds_source
from ladder.data import tokenizer as tokenizers
from ladder.errors import InputError

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
# A record of the dataset is a run of windows: reading 4,096 tokens costs what reading 256 does, writing a tenth.
RECORD_TOKENS = 4096
SHARD_BYTES = 1 << 26  # of text; TFDS keeps a shard's tokens in memory while it writes
CARD = "card.json"
ENCODERS = 2  # threads; tiktoken works outside the interpreter's lock


@dataclass(frozen=True)
class Corpus:
    """What `card.json` says. windows, tokens (separators included), bytes and documents are counts per split.

    A window is seq_len + 1 tokens and shares its last one with the window after it, so every token but a split's
    first is a target once.
    """

    directory: epath.Path
    hash: str
    tokenizer_hash: str
    vocab_size: int
    seq_len: int
    windows_per_record: int
    windows: dict[str, int]
    tokens: dict[str, int]
    bytes: dict[str, int]
    documents: dict[str, int]
    duplicates: int

    @property
    def bytes_per_token(self) -> float:
        return sum(self.bytes.values()) / sum(self.tokens.values())

    @functools.cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        return tokenizers.load(self.directory / "tokenizer")

    def source(self, split: str):
        """Random access to the records of a split, int[windows_per_record * seq_len + 1] under "tokens"."""
        return tfds.builder_from_directory(self.directory / _Writer.name / str(_Writer.VERSION)).as_data_source(split)


def open_corpus(directory) -> Corpus:
    """The corpus in `directory`. Raises InputError where there is none."""
    directory = epath.Path(directory)
    try:
        card = json.loads((directory / CARD).read_text())
    except OSError:
        raise InputError(f"{directory}: no corpus here (no {CARD}); build it with `ladder data`") from None
    except ValueError:
        raise InputError(f"{directory / CARD}: not JSON; delete the directory and build it again") from None
    if card.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{directory / CARD}: made by another version of ladder; delete it and build it again")
    names = [name for name in Corpus.__dataclass_fields__ if name != "directory"]
    return Corpus(directory=directory, **{name: card[name] for name in names})


def build(data: Data, seq_len: int, root, progress: bool = True, distributions: Iterable[str] | None = None) -> Corpus:
    """The corpus of `data` in windows of seq_len + 1 tokens: found under `root`, or built there.

    Where data.corpus is set, it is opened by that hash, or built and must have it. `distributions` stand for the
    project's own requirements in "python". Raises InputError for text or a tokenizer that cannot be used.
    """
    root = epath.Path(root)
    if data.corpus and (root / data.corpus / CARD).exists():
        return _of_length(open_corpus(root / data.corpus), seq_len)
    root.mkdir(parents=True, exist_ok=True)
    local = "://" not in str(root)
    for left in root.glob(".building-*"):
        if time.time() - left.stat().mtime > 86_400:  # by a build that was killed
            left.rmtree()
    # A file without a name: it goes when this process does.
    with tempfile.TemporaryFile(dir=root if local else None) as spool, _bars(progress) as bar:
        texts = _read(_documents(data, distributions), spool, bar("reading", None))
        texts = texts.first(data.max_bytes, data.validation)
        trained = re.fullmatch(r"bpe:(\d+)", data.tokenizer)
        coder = None if trained else tokenizers.load(data.tokenizer)
        wanted = {"documents": texts.hash, "seq_len": seq_len, "validation": data.validation}
        # A BPE is not trained again to learn that it was: its size and the documents make it.
        request = _sha({"tokenizer": coder.hash if coder else data.tokenizer, "format": FORMAT_VERSION, **wanted})
        corpus = _find(root, request)
        if corpus is None:
            if coder is None:
                bar("training the tokenizer", None)
                coder = tokenizers.train(texts.sample(int(trained[1])), int(trained[1]))
            name = _sha({"tokenizer": coder.hash, "format": FORMAT_VERSION, **wanted})[:16]
            corpus = _write(root, name, request, data, seq_len, coder, texts, bar)
    if data.corpus and corpus.hash != data.corpus:
        raise InputError(f"data.corpus = {data.corpus!r}, but the text now gives {corpus.hash}: it has changed")
    return corpus


def _of_length(corpus: Corpus, seq_len: int) -> Corpus:
    if corpus.seq_len != seq_len:
        raise InputError(f"{corpus.directory}: its windows are for seq_len {corpus.seq_len}, not {seq_len}")
    return corpus


def _find(root: epath.Path, request: str) -> Corpus | None:
    for card in sorted(root.glob(f"*/{CARD}")):
        with contextlib.suppress(ValueError, AttributeError):  # nothing of ours
            if json.loads(card.read_text()).get("request") == request:
                return open_corpus(card.parent)
    return None


def _documents(data: Data, distributions: Iterable[str] | None) -> Iterator[bytes]:
    """The documents of data.text, in the order they are found, as UTF-8."""
    for where in data.text:
        if where == "python":
            yield from text.python_documents(distributions)
        elif where.startswith("tfds:"):
            yield from _tfds_documents(where, data.field)
        else:
            yield from text.path_documents(epath.Path(where), data.field)


def _tfds_documents(where: str, field: str) -> Iterator[bytes]:
    for record, example in tfds_source.examples(where, "train"):
        value = example.get(field)
        if isinstance(value, bytes) and text.is_utf8(value):
            yield value
        elif isinstance(value, str):
            yield text.encoded(value, record)
        else:
            raise InputError(f"{record}: no text under {field!r} (it has: {', '.join(example)})")


@dataclass(frozen=True)
class _Texts:
    """Distinct documents in a file, in the order of their hashes; row i is bytes offset[i] .. offset[i] + size[i]."""

    file: BinaryIO
    keys: np.ndarray  # uint64[n, 2]: the first orders, the second chooses the split
    offset: np.ndarray
    size: np.ndarray
    duplicates: int
    validation: np.ndarray | None = None  # bool[n]

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.keys.tobytes()).hexdigest()

    def first(self, max_bytes: int | None, fraction: float) -> "_Texts":
        """Those that fit into max_bytes (at least one), each put in a split by its hash alone."""
        fit = np.cumsum(self.size) <= (max_bytes or np.inf)
        n = max(1, int(fit.sum()))
        chosen = self.keys[:n, 1] < np.uint64(int(fraction * 2**64))
        if not chosen.any():
            chosen[np.argmin(self.keys[:n, 1])] = True
        return _Texts(self.file, self.keys[:n], self.offset[:n], self.size[:n], self.duplicates, chosen)

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.validation == (split == "validation"))

    def read(self, row: int) -> str:
        return os.pread(self.file.fileno(), int(self.size[row]), int(self.offset[row])).decode("utf-8")

    def sample(self, vocab_size: int) -> Iterator[str]:
        """Training documents, enough of them to train a BPE of that size."""
        left = vocab_size * tokenizers.SAMPLE_BYTES_PER_TOKEN
        for row in self.rows("train"):
            if left > 0:
                left -= int(self.size[row])
                yield self.read(row)


def _read(found: Iterable[bytes], file: BinaryIO, advance: Callable[[int], None]) -> _Texts:
    digests, sizes = bytearray(), array("Q")
    for document in found:
        if document:
            digests += hashlib.blake2b(document, digest_size=16).digest()
            sizes.append(len(document))
            file.write(document)
            advance(len(document))
    file.flush()
    if not sizes:
        raise InputError("data.text: no text in it; a corpus needs at least two documents")
    keys = np.frombuffer(bytes(digests), ">u8").reshape(-1, 2).astype(np.uint64)
    size = np.frombuffer(sizes, np.uint64).astype(np.int64)
    offset = np.concatenate([[0], np.cumsum(size)[:-1]])
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    new = np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
    return _Texts(file, keys[new], offset[order][new], size[order][new], int((~new).sum()))


def _write(root, name: str, request: str, data: Data, seq_len: int, coder, texts: _Texts, bar) -> Corpus:
    """Builds beside and renames: a build that is killed leaves nothing that is found."""
    per_record = max(1, RECORD_TOKENS // seq_len)
    rows = {split: texts.rows(split) for split in SPLITS}
    if not len(rows["train"]):
        raise InputError("data.text is one document: it cannot be both trained on and held out; add text")
    card = {
        "format_version": FORMAT_VERSION,
        "hash": name,
        "request": request,
        "text": list(data.text),
        "tokenizer": data.tokenizer,
        "tokenizer_hash": coder.hash,
        "vocab_size": coder.vocab_size,
        "seq_len": seq_len,
        "windows_per_record": per_record,
        "validation": data.validation,
        "documents": {split: len(rows[split]) for split in SPLITS},
        "bytes": {split: int(texts.size[rows[split]].sum()) for split in SPLITS},
        "duplicates": texts.duplicates,
        **{count: {} for count in ("tokens", "windows", "dropped_tokens")},
        "note": "dropped_tokens: the last, partial window of each split is left out",
    }
    temporary, final = root / f".building-{uuid.uuid4().hex}", root / name
    try:
        advance = bar("writing tokens", sum(card["bytes"].values()))
        records = {split: _records(texts, rows[split], coder, card, split, advance) for split in SPLITS}
        feature = ((per_record * seq_len + 1,), np.dtype(coder.dtype))
        about = {"records": records, "sizes": card["bytes"], "feature": feature}
        _Writer(**about, data_dir=temporary, file_format="array_record").write()
        coder.save(temporary / "tokenizer")
        if not (final / CARD).exists():
            if final.exists():
                final.rmtree()  # renamed, but killed before its card was written
            temporary.rename(final)
            card["bytes_per_token"] = round(sum(card["bytes"].values()) / sum(card["tokens"].values()), 4)
            # The card makes it found, and a rename makes the card whole.
            (final / "card.part").write_text(json.dumps(card, indent=1) + "\n")
            (final / "card.part").rename(final / CARD)
    finally:
        if temporary.exists():
            temporary.rmtree()
    return open_corpus(final)


def _records(texts: _Texts, rows, coder, card: dict, split: str, advance) -> Iterator[tuple[int, np.ndarray]]:
    """(bytes of text read, a run of windows_per_record windows), the last filled up with eos; counts into `card`."""
    seq_len, block = card["seq_len"], card["seq_len"] * card["windows_per_record"]
    front = [coder.bos] if coder.bos is not None else []
    held, tokens, done = np.zeros(0, coder.dtype), 0, 0
    for size, ids in _encoded_in_order(texts, rows, coder):
        tokens, done = tokens + len(front) + len(ids) + 1, done + size
        advance(size)
        held = np.concatenate([held, front, ids, [coder.eos]], dtype=coder.dtype, casting="unsafe")
        while len(held) > block:
            yield done, held[: block + 1]
            held = held[block:]  # the last token again: the next window's first input
    windows, rest = divmod(len(held) - 1, seq_len)
    total = (tokens - 1) // seq_len
    if total == 0:
        raise InputError(
            f"the {split} split has {tokens} tokens, fewer than a window of {seq_len + 1}: "
            f"add text{', raise data.validation' if split == 'validation' else ''} or shorten model.seq_len"
        )
    if windows:
        filled = np.full(block + 1, coder.eos, coder.dtype)
        filled[: windows * seq_len + 1] = held[: windows * seq_len + 1]
        yield done, filled
    card["tokens"][split], card["windows"][split], card["dropped_tokens"][split] = tokens, total, rest


def _encoded_in_order(texts: _Texts, rows: np.ndarray, coder) -> Iterator[tuple[int, np.ndarray]]:
    """(bytes, ids) of each document; a few are encoded ahead in threads, and the order is kept."""
    ahead: deque = deque()
    with ThreadPoolExecutor(ENCODERS) as pool:
        for row in chain(rows, repeat(None, 4 * ENCODERS)):
            ahead.append((row, None if row is None else pool.submit(lambda row: coder.encode(texts.read(row)), row)))
            if len(ahead) > 4 * ENCODERS:
                row, ids = ahead.popleft()
                yield int(texts.size[row]), ids.result()


@contextlib.contextmanager
def _bars(show: bool) -> Iterator[Callable]:
    """A function (name, total bytes or None) -> advance(bytes): one progress bar at a time, on stderr."""
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.DownloadColumn())
    columns += (bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True, disable=not show) as live:

        def task(name: str, total: int | None) -> Callable[[int], None]:
            for old in live.task_ids:
                live.update(old, visible=False)
            now, waiting = live.add_task(name, total=total), 0

            def advance(n: int) -> None:
                nonlocal waiting
                waiting += n
                if waiting >= 1 << 18:  # not at every short document
                    live.advance(now, waiting)
                    waiting = 0

            return advance

        yield task


def _sha(value) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class _Writer(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes the records of each split, in order, a shard for every 64 MB of text.

    Not a GeneratorBasedBuilder: above 1 GB that sorts on disk, with TensorFlow, which nothing else here needs.
    """

    name = "ladder_corpus"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # or TFDS looks beside this file for checksums, with a package that it does not declare

    def __init__(self, *, records: dict[str, Iterator], sizes: dict[str, int], feature: tuple, **kwargs):
        self._records, self._sizes, self._feature = records, sizes, feature
        super().__init__(**kwargs)

    def write(self) -> None:
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # it announces downloads
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
        for i, (done, tokens) in enumerate(records):
            yield i, {"tokens": tokens}
            if done >= end:
                return
