"""The index of token files: the hash of each block of 64 KiB, the documents, and which of them are held out.

A folder that lies beside the files, or in another place; files and index may be on a disk or in a bucket:
    index.json       a row for each file (`Entry`), and the hash of it all; written last
    tokenizer/       tokenizer.json, where one was named
    files/NAME.hashes      8 bytes for each block of the file NAME, in order
    files/NAME.validation  int64 pairs: first token and last token + 1 of each stretch of held-out documents
    files/NAME.part.json   the row of NAME, and what it was made from: an indexing that was killed goes on with it
A .hashes file is checked like the files themselves: index.json holds the hash of each 64 KiB of it.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ladder.config import canonical_json
from ladder.data.storage.locations import Url, absolute, common_folder, disk_or_bucket, location, relative
from ladder.data.storage.ranges import AT_A_TIME, Storages
from ladder.data.storage.ranges import read as read_ranges
from ladder.data.tokens import formats
from ladder.data.tokens.blocks import BLOCK, CheckedFile, Hashes, Pages, digest, digests
from ladder.errors import DamagedError, InputError
from ladder.rundir.files import sealed, unsealed

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
INDEX = "index.json"
TOKENIZER = "tokenizer/tokenizer.json"
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

    folder: Path | Url
    root: Path | Url
    entries: tuple[Entry, ...]
    hash: str
    eos: int | None
    vocab_size: int | None
    tokenizer_hash: str
    validation: float
    least: tuple[int, int, int] | None

    def path(self, entry: Entry) -> Path | Url:
        path = self.root / entry.name
        return Path(os.path.normpath(path)) if isinstance(path, Path) else path

    def total(self, count: str, split: str) -> int:
        """Of the "documents" or the "tokens" of a split."""
        total = sum(getattr(entry, count)[split] for entry in self.entries)
        if self.least is None:
            return total
        moved = 1 if count == "documents" else self.least[2] - self.least[1]
        return total + (moved if split == "validation" else -moved)

    def held_out(self, storages: Storages) -> list[np.ndarray | DamagedError]:
        """int64[n, 2] for each file: first token and last token + 1 of its held-out stretches, ascending; an error
        where they are damaged. Read at the same time."""
        held: list = [np.empty((0, 2), np.int64)] * len(self.entries)
        stored = [i for i, entry in enumerate(self.entries) if entry.stretches]
        most = AT_A_TIME if storages.of(self.folder).over_network else 0  # from a disk one by one, so that few are open
        while stored:
            some, size = [], 0
            while stored and (not some or size < most):
                some.append(stored.pop())
                size += 16 * self.entries[some[-1]].stretches
            for i, stretches in zip(some, self._stretches([self.entries[i] for i in some], storages), strict=True):
                held[i] = stretches
        if self.least is not None:
            held[self.least[0]] = np.array([self.least[1:]], np.int64)
        return held

    def _stretches(self, entries: list[Entry], storages: Storages) -> list[np.ndarray | DamagedError]:
        paths = [part_path(self.folder, entry.name, "validation") for entry in entries]
        results: list = []
        for size, path, entry in zip(storages.sizes(paths), paths, entries, strict=True):
            if isinstance(size, OSError):
                results.append(DamagedError(f"{path}: cannot be read ({size.strerror}); {MEND}"))
            elif size != 16 * entry.stretches:
                results.append(_not_as_written(path))
            else:
                results.append(None)
        readable = [i for i, result in enumerate(results) if result is None]
        opened = [storages.of(paths[i]).open(paths[i]) for i in readable]
        ranges = [(file, 0, file.size) for file in opened]
        for i, whole, data in zip(readable, ranges, read_ranges(ranges), strict=True):
            if digest(data).hex() != entries[i].validation:
                [data] = read_ranges([whole])  # it may have arrived wrong
            intact = digest(data).hex() == entries[i].validation
            results[i] = np.frombuffer(data, "<i8").reshape(-1, 2) if intact else _not_as_written(paths[i])
        return results

    def checked_files(self, storages: Storages) -> list[CheckedFile]:
        """The file of each entry; the hashes are checked, too."""
        pages = Pages()
        files = []
        for entry in self.entries:
            path = part_path(self.folder, entry.name, "hashes")
            hashes = Hashes(path, entry.blocks, bytes.fromhex(entry.pages), storages, pages, MEND)
            files.append(CheckedFile(self.path(entry), entry.size, hashes, storages, MEND))
        return files


def _not_as_written(path) -> DamagedError:
    return DamagedError(f"{path}: not as it was written (its hash differs); {MEND}")


def part_path(folder: Path | Url, name: str, kind: str) -> Path | Url:
    """kind: "hashes", "validation" or "part.json"."""
    return folder / "files" / f"{name}.{kind}"


def default_folder(paths: Iterable, storages: Storages) -> Path | Url:
    """Where the index of `paths` lies: in the folder, beside the file, or in the common folder of several."""
    paths = [str(path) for path in paths]
    files = None
    if len(paths) == 1:
        [only] = map(location, paths)
        if isinstance(only, Path):
            is_folder = only.is_dir()
        else:
            files = formats.find(paths, storages)
            is_folder = all(file.text.startswith(f"{only}/") for file in files)
        if is_folder:
            return only / formats.FOLDER
    files = files or formats.find(paths, storages)
    if len(files) == 1:
        return files[0].with_name(f"{files[0].name}.{formats.FOLDER}")
    root = common_folder(files)
    return root / f"{formats.FOLDER}-{hash_of([relative(file, root) for file in files])[:8]}"


def locate(paths: Iterable, index=None, storages: Storages | None = None) -> Path | Url | None:
    """The folder of the index of `paths`, which may be that folder itself; None where it has not been made."""
    paths, storages = list(paths), storages or Storages(MEND)
    if index is None and len(paths) == 1 and (folder := beside(paths[0], storages)) is not None:
        return folder
    folder = location(index) if index is not None else default_folder(paths, storages)
    return folder if storages.of(folder).is_file(folder / INDEX) else None


def beside(path, storages: Storages | None = None) -> Path | Url | None:
    """The folder of an index that `path` is, or in a bucket has; without a listing."""
    path, storages = location(path), storages or Storages(MEND)
    if storages.of(path).is_file(path / INDEX) and _is_ours(path, storages):
        return path
    folders = []
    if isinstance(path, Url):
        folders = [path / formats.FOLDER]
        if not path.is_bucket:
            folders.append(path.with_name(f"{path.name}.{formats.FOLDER}"))
    return next((folder for folder in folders if storages.of(folder).is_file(folder / INDEX)), None)


def _is_ours(folder: Path | Url, storages: Storages) -> bool:
    try:
        return "blocks_of" in unsealed(storages.content(folder / INDEX), folder / INDEX)
    except (InputError, OSError):
        return formats.FOLDER in folder.name  # damaged: `read` says so


def read(folder, storages: Storages | None = None) -> Index:
    """Raises DamagedError where index.json is not as it was written."""
    folder, storages = location(folder), storages or Storages(MEND)
    try:
        return _read(folder, storages)
    except DamagedError:
        return _read(folder, storages)  # it may have arrived wrong


def _read(folder: Path | Url, storages: Storages) -> Index:
    path = folder / INDEX
    try:
        value = unsealed(storages.content(path), path)
        if value.get("blocks_of") != BLOCK or value.get("format_version") != FORMAT_VERSION:
            raise InputError(f"{path}: made by another version of ladder; make it anew with `ladder data index`")
        entries = tuple(Entry(**row) for row in value["files"])
        least = tuple(value["least"]) if value["least"] else None
        names = ("hash", "eos", "vocab_size", "tokenizer_hash", "validation")
        is_whole = "://" in value["root"] or os.path.isabs(value["root"])
        root = location(value["root"]) if is_whole else folder / value["root"]
        index = Index(folder, root, entries, least=least, **{name: value[name] for name in names})
        intact = index.hash == content_hash(entries, index.eos, least)
    except (KeyError, TypeError):
        intact = False
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); run `ladder data index` again") from None
    if not intact:
        raise DamagedError(f"{path}: damaged: its rows do not match its hash; run `ladder data index` again")
    return index


def write(index: Index, storages: Storages | None = None) -> None:
    """Write index.json, which makes the index valid. Beside the files, its root is relative: both can move."""
    value = {
        "format_version": FORMAT_VERSION,
        "blocks_of": BLOCK,
        "root": relative(index.root, index.folder) if _is_beside(index.root, index.folder) else absolute(index.root),
        "files": [asdict(entry) for entry in index.entries],
        **{name: getattr(index, name) for name in ("hash", "eos", "vocab_size", "tokenizer_hash", "validation")},
        "least": list(index.least) if index.least else None,
    }
    storages = storages or Storages()
    storages.of(index.folder).write(index.folder / INDEX, sealed(value).encode())


def _is_beside(root: Path | Url, folder: Path | Url) -> bool:
    if disk_or_bucket(root) != disk_or_bucket(folder):
        return False
    parent = Path(absolute(folder)).parent if isinstance(folder, Path) else folder.parent
    return str(common_folder([root / "x", parent / "x"])) in (absolute(root), str(parent))


def content_hash(entries: Iterable[Entry], eos: int | None, least: tuple | None) -> str:
    """16 hex digits: of the hashes of all blocks, the order of the files and the split."""
    content = {"files": [entry.content() for entry in entries], "eos": eos, "least": least, "blocks_of": BLOCK}
    return hash_of(content | {"format_version": FORMAT_VERSION})


def hash_of(value) -> str:
    """16 hex digits of the hash of plain JSON values."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def write_part(folder: Path | Url, entry: Entry, hashes: bytes, stretches: np.ndarray, made_from: dict) -> Entry:
    """Write the files of an entry, its row last; returns the entry with their hashes. made_from: see `read_part`."""
    validation = np.ascontiguousarray(stretches, "<i8").tobytes()
    pages = digests(hashes).hex()
    entry = replace(entry, pages=pages, stretches=len(stretches), validation=digest(validation).hex())
    row = sealed({"entry": asdict(entry), "made_from": made_from}).encode()
    storage = Storages().of(folder)
    for kind, data in (("hashes", hashes), ("validation", validation), ("part.json", row)):
        storage.write(part_path(folder, entry.name, kind), data)
    return entry


def read_part(folder: Path | Url, name: str) -> tuple[Entry, dict] | None:
    """The entry of a file that was indexed, and what it was made from; None where it was not, or is damaged."""
    content = Storages().content
    try:
        path = part_path(folder, name, "part.json")
        value = unsealed(content(path), path)
        entry = Entry(**value["entry"])
        hashes = content(part_path(folder, name, "hashes"))
        validation = content(part_path(folder, name, "validation"))
        made_from = value["made_from"]
    except (InputError, OSError, KeyError, TypeError):
        return None
    intact = digests(hashes).hex() == entry.pages and digest(validation).hex() == entry.validation
    return (entry, made_from) if intact and entry.name == name else None
