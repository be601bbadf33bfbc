"""Build a corpus from text: distinct documents, ordered by their hashes, as fixed windows of tokens.

A corpus is a directory named after the hash of its content. It holds `card.json` (counts), `tokenizer/tokenizer.json`
and a TFDS dataset (array_record). The hash does not depend on where the text is or on the order in which it is read.
"""

import contextlib
import functools
import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from etils import epath

from ladder.config import Data, canonical_json
from ladder.data import documents, records, seal, staging
from ladder.data import tokenizer as tokenizers
from ladder.data.documents import Texts
from ladder.data.records import SPLITS
from ladder.data.seal import CARD
from ladder.errors import DamagedError, InputError
from ladder.rundir.files import absolute, files_under, is_local, read_json

FORMAT_VERSION = 1
CACHED_RECORDS = 1024
READ_AT_ONCE = 32  # records of a mounted corpus


@dataclass(frozen=True)
class Corpus:
    """The content of `card.json`. windows, tokens (separators included), bytes and documents are counts per split.

    A window is seq_len + 1 tokens. Its last token is the first of the next window, so that every token of a split
    except the first is a target once.
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
        tokenizer = tokenizers.load(self.directory / "tokenizer")
        if tokenizer.hash != self.tokenizer_hash:
            reason = f"tokenizer {tokenizer.hash}, but the corpus was built with {self.tokenizer_hash}"
            raise InputError(f"{self.directory / 'tokenizer'}: {reason}; {seal.how_to_mend(self.directory)}")
        return tokenizer

    @property
    def eos(self) -> int:
        """The id that ends each document."""
        return self.tokenizer.eos

    def source(self, split: str):
        """The records of a split by number, not checked. A record is int[windows_per_record * seq_len + 1] tokens,
        followed by their hash (records.py)."""
        return records.source(self.directory, split)

    def reader(self, split: str) -> Callable[[int], np.ndarray]:
        """read(i) -> the tokens of record i of a split. Both raise InputError where a file is damaged, which names it;
        OSError where it cannot be read, for example because a mount is lost."""
        source = self._opened(split)

        def read(i: int) -> np.ndarray:
            nonlocal source
            try:
                return self._record(source, split, i)
            except Exception:  # TFDS and array_record raise many classes
                self._check_shard(source.file(i))
            source = self._opened(split)  # the file is as it was built: the reading of it failed
            try:
                return self._record(source, split, i)
            except Exception as error:
                raise self._damaged(split, error) from None

        return read

    def _opened(self, split: str):
        try:
            return self.source(split)
        except Exception as error:
            raise self._damaged(split, error) from None

    def _record(self, source, split: str, i: int) -> np.ndarray:
        record, n = source[i], self.windows_per_record * self.seq_len + 1
        tokens = record[:n]
        if record.shape not in ((n,), (n + records.DIGEST // record.itemsize,)):
            raise ValueError(f"record {i} has the shape {record.shape}, not {(n,)}")
        if len(record) > n and record[n:].tobytes() != records.digest(self.hash, split, i, tokens):
            raise ValueError(f"record {i} does not match its hash")
        return tokens

    def _check_shard(self, name: str) -> None:
        if seal.is_sealed(self.directory):
            for problem in seal.verify_file(self.directory, name):
                raise DamagedError(f"{problem}; {seal.how_to_mend(self.directory)}")

    def window_reader(self, split: str) -> Callable[[list[int]], np.ndarray]:
        """read(windows) -> int32[len(windows), seq_len + 1]; the latest records stay in memory, so that a small corpus
        is read once."""
        record = functools.lru_cache(maxsize=CACHED_RECORDS)(self.reader(split))
        length, per_record = self.seq_len, self.windows_per_record
        threads = ThreadPoolExecutor(READ_AT_ONCE) if staging.is_mounted(self.directory) else None

        def read(windows: list[int]) -> np.ndarray:
            tokens = np.empty((len(windows), length + 1), np.int32)
            if threads is not None:  # each record is a request to the bucket
                for _ in threads.map(record, sorted({w // per_record for w in windows})):
                    pass
            for row, w in enumerate(windows):
                start = w % per_record * length
                # One record at a time, 50 us each: on a disk, threads are slower.
                tokens[row] = record(w // per_record)[start : start + length + 1]
            return tokens

        return read

    def _damaged(self, split: str, reason: object) -> InputError:
        reason = " ".join(str(reason).split())[:200]
        tell = "`ladder verify` tells which file is damaged"
        return DamagedError(f"{self.directory}: the {split} split cannot be read ({reason}); {tell}")


def open_corpus(directory) -> Corpus:
    """The corpus in `directory`. Raises InputError if there is none, or a file of it is not the file that was built."""
    directory = epath.Path(directory)
    if not (directory / CARD).is_file():
        raise InputError(f"{directory}: no corpus here (no {CARD}); build it with `ladder data build`")
    seal.check(directory)
    try:
        card = read_json(directory / CARD)
    except InputError as error:
        raise InputError(f"{error}; {seal.how_to_mend(directory)}") from None
    reason = _wrong_in_card(card, {directory.name, absolute(directory).name})
    if reason:
        raise InputError(f"{directory / CARD}: {reason}; {seal.how_to_mend(directory)}")
    return Corpus(directory, **{name: card[name] for name in Corpus.__dataclass_fields__ if name != "directory"})


def _wrong_in_card(card: dict, names: set[str]) -> str | None:
    """What is wrong in the card of a corpus whose folder has one of these names; None where it is as it should be."""
    if card.get("format_version") != FORMAT_VERSION:
        return "made by another version of ladder"
    for field in fields(Corpus)[1:]:
        least = 0 if field.name == "duplicates" else 1
        if field.name not in card:
            return f"{field.name} is missing"
        if not _is_a(field.type, card[field.name], least):
            return f"{field.name} is {card[field.name]!r:.60}, which no card holds"
    return None if card["hash"] in names else f"the card of another corpus, {card['hash']!r}"


def _is_a(kind: type, value, least: int) -> bool:
    """Whether a value is a text, a count of at least `least`, or such a count for each split."""
    if kind is str:
        return isinstance(value, str)
    if kind is int:
        return type(value) is int and value >= least
    counts = value.values() if isinstance(value, dict) and value.keys() == set(SPLITS) else [None]
    return all(_is_a(int, count, least) for count in counts)


def build(
    data: Data,
    seq_len: int,
    root,
    progress: bool = True,
    distributions: Iterable[str] | None = None,
    read: Callable = documents.opened,
) -> Corpus:
    """The corpus of `data` in windows of seq_len + 1 tokens; it is built if `root` does not hold it yet.

    If data.corpus is set, the corpus of that hash is opened, or built and checked against it. distributions: for the
    text "python", instead of the project's own requirements. read: as documents.opened, or sharded.Beam for a corpus
    that many processes build. Raises InputError for unusable text or tokenizers.
    """
    root = epath.Path(root)
    if data.corpus and (root / data.corpus / CARD).exists():
        corpus = open_corpus(root / data.corpus)
        if corpus.seq_len != seq_len:
            reason = f"its windows are for seq_len {corpus.seq_len}, not {seq_len}"
            raise InputError(f"{corpus.directory}: {reason}; unset data.corpus, or change model.seq_len")
        return corpus
    bpe = data.tokenizer.startswith("bpe:")
    tokenizer = None if bpe else tokenizers.load(data.tokenizer, data.eos)  # before the text, which takes long to read
    with documents.progress_bars(progress) as start_bar, read(data, root, start_bar, distributions) as texts:
        return from_texts(texts, data, seq_len, root, tokenizer, start_bar)


def from_texts(texts: Texts, data: Data, seq_len: int, root, tokenizer, start_bar) -> Corpus:
    """As `build`, from the texts of `data`. tokenizer: None for a BPE that is trained on these texts alone.

    start_bar: from documents.progress_bars.
    """
    local = is_local(root)
    for leftover in root.glob(".building-*") if local else ():
        if time.time() - leftover.stat().mtime > 86_400:  # from a build that was killed
            leftover.rmtree()
    content = {"documents": texts.hash, "seq_len": seq_len, "validation": data.validation, "format": FORMAT_VERSION}
    # The vocabulary size and the documents determine a BPE, so an existing corpus is found without training it.
    recipe = _sha256(content | {"tokenizer": tokenizer.hash if tokenizer else data.tokenizer})
    corpus = _find(root, recipe)
    if corpus is None:
        if tokenizer is None:
            start_bar("training the tokenizer", None)
            size = int(data.tokenizer.removeprefix("bpe:"))
            tokenizer = tokenizers.train(texts.sample(size * tokenizers.SAMPLE_BYTES_PER_TOKEN), size)
        name = _sha256(content | {"tokenizer": tokenizer.hash})[:16]
        if (root / name / CARD).exists():  # made with another recipe for the same tokenizer, or damaged
            corpus = open_corpus(root / name)
        else:
            # ArrayRecord writes only to a disk.
            with contextlib.nullcontext(root) if local else tempfile.TemporaryDirectory() as folder:
                about = {"text": list(data.text), "sources": texts.sources}
                corpus = _write(epath.Path(folder), name, recipe, data, about, seq_len, tokenizer, texts, start_bar)
                corpus = corpus if local else _uploaded(corpus, root / name)
    if data.corpus and corpus.hash != data.corpus:
        reason = f"data.corpus = {data.corpus!r}, but the text has changed and now gives {corpus.hash!r}"
        raise InputError(f"{reason}: restore the text, or set data.corpus to the new hash")
    return corpus


def _find(root: epath.Path, recipe: str) -> Corpus | None:
    """The corpus of a recipe. One whose card does not say so, because it is damaged, is found later, by its name."""
    for path in sorted(root.glob(f"*/{CARD}")):
        try:
            card = read_json(path)
        except (InputError, OSError):  # not a corpus
            continue
        if (card.get("request"), card.get("hash")) == (recipe, path.parent.name):
            return open_corpus(path.parent)
    return None


def _write(
    root, name: str, recipe: str, data: Data, about: dict, seq_len: int, tokenizer, texts: Texts, start_bar
) -> Corpus:
    """Build in a temporary directory, then rename it: `_find` never sees a corpus of a build that was killed."""
    if not texts.documents["train"]:
        raise InputError("data.text is one document, which cannot be both trained on and held out; add text")
    card = {
        "format_version": FORMAT_VERSION,
        "hash": name,
        "request": recipe,
        **about,
        "tokenizer": data.tokenizer,
        "tokenizer_hash": tokenizer.hash,
        "vocab_size": tokenizer.vocab_size,
        "seq_len": seq_len,
        "windows_per_record": records.windows_per_record(seq_len),
        "validation": data.validation,
        "documents": texts.documents,
        "bytes": texts.bytes,
        "duplicates": texts.duplicates,
        **{count: {} for count in records.COUNTS},
        "note": "dropped_tokens: the last, partial window of each split is left out",
        "sealed": True,  # so a FILES.json must be there
    }
    temporary, final = root / f".building-{uuid.uuid4().hex}", root / name
    try:
        card |= texts.write_records(temporary, name, tokenizer, seq_len, start_bar)
        tokenizer.save(temporary / "tokenizer")
        card["bytes_per_token"] = round(sum(card["bytes"].values()) / sum(card["tokens"].values()), 4)
        card_text = json.dumps(card, indent=1) + "\n"
        (temporary / seal.UNFINISHED_CARD).write_text(card_text)
        seal.write(temporary, {CARD: card_text}, with_records=records.NAME)
        if not (final / CARD).exists():
            if final.exists():
                final.rmtree()  # of a build that was killed after the rename, before its card was written
            temporary.rename(final)
            # `_find` looks for the card, so it comes last; the rename makes its write atomic.
            (final / seal.UNFINISHED_CARD).rename(final / CARD)
    finally:
        if temporary.exists():
            temporary.rmtree()
    return open_corpus(final)


def _uploaded(corpus: Corpus, final: epath.Path) -> Corpus:
    """The copy of a corpus in a bucket. Its card is written last: `_find` never sees a part of a corpus."""
    paths = files_under(corpus.directory)
    for name in sorted(paths, key=lambda name: name == CARD):
        (final / name).write_bytes(paths[name].read_bytes())
    return open_corpus(final)


def _sha256(value) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
