"""Token files as a corpus: windows of the training and of the validation tokens, read where they lie.

The files of a source are one stream, in the order of their names. The held-out stretches are the validation split, the
rest is the train split. Window w of a split is its tokens w * seq_len to (w + 1) * seq_len, both included: windows
share one token, as those of a Corpus do. Opening reads the index and the sizes of the files, never the data.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ladder.data.storage.locations import location, real
from ladder.data.storage.ranges import AT_A_TIME, Storages
from ladder.data.tokens import blocks, formats, index
from ladder.data.tokens.blocks import BLOCK, CheckedFile
from ladder.data.tokens.index import SPLITS, Index
from ladder.data.tokens.indexing import check_ids, wrong_id
from ladder.errors import DamagedError, InputError


@dataclass(frozen=True)
class _Stretches:
    """The tokens of a split: stretch i is tokens first[i] to stop - 1 of file number[i], and token before[i] of the
    split begins it; before has one entry more, the number of all tokens."""

    number: np.ndarray
    first: np.ndarray
    before: np.ndarray

    @property
    def tokens(self) -> int:
        return int(self.before[-1])


@dataclass(frozen=True)
class _Part:
    """A file and how it is read."""

    source: CheckedFile
    dtype: np.dtype
    start: int
    about: formats.TokenFile | index.Entry


class _Piece(NamedTuple):
    """Tokens of one file, from token `at` on, that are copied to `out`."""

    part: _Part
    at: int
    out: np.ndarray

    @property
    def request(self) -> tuple[CheckedFile, int, int]:
        size = self.part.dtype.itemsize
        start = self.part.start + self.at * size
        return self.part.source, start, start + len(self.out) * size


class TokenFiles:
    """What `open_token_files` returns.

    windows, tokens, documents: per split; documents is None where there is no index. hash: of the content and the
    split, 16 hex digits; it enters the run_id. tokenizer_hash: "" where no tokenizer was named when the index was made.
    eos: the id that ends a document, or None. unchecked: there is no index, so nothing is compared with a hash.
    """

    def __init__(
        self,
        parts: list[_Part],
        stretches: dict[str, _Stretches],
        seq_len: int,
        vocab_size: int,
        contents: Index | None,
        content_hash: str,
    ):
        self._parts, self._stretches = parts, stretches
        self.seq_len, self.vocab_size, self.index, self.hash = seq_len, vocab_size, contents, content_hash
        self.unchecked = contents is None
        self.tokenizer_hash = contents.tokenizer_hash if contents else ""
        self.eos = contents.eos if contents else None
        self.tokens = {split: stretches[split].tokens for split in SPLITS}
        self.windows = {split: max(0, (self.tokens[split] - 1) // seq_len) for split in SPLITS}
        self.documents = {split: contents.total("documents", split) for split in SPLITS} if contents else None

    @property
    def note(self) -> str | None:
        """What a user should know about the data: a line where they are unchecked, else None."""
        if not self.unchecked:
            return None
        folder = location(self._parts[0].source.path).parent
        return f"{folder}: the tokens are read unchecked, and none are held out; `ladder data index` mends both"

    @functools.cached_property
    def tokenizer(self):
        """The tokenizer that was named when the index was made. Raises InputError where there was none."""
        from ladder.data import tokenizer as tokenizers

        if not self.tokenizer_hash:
            raise InputError("the index of the token files names no tokenizer; `ladder data index --tokenizer FILE`")
        path = self.index.folder / index.TOKENIZER
        try:
            tokenizer = tokenizers.from_definition(Storages(index.MEND).content(path).decode())
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: cannot be read ({error}); {index.MEND}") from None
        if tokenizer.hash != self.tokenizer_hash:
            raise DamagedError(f"{path}: not the tokenizer of the index; {index.MEND}")
        return tokenizer

    def read(self, split: str, windows: Sequence[int]) -> np.ndarray:
        """int32[len(windows), seq_len + 1]: windows of a split. Threads may call it at the same time.

        What they need is asked for at the same time, of an object store with many requests. Raises DamagedError where a
        file is not as it was indexed, and InputError for an id outside the vocabulary, both with the file and the
        place; Preempted where a store stays down. Raises IndexError for a window that the split does not have.
        """
        tokens = np.empty((len(windows), self.seq_len + 1), np.int32)
        pieces: list[_Piece] = []
        size = 0
        for row, window in zip(tokens, windows, strict=True):
            for piece in self._pieces(split, int(window), row):
                pieces.append(piece)
                size += len(piece.out) * piece.part.dtype.itemsize + 2 * BLOCK
                if size > AT_A_TIME:
                    self._fill(pieces)
                    pieces, size = [], 0
        self._fill(pieces)
        return tokens

    def _pieces(self, split: str, window: int, row: np.ndarray) -> Iterator[_Piece]:
        if not 0 <= window < self.windows[split]:
            raise IndexError(f"window {window} of the {split} split, which has {self.windows[split]}")
        position, filled = window * self.seq_len, 0
        stretches = self._stretches[split]
        i = int(np.searchsorted(stretches.before, position, side="right")) - 1
        while filled < len(row):
            skip = position + filled - int(stretches.before[i])
            n = min(int(stretches.before[i + 1] - stretches.before[i]) - skip, len(row) - filled)
            yield _Piece(self._parts[stretches.number[i]], int(stretches.first[i]) + skip, row[filled : filled + n])
            filled, i = filled + n, i + 1

    def _fill(self, pieces: Sequence[_Piece]) -> None:
        for piece, data in zip(pieces, blocks.read([piece.request for piece in pieces]), strict=True):
            part = piece.part
            ids = np.frombuffer(data, part.dtype)
            for token in (ids.max(), ids.min()) if part.dtype.kind == "i" else (ids.max(),):
                if not 0 <= token < self.vocab_size:
                    where = piece.at + int(np.flatnonzero(ids == token)[0])
                    raise InputError(f"{part.source.path}: {wrong_id(int(token), where, part.about, self.vocab_size)}")
            piece.out[:] = ids


def open_token_files(
    paths: Iterable,
    seq_len: int,
    *,
    folder=None,
    dtype: str | None = None,
    vocab_size: int | None = None,
    unchecked: bool = False,
) -> TokenFiles:
    """The token files that `paths` name (or the folder of their index), in windows of seq_len + 1 tokens.

    folder: of the index, if it is not beside the files. dtype: of raw files; the index knows it. vocab_size: of the
    model's tokenizer; the default is that of the tokenizer in the index. unchecked: without an index, read all the
    same; then all tokens are trained on. Raises InputError where there is no index, where files are missing, were added
    or have another size, and where an id is outside the vocabulary (the index holds the largest).
    """
    paths = list(paths)
    storages = Storages(index.MEND)
    index_folder = index.locate(paths, folder, storages)
    if index_folder is None and not unchecked:
        shown = " ".join(map(str, paths[:3])) + " ..." * (len(paths) > 3)
        where = f" --index {folder}" if folder is not None else ""
        raise InputError(f"{shown}: no index of these token files; make it: `ladder data index {shown}{where}`")
    if index_folder is None:
        return _unindexed(paths, seq_len, dtype, vocab_size)
    contents = index.read(index_folder, storages)
    if vocab_size is None:
        vocab_size = contents.vocab_size
    elif contents.vocab_size not in (None, vocab_size):
        reason = f"made for a tokenizer of {contents.vocab_size:,} ids, not {vocab_size:,}"
        raise InputError(f"{index_folder}: {reason}; choose the same tokenizer, or make the index anew")
    if vocab_size is None:
        raise InputError(f"{index_folder}: names no tokenizer; make it anew with --tokenizer FILE")
    if [real(path) for path in paths] != [real(index_folder)]:
        _check_names(contents, paths, storages)
    check_ids(contents.entries, contents.root, vocab_size)
    sources = contents.checked_files(storages)
    sizes = storages.sizes([source.path for source in sources])
    held_out, parts = contents.held_out(storages), []
    for entry, source, size, held in zip(contents.entries, sources, sizes, held_out, strict=True):
        if dtype not in (None, entry.dtype):
            raise InputError(f"{contents.path(entry)}: its tokens are {entry.dtype}, not {dtype}", "dtype")
        if (problem := source.problem(size)) is not None:
            raise DamagedError(problem)
        if isinstance(held, DamagedError):
            raise held
        parts.append(_Part(source, _dtype(entry), entry.start, entry))
    rest = [_complement(held, entry.all_tokens) for held, entry in zip(held_out, contents.entries, strict=True)]
    stretches = {"train": _joined(rest), "validation": _joined(held_out)}
    opened = TokenFiles(parts, stretches, seq_len, vocab_size, contents, contents.hash)
    return _with_windows(opened, index_folder)


def _with_windows(opened: TokenFiles, where) -> TokenFiles:
    if not opened.windows["train"]:
        n = opened.tokens["train"]
        reason = f"the train split has {n:,} tokens, fewer than a window of {opened.seq_len + 1:,}"
        raise InputError(f"{where}: {reason}: add files, or shorten model.seq_len")
    return opened


def _unindexed(paths: list, seq_len: int, dtype: str | None, vocab_size: int | None) -> TokenFiles:
    if vocab_size is None:
        raise InputError(f"{paths[0]}: without an index, say the size of the vocabulary")
    storages, parts = Storages(), []
    for file in formats.find(paths, storages):
        about = formats.inspect(file, dtype, storages)
        parts.append(_Part(CheckedFile(file, about.size, None, storages), _dtype(about), about.start, about))
    everything = _joined([np.array([[0, part.about.tokens]]) for part in parts])
    nothing = _joined([np.empty((0, 2), np.int64)])
    sizes = [[part.about.dtype, part.about.start, part.about.size] for part in parts]
    stretches = {"train": everything, "validation": nothing}
    content_hash = index.hash_of({"unchecked": sizes})
    return _with_windows(TokenFiles(parts, stretches, seq_len, vocab_size, None, content_hash), paths[0])


def _check_names(contents: Index, paths: list, storages: Storages) -> None:
    """Raises InputError where `paths` name other files than the index."""
    named = {real(file): file for file in formats.find(paths, storages)}
    indexed = {real(contents.path(entry)): entry for entry in contents.entries}
    for file in named.keys() - indexed.keys():
        raise InputError(f"{named[file]}: not in the index {contents.folder}; make it anew with `ladder data index`")
    for file in indexed.keys() - named.keys():
        if not indexed[file].whole:  # files that were named to be held out need not be among the paths
            missing = f"in the index {contents.folder}, but not among the files named"
            raise DamagedError(f"{contents.path(indexed[file])}: {missing}; {index.MEND}")


def _dtype(about) -> np.dtype:
    return np.dtype(about.dtype).newbyteorder("<")


def _complement(held_out: np.ndarray, tokens: int) -> np.ndarray:
    """The stretches of a file of `tokens` tokens that are not held out."""
    edges = np.concatenate([[0], held_out.reshape(-1), [tokens]]).reshape(-1, 2)
    return edges[edges[:, 0] < edges[:, 1]]


def _joined(stretches: list[np.ndarray]) -> _Stretches:
    """stretches: of each file."""
    number = np.repeat(np.arange(len(stretches), dtype=np.int32), [len(rows) for rows in stretches])
    rows = np.concatenate([rows.reshape(-1, 2) for rows in stretches])
    before = np.concatenate([[0], np.cumsum(rows[:, 1] - rows[:, 0])]).astype(np.int64)
    return _Stretches(number, rows[:, 0].astype(np.int64), before)
