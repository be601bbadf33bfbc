"""The index of token files: the hash of each block of 64 KiB, the documents, and which of them are held out.

A folder that lies beside the files:
    index.json       a row for each file (`Entry`), and the hash of it all; written last
    tokenizer/       tokenizer.json, where one was named
    files/NAME.hashes      8 bytes for each block of the file NAME, in order
    files/NAME.validation  int64 pairs: first token and last token + 1 of each stretch of held-out documents
    files/NAME.part.json   the row of NAME, and what it was made from: an indexing that was killed goes on with it
A .hashes file is checked like the files themselves: index.json holds the hash of each 64 KiB of it.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ladder.config import canonical_json
from ladder.data.tokens import formats
from ladder.data.tokens.blocks import BLOCK, DIGEST, CheckedFile, OpenFiles, digest, digests
from ladder.errors import DamagedError, InputError
from ladder.rundir.files import read_sealed, sealed, write_atomic

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
INDEX = "index.json"
MEND = "restore the file, or make the index anew with `ladder data index`"


@dataclass(frozen=True)
class Entry:
    """What the index holds of a file.

    name: below `Index.root`. start: byte of the first token. whole: the file is held out as a whole, because it was
    named. largest: [largest id, its token]; smallest: likewise. documents, tokens: per split. pages: the hashes of the
    .hashes file's blocks, in hexadecimal. stretches, validation: number of rows of the .validation file, and its hash.
    """

    name: str
    format: str
    dtype: str
    start: int
    size: int
    whole: bool
    largest: list[int]
    smallest: list[int]
    documents: dict[str, int]
    tokens: dict[str, int]
    pages: str
    stretches: int
    validation: str

    @property
    def all_tokens(self) -> int:
        return sum(self.tokens.values())

    @property
    def blocks(self) -> int:
        return -(-self.size // BLOCK)

    def content(self) -> dict:
        """What the hash of the index covers: the bytes and the split, not the names."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "largest", "smallest")}


@dataclass(frozen=True)
class Index:
    """The content of index.json. root: the folder of the files. hash: of all files in their order, and of the split.

    least: (number of the file, first token, last token + 1) of the one document that is held out where the fraction of
    the documents that was asked for is none of them. eos, vocab_size, tokenizer_hash: None and "" where not known.
    """

    folder: Path
    root: Path
    entries: tuple[Entry, ...]
    hash: str
    eos: int | None
    vocab_size: int | None
    tokenizer_hash: str
    validation: float
    least: tuple[int, int, int] | None

    def path(self, entry: Entry) -> Path:
        return Path(os.path.normpath(self.root / entry.name))

    def total(self, count: str, split: str) -> int:
        """Of the "documents" or the "tokens" of a split."""
        total = sum(getattr(entry, count)[split] for entry in self.entries)
        if self.least is None:
            return total
        moved = 1 if count == "documents" else self.least[2] - self.least[1]
        return total + (moved if split == "validation" else -moved)

    def held_out(self, number: int) -> np.ndarray:
        """int64[n, 2]: first token and last token + 1 of the held-out stretches of file `number`, ascending."""
        if self.least is not None and self.least[0] == number:
            return np.array([self.least[1:]], np.int64)
        entry = self.entries[number]
        if not entry.stretches:
            return np.empty((0, 2), np.int64)
        path = part_path(self.folder, entry.name, "validation")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read ({error.strerror}); {MEND}") from None
        if digest(data).hex() != entry.validation:
            raise DamagedError(f"{path}: not as it was written (its hash differs); {MEND}")
        return np.frombuffer(data, "<i8").reshape(-1, 2)

    def checked_file(self, entry: Entry, files: OpenFiles) -> CheckedFile:
        """The file of an entry, each block checked at its first read, as are the hashes themselves."""
        pages = bytes.fromhex(entry.pages)
        path = part_path(self.folder, entry.name, "hashes")
        hashes = CheckedFile(
            path, DIGEST * entry.blocks, lambda first, stop: pages[DIGEST * first : DIGEST * stop], files, MEND
        )
        return CheckedFile(
            self.path(entry),
            entry.size,
            lambda first, stop: hashes.read(DIGEST * first, DIGEST * stop),
            files,
            MEND,
        )


def part_path(folder: Path, name: str, kind: str) -> Path:
    """kind: "hashes", "validation" or "part.json"."""
    return folder / "files" / f"{name}.{kind}"


