"""Token files as a corpus: windows of the training and of the validation tokens, read where they lie.

The files of a source are one stream, in the order of their names. The held-out stretches are the validation split, the
rest is the train split. Window w of a split is its tokens w * seq_len to (w + 1) * seq_len, both included: windows
share one token, as those of a Corpus do. Opening reads the index and the sizes of the files, never the data.
"""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.data.tokens import formats, index
from ladder.data.tokens.blocks import BLOCK, CheckedFile, OpenFiles
from ladder.data.tokens.index import SPLITS, Index
from ladder.data.tokens.indexing import check_ids, wrong_id
from ladder.errors import DamagedError, InputError

MOST_GROUPS = 5  # of damaged blocks that are named of a file


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
        folder = os.path.dirname(self._parts[0].source.path)
        return f"{folder}: the tokens are read unchecked, and none are held out; `ladder data index` mends both"

    @functools.cached_property
    def tokenizer(self):
        """The tokenizer that was named when the index was made. Raises InputError where there was none."""
        from ladder.data import tokenizer as tokenizers

        if not self.tokenizer_hash:
            raise InputError("the index of the token files names no tokenizer; `ladder data index --tokenizer FILE`")
        tokenizer = tokenizers.load(self.index.folder / "tokenizer")
        if tokenizer.hash != self.tokenizer_hash:
            raise DamagedError(f"{self.index.folder / 'tokenizer'}: not the tokenizer of the index; {index.MEND}")
        return tokenizer

    def read(self, split: str, window: int) -> np.ndarray:
        """int32[seq_len + 1]: a window of a split. Threads may call it at the same time.

        Raises DamagedError where a file is not as it was indexed, and InputError for an id outside the vocabulary, both
        with the file and the place. Raises IndexError for a window that the split does not have.
        """
        if not 0 <= window < self.windows[split]:
            raise IndexError(f"window {window} of the {split} split, which has {self.windows[split]}")
        tokens = np.empty(self.seq_len + 1, np.int32)
        position, filled = window * self.seq_len, 0
        stretches = self._stretches[split]
        i = int(np.searchsorted(stretches.before, position, side="right")) - 1
        while filled < len(tokens):
            skip = position + filled - int(stretches.before[i])
            n = min(int(stretches.before[i + 1] - stretches.before[i]) - skip, len(tokens) - filled)
            at = int(stretches.first[i]) + skip
            tokens[filled : filled + n] = self._read(self._parts[stretches.number[i]], at, n)
            filled, i = filled + n, i + 1
        return tokens

    def _read(self, part: _Part, at: int, n: int) -> np.ndarray:
        size = part.dtype.itemsize
        ids = np.frombuffer(part.source.read(part.start + at * size, part.start + (at + n) * size), part.dtype)
        for token in (ids.max(), ids.min()) if part.dtype.kind == "i" else (ids.max(),):
            if not 0 <= token < self.vocab_size:
                where = at + int(np.flatnonzero(ids == token)[0])
                raise InputError(f"{part.source.path}: {wrong_id(int(token), where, part.about, self.vocab_size)}")
        return ids


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
    location = index.locate(paths, folder)
    if location is None and not unchecked:
        shown = " ".join(map(str, paths[:3])) + " ..." * (len(paths) > 3)
        where = f" --index {folder}" if folder is not None else ""
        raise InputError(f"{shown}: no index of these token files; make it: `ladder data index {shown}{where}`")
    if location is None:
        return _unindexed(paths, seq_len, dtype, vocab_size)
    contents = index.read(location)
    if vocab_size is None:
        vocab_size = contents.vocab_size
    elif contents.vocab_size not in (None, vocab_size):
        reason = f"made for a tokenizer of {contents.vocab_size:,} ids, not {vocab_size:,}"
        raise InputError(f"{location}: {reason}; choose the same tokenizer, or make the index anew")
    if vocab_size is None:
        raise InputError(f"{location}: names no tokenizer; make it anew with --tokenizer FILE")
    if not _is(location, paths):
        _check_names(contents, paths)
    check_ids(contents.entries, contents.root, vocab_size)
    files = OpenFiles()
    parts = []
    for entry in contents.entries:
        if dtype not in (None, entry.dtype):
            raise InputError(f"{contents.path(entry)}: its tokens are {entry.dtype}, not {dtype}", "dtype")
        source = contents.checked_file(entry, files)
        source.check_size()
        parts.append(_Part(source, _dtype(entry), entry.start, entry))
    held_out = [contents.held_out(number) for number in range(len(parts))]
    rest = [_complement(held, entry.all_tokens) for held, entry in zip(held_out, contents.entries, strict=True)]
    stretches = {"train": _joined(rest), "validation": _joined(held_out)}
    opened = TokenFiles(parts, stretches, seq_len, vocab_size, contents, contents.hash)
    return _with_windows(opened, location)


