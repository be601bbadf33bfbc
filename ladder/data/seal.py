"""The seal of a corpus: the hash of every file, written when it is built, compared when it is opened.

`FILES.json` holds the hashes. Hashing takes about a second for each gigabyte, so the shards, whose records have hashes
of their own (records.py), are not hashed then: `check` compares their sizes, and each record is checked when it is
read.
`VERIFIED.json`, beside it, remembers the size and the times of each other file whose hash was right: `check` hashes a
file again only where these have changed. Shards of earlier versions have no such records, and are hashed as well.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator

from etils import epath

from ladder.errors import InputError
from ladder.rundir.files import SCHEMA_VERSION, Entry, entries_under, is_local, read_sealed, sealed, write_atomic

# {"files": {name: sha256}} of every other file, and {"sizes": {name: bytes}} of those whose records have hashes.
SEAL = "FILES.json"
CARD = "card.json"
UNFINISHED_CARD = "card.part"
VERIFIED = "VERIFIED.json"  # {"files": {name: [sha256, size, mtime, ctime]}} of files that had the right hash
CHUNK = 1 << 20
CHANGED = "not the file that was built (its hash differs)"
RESIZED = "not the file that was built (it has {:,} bytes, and had {:,})"


def write(directory, texts: dict[str, str] | None = None, with_records: str | None = None) -> None:
    """Write FILES.json, unless it exists. texts: name and content of files that will be added afterwards.

    with_records: what stands in the names of the files whose records have hashes of their own.
    """
    directory = epath.Path(directory)
    if not is_sealed(directory):
        entries = content(directory)
        value = {"files": {name: sha256(chunks(entry.path)) for name, entry in entries.items()}}
        value["files"] |= {name: sha256([text.encode()]) for name, text in (texts or {}).items()}
        if with_records:
            value["sizes"] = {name: entry.size for name, entry in entries.items() if with_records in name}
        write_atomic(directory / SEAL, sealed(value))


def is_sealed(directory) -> bool:
    """Whether the corpus has a FILES.json. Corpora of earlier versions may have none; they cannot be checked."""
    return (epath.Path(directory) / SEAL).exists()


def checks_records(directory) -> bool:
    """Whether the shards of the corpus are checked record by record, so that opening it does not read them."""
    return is_sealed(directory) and bool(_read(directory)[1])


def check(directory, within: str = "", mend: str | None = None) -> None:
    """Raise InputError for the first file that is missing, was added, or is not the file that was built.

    A corpus without a FILES.json is not checked, unless its card says that it had one. Neither is one in an object
    store: `staging.stage` checks the copy. within: check only files whose name starts with this. mend: what to do.
    """
    directory = epath.Path(directory)
    mend = mend or how_to_mend(directory)
    if not is_sealed(directory):
        if _was_sealed(directory):
            raise InputError(f"{directory / SEAL}: missing, so the corpus cannot be checked; {mend}")
        return
    if not is_local(directory):
        return
    (hashes, sizes), before = _read(directory, mend), _read_verified(directory)
    verified = dict(before)
    for problem in _problems(directory, hashes, within, verified, sizes):
        raise InputError(f"{problem}; {mend}")
    if verified != before:
        _write_verified(directory, {name: state for name, state in verified.items() if name in hashes})


def verify(directory) -> list[str]:
    """Hash every file of a corpus, in an object store too; a line for each that is not as it was built.

    A corpus without a FILES.json (see `is_sealed`) has no problem, unless its card says that it had one.
    """
    directory = epath.Path(directory)
    if not is_sealed(directory):
        return [f"{directory / SEAL}: missing, so the corpus cannot be checked"] if _was_sealed(directory) else []
    try:
        return list(_problems(directory, read(directory)))
    except InputError as error:  # FILES.json itself
        return [str(error)]


def verify_file(directory, name: str) -> list[str]:
    """As `verify`, of one file. Raises OSError where it cannot be read."""
    expected, path = read(directory).get(name), epath.Path(directory) / name
    try:
        return [] if expected in (None, sha256(chunks(path))) else [f"{path}: {CHANGED}"]
    except FileNotFoundError:
        return [f"{path}: missing; it is a file of the corpus that was built"]


def read(directory, mend: str | None = None) -> dict[str, str]:
    """{name: sha256} of FILES.json. Raises InputError where it is damaged."""
    return _read(directory, mend)[0]


def _read(directory, mend: str | None = None) -> tuple[dict[str, str], dict[str, int]]:
    """The hashes and the sizes of FILES.json."""
    path = epath.Path(directory) / SEAL
    more = f"; {mend}" if mend else ""
    try:
        value = read_sealed(path)
        hashes, sizes = value.get("files"), value.get("sizes", {})
    except InputError as error:
        raise InputError(f"{error}{more}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}){more}") from None
    if not isinstance(hashes, dict) or CARD not in hashes or not isinstance(sizes, dict):
        raise InputError(f"{path}: damaged: it does not hold the hashes of a corpus{more}")
    return hashes, sizes


def content(directory) -> dict[str, Entry]:
    """{name: Entry} of the files of a corpus, without FILES.json, VERIFIED.json and what a killed process left."""
    return {
        name: entry
        for name, entry in entries_under(directory).items()
        if name not in (SEAL, VERIFIED, UNFINISHED_CARD) and not name.endswith(".tmp")
    }


def how_to_mend(directory) -> str:
    return f"delete {directory} and build the corpus again, with `ladder data build` or the command that built it"


def chunks(path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time: a shard need not fit into memory."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _problems(
    directory, hashes: dict, within: str = "", verified: dict | None = None, sizes: dict | None = None
) -> Iterator[str]:
    """A line for each difference between the files and `hashes`, the cheap ones first.

    verified: files that it lists in their present state are not hashed; those whose hash is right are added to it.
    sizes: of the files that are not hashed.
    """
    entries, sizes = content(directory), sizes or {}
    names = {name for name in hashes.keys() | entries.keys() if name.startswith(within)}
    for name in sorted(names - entries.keys()):
        yield f"{directory / name}: missing; it is a file of the corpus that was built"
    for name in sorted(names - hashes.keys()):
        yield f"{directory / name}: not a file that was built; it was added later"
    present = names & entries.keys() & hashes.keys()
    for name in sorted(present & sizes.keys()):
        if entries[name].size != sizes[name]:
            yield f"{entries[name].path}: {RESIZED.format(entries[name].size, sizes[name])}"
    for name in sorted(present - sizes.keys()):
        path = entries[name].path
        try:
            state = None if verified is None else _state(path, hashes[name])
            if state is None or verified.get(name) != state:
                if sha256(chunks(path)) != hashes[name]:
                    yield f"{path}: {CHANGED}"
                elif state is not None:
                    verified[name] = state
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror})"


def _state(path, expected: str) -> list:
    """What `check` compares instead of a hash. Any write changes the ctime, even one that restores the mtime."""
    stat = os.stat(path)
    return [expected, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read_verified(directory) -> dict:
    """The files of VERIFIED.json; none where it is absent or damaged."""
    try:
        value = read_sealed(directory / VERIFIED)
    except (InputError, OSError):
        return {}
    files = value.get("files") if value.get("schema_version") == SCHEMA_VERSION else None
    return files if isinstance(files, dict) else {}


def _write_verified(directory, files: dict) -> None:
    with contextlib.suppress(OSError):  # a folder that cannot be written: the next `check` hashes everything again
        write_atomic(directory / VERIFIED, sealed({"files": files}), durable=False)


def _was_sealed(directory) -> bool:
    """Whether the card says that a FILES.json was written with it."""
    try:
        card = json.loads((directory / CARD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(card, dict) and card.get("sealed") is True
