"""Token files as a source of a run: read in place, with the tokenizer of the run."""

import functools
from collections.abc import Callable, Iterable

import numpy as np
from etils import epath

from ladder.config import Data, Source
from ladder.data import tokenizer as tokenizers
from ladder.data.storage.ranges import Storages
from ladder.data.tokenizer import Tokenizer
from ladder.data.tokens import blocks, index
from ladder.data.tokens.formats import Megatron
from ladder.data.tokens.index import Index
from ladder.data.tokens.token_files import TokenFiles, open_token_files
from ladder.errors import InputError
from ladder.rundir.files import write_atomic

SAMPLE_WINDOWS = 8  # from which the bytes of a token are estimated
DOCUMENTS_CHECKED = 256  # of each of Megatron's files, whether they end with eos


class TokenSource:
    """Token files and the tokenizer of the run; what training asks of it is data/windows.py's `Windows`."""

    def __init__(self, files: TokenFiles, tokenizer: Tokenizer):
        self.files, self.tokenizer = files, tokenizer
        self.directory, self.hash, self.seq_len = files.index.folder, files.hash, files.seq_len
        self.windows, self.tokens = files.windows, files.tokens
        self.tokenizer_hash, self.vocab_size = tokenizer.hash, tokenizer.vocab_size

    @functools.cached_property
    def eos(self) -> int:
        """The id that ends each document: of the index, else (Megatron's files tell where documents end, not with which
        id) that of the tokenizer. Raises InputError where the documents do not end with one."""
        contents, eos = self.files.index, self.files.eos
        by_megatron = [entry for entry in contents.entries if entry.format == "megatron"]
        if eos is None and len(by_megatron) < len(contents.entries):
            mend = "make it anew with `ladder data index --eos ID`, or leave data.mask_documents out"
            raise InputError(f"{self.directory}: the index does not say which id ends a document; {mend}")
        eos = self.tokenizer.eos if eos is None else eos
        if by_megatron:
            _check_ends(contents, eos)
        return eos

    @functools.cached_property
    def bytes_per_token(self) -> float:
        """Of a few windows, because token files do not say how long their text is."""
        split = "validation" if self.windows["validation"] else "train"
        chosen = np.linspace(0, self.windows[split] - 1, SAMPLE_WINDOWS).astype(int).tolist()
        return max(float(self.tokenizer.token_bytes[self.window_reader(split)(chosen)].mean()), 1e-9)

    def window_reader(self, split: str) -> Callable[[list[int]], np.ndarray]:
        """read(windows) -> int32[len(windows), seq_len + 1]. Raises DamagedError where a file is not as indexed, and
        Preempted where a store stays down."""
        return functools.partial(self.files.read, split)


def _check_ends(contents: Index, eos: int) -> None:
    """Raise InputError where one of the first documents of one of Megatron's files does not end with `eos`."""
    storages = Storages(index.MEND)
    for entry, file in zip(contents.entries, contents.checked_files(storages), strict=True):
        if entry.format != "megatron":
            continue
        path, dtype = contents.path(entry), np.dtype(entry.dtype).newbyteorder("<")
        ends = Megatron.open(path.with_suffix(".idx"), storages).first_document_ends(DOCUMENTS_CHECKED)
        places = (entry.start + (ends - 1) * dtype.itemsize).tolist()
        for place, last in zip(places, blocks.read([(file, at, at + dtype.itemsize) for at in places]), strict=True):
            if (token := int(np.frombuffer(last, dtype)[0])) != eos:
                reason = f"a document ends with the id {token}, not with {eos}"
                raise InputError(
                    f"{path}: byte {place:,}: {reason}, so data.mask_documents cannot tell where it ends; write the "
                    "file with --append-eod, or leave data.mask_documents out"
                )


def build(
    data: Data, seq_len: int, root, progress: bool = True, distributions: Iterable[str] | None = None
) -> TokenSource:
    """The token files that data.text names, which must have an index. Only the tokenizer is written, to `root`: runs
    find it there. Raises InputError, also where data.corpus is set and the index has another hash."""
    opened = find(data.text, data.corpus, data.tokenizer, seq_len)
    tokenizer = opened.tokenizer
    path = tokenizer_folder(epath.Path(root), tokenizer.hash) / tokenizers.FILE
    if not path.exists() or path.read_text(encoding="utf-8") != tokenizer.definition:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, tokenizer.definition)
    return opened


def find(text: Iterable[str], corpus: str, tokenizer: str, seq_len: int) -> TokenSource:
    """The token files that a source names; nothing is written. corpus: the hash that their index must have, or ""."""
    opened = _open(text, seq_len, tokenizers.load(tokenizer))
    if corpus not in ("", opened.hash):
        reason = f"data.corpus = {corpus!r}, but the index of the token files is now {opened.hash!r}"
        raise InputError(f"{reason}: restore the files and the index, or set data.corpus to the new hash")
    return opened


def tokenizer_folder(root, tokenizer_hash: str):
    """Where `build` keeps the tokenizer of token files."""
    return root / "tokenizers" / tokenizer_hash


def open_source(directory, seq_len: int, tokenizer_dir) -> TokenSource:
    """directory: of the index. tokenizer_dir: of the run's tokenizer. Raises InputError."""
    return _open([str(directory)], seq_len, tokenizers.load(tokenizer_dir))


def _open(paths: Iterable[str], seq_len: int, tokenizer: Tokenizer) -> TokenSource:
    contents = _contents(paths)
    if contents is not None and contents.tokenizer_hash not in ("", tokenizer.hash):
        raise InputError(
            f"{contents.folder}: made with the tokenizer {contents.tokenizer_hash}, but data.tokenizer is "
            f"{tokenizer.hash}; set data.tokenizer={contents.folder / index.TOKENIZER}"
        )
    return TokenSource(open_token_files(paths, seq_len, vocab_size=tokenizer.vocab_size), tokenizer)


def _contents(paths: Iterable[str]) -> Index | None:
    folder = index.locate(paths)
    return None if folder is None else index.read(folder)


def _windows(contents: Index, split: str, seq_len: int) -> int:
    return max(0, (contents.total("tokens", split) - 1) // seq_len)


def train_tokens(source: Source, seq_len: int) -> int | None:
    """Of the windows of the train split, from the index; None where there is none, or it is damaged."""
    try:
        contents = _contents(source.text)
    except (InputError, OSError):
        return None
    return (contents and _windows(contents, "train", seq_len) * seq_len) or None


def notes(source: Source, seq_len: int, tokenizer: str) -> list[str]:
    """What a user should know of a source before it is trained on, a line each. tokenizer: data.tokenizer."""
    where = f"source {source.name}"
    try:
        contents = _contents(source.text)
    except (InputError, OSError) as error:
        return [f"{where}: {error}"]
    if contents is None:
        return [f"{where}: its token files have no index; make it: `ladder data index {' '.join(source.text)}`"]
    lines = []
    if not contents.tokenizer_hash:
        reason = f"its index names no tokenizer, so nothing shows that its tokens were made with {tokenizer}"
        lines.append(f"{where}: {reason}; `ladder data index --tokenizer FILE` makes it sure")
    if not _windows(contents, "validation", seq_len):
        reason = f"no window of {seq_len + 1:,} tokens is held out, so it has no task validation/{source.name}"
        lines.append(f"{where}: {reason}, and `validation` is the mean of the other sources")
    return lines