def _with_windows(opened: TokenFiles, where) -> TokenFiles:
    if not opened.windows["train"]:
        n = opened.tokens["train"]
        reason = f"the train split has {n:,} tokens, fewer than a window of {opened.seq_len + 1:,}"
        raise InputError(f"{where}: {reason}: add files, or shorten model.seq_len")
    return opened


def _unindexed(paths: list, seq_len: int, dtype: str | None, vocab_size: int | None) -> TokenFiles:
    if vocab_size is None:
        raise InputError(f"{paths[0]}: without an index, say the size of the vocabulary")
    files, parts = OpenFiles(), []
    for file in formats.find(paths):
        about = formats.inspect(file, dtype)
        parts.append(_Part(CheckedFile(file, about.size, None, files), _dtype(about), about.start, about))
    everything = _joined([np.array([[0, part.about.tokens]]) for part in parts])
    nothing = _joined([np.empty((0, 2), np.int64)])
    sizes = [[part.about.dtype, part.about.start, part.about.size] for part in parts]
    stretches = {"train": everything, "validation": nothing}
    content_hash = index.hash_of({"unchecked": sizes})
    return _with_windows(TokenFiles(parts, stretches, seq_len, vocab_size, None, content_hash), paths[0])


def _is(location: Path, paths: list) -> bool:
    return len(paths) == 1 and os.path.realpath(paths[0]) == os.path.realpath(location)


def _check_names(contents: Index, paths: list) -> None:
    """Raises InputError where `paths` name other files than the index."""
    named = {os.path.realpath(file): file for file in formats.find(paths)}
    indexed = {os.path.realpath(contents.path(entry)): entry for entry in contents.entries}
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


def verify(contents: Index, advance: Callable[[int], None] = lambda n_bytes: None, workers: int = 4) -> list[str]:
    """Read every block of the files of an index; a line for each file that is missing or not as it was indexed."""
    files = OpenFiles()
    tasks = [
        (entry, start)
        for entry in contents.entries
        for start in range(0, entry.blocks, 1 << 14)  # a GiB: a large file is shared out, too
    ]
    sources = {entry.name: contents.checked_file(entry, files) for entry in contents.entries}
    damaged: dict[str, list[int]] = {entry.name: [] for entry in contents.entries}
    problems: dict[str, str] = {}

    def check(task) -> None:
        entry, first = task
        last = min(first + (1 << 14), entry.blocks)
        try:
            for start in range(first, last, 64):
                if entry.name in problems:
                    return
                stop = min(start + 64, last)
                damaged[entry.name] += sources[entry.name].damaged_blocks(start, stop)
                advance((stop - start) * BLOCK)
        except DamagedError as error:
            problems[entry.name] = str(error)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(check, tasks))
    for number, entry in enumerate(contents.entries):
        if damaged[entry.name] and entry.name not in problems:
            problems[entry.name] = _damage(contents.path(entry), sorted(damaged[entry.name]), entry.size)
        try:
            contents.held_out(number)
        except DamagedError as error:
            problems.setdefault(entry.name, str(error))
    return [problems[entry.name] for entry in contents.entries if entry.name in problems]


def _damage(path, blocks: list[int], size: int) -> str:
    """A line that names the damaged bytes, neighbouring blocks as one range."""
    groups: list[list[int]] = []
    for block in blocks:
        if groups and groups[-1][1] == block:
            groups[-1][1] = block + 1
        else:
            groups.append([block, block + 1])
    shown = [f"{first * BLOCK:,} to {min(stop * BLOCK, size):,}" for first, stop in groups[:MOST_GROUPS]]
    more = f" and {len(groups) - MOST_GROUPS} more places" if len(groups) > MOST_GROUPS else ""
    return f"{path}: bytes {', '.join(shown)}{more}: not the bytes that were indexed; {index.MEND}"