def default_folder(paths: Iterable) -> Path:
    """Where the index of `paths` lies: in the folder, beside the file, or in the common folder of several."""
    paths = [str(path) for path in paths]
    if len(paths) == 1 and os.path.isdir(paths[0]):
        return Path(paths[0]) / formats.FOLDER
    files = formats.find(paths)
    if len(files) == 1:
        return files[0].with_name(f"{files[0].name}.{formats.FOLDER}")
    root = common_folder(files)
    return root / f"{formats.FOLDER}-{hash_of([os.path.relpath(file, root) for file in files])[:8]}"


def common_folder(files: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]))


def locate(paths: Iterable, index=None) -> Path | None:
    """The folder of the index of `paths`, which may be that folder itself; None where it has not been made."""
    paths = list(paths)
    if index is None and len(paths) == 1 and (Path(paths[0]) / INDEX).is_file() and _is_ours(Path(paths[0])):
        return Path(paths[0])
    folder = Path(index) if index is not None else default_folder(paths)
    return folder if (folder / INDEX).is_file() else None


def _is_ours(folder: Path) -> bool:
    try:
        return "blocks_of" in read_sealed(folder / INDEX)
    except (InputError, OSError):
        return formats.FOLDER in folder.name  # damaged: `read` says so


def read(folder) -> Index:
    """Raises DamagedError where index.json is not as it was written."""
    folder = Path(folder)
    path = folder / INDEX
    try:
        value = read_sealed(path)
        if value.get("blocks_of") != BLOCK or value.get("format_version") != FORMAT_VERSION:
            raise InputError(f"{path}: made by another version of ladder; make it anew with `ladder data index`")
        entries = tuple(Entry(**row) for row in value["files"])
        least = tuple(value["least"]) if value["least"] else None
        names = ("hash", "eos", "vocab_size", "tokenizer_hash", "validation")
        index = Index(folder, folder / value["root"], entries, least=least, **{name: value[name] for name in names})
        intact = index.hash == content_hash(entries, index.eos, least)
    except (KeyError, TypeError):
        intact = False
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); run `ladder data index` again") from None
    if not intact:
        raise DamagedError(f"{path}: damaged: its rows do not match its hash; run `ladder data index` again")
    return index


def write(index: Index) -> None:
    """Write index.json, which makes the index valid. Beside the files, its root is relative: both can move."""
    root, folder = os.path.abspath(index.root), os.path.abspath(index.folder)
    parent = os.path.dirname(folder)
    beside = os.path.commonpath([root, parent]) in (root, parent)
    value = {
        "format_version": FORMAT_VERSION,
        "blocks_of": BLOCK,
        "root": os.path.relpath(root, folder) if beside else root,
        "files": [asdict(entry) for entry in index.entries],
        **{name: getattr(index, name) for name in ("hash", "eos", "vocab_size", "tokenizer_hash", "validation")},
        "least": list(index.least) if index.least else None,
    }
    write_atomic(index.folder / INDEX, sealed(value))


def content_hash(entries: Iterable[Entry], eos: int | None, least: tuple | None) -> str:
    """16 hex digits: of the hashes of all blocks, the order of the files and the split."""
    content = {"files": [entry.content() for entry in entries], "eos": eos, "least": least, "blocks_of": BLOCK}
    return hash_of(content | {"format_version": FORMAT_VERSION})


def hash_of(value) -> str:
    """16 hex digits of the hash of plain JSON values."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def write_part(folder: Path, entry: Entry, hashes: bytes, stretches: np.ndarray, made_from: dict) -> Entry:
    """Write the files of an entry, its row last; returns the entry with their hashes. made_from: see `read_part`."""
    validation = np.ascontiguousarray(stretches, "<i8").tobytes()
    pages = digests(hashes).hex()
    entry = replace(entry, pages=pages, stretches=len(stretches), validation=digest(validation).hex())
    part_path(folder, entry.name, "x").parent.mkdir(parents=True, exist_ok=True)
    _write_bytes(part_path(folder, entry.name, "hashes"), hashes)
    _write_bytes(part_path(folder, entry.name, "validation"), validation)
    write_atomic(part_path(folder, entry.name, "part.json"), sealed({"entry": asdict(entry), "made_from": made_from}))
    return entry


def read_part(folder: Path, name: str) -> tuple[Entry, dict] | None:
    """The entry of a file that was indexed, and what it was made from; None where it was not, or is damaged."""
    try:
        value = read_sealed(part_path(folder, name, "part.json"))
        entry = Entry(**value["entry"])
        hashes = part_path(folder, name, "hashes").read_bytes()
        validation = part_path(folder, name, "validation").read_bytes()
        made_from = value["made_from"]
    except (InputError, OSError, KeyError, TypeError):
        return None
    intact = digests(hashes).hex() == entry.pages and digest(validation).hex() == entry.validation
    return (entry, made_from) if intact and entry.name == name else None


def _write_bytes(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
