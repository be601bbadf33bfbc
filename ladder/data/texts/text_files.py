"""Read documents from files and folders: plain text, JSON lines, JSON arrays, each also by gzip or zstd; Parquet.

What a file holds is told by its content: the first bytes say whether it is compressed and how its characters are
encoded, and JSON is recognised by a line or an array of objects with the field of the text. A name that ends in .json,
.jsonl or .ndjson promises JSON, so that a file with such a name is never read as plain text.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from itertools import chain

from etils import epath

from ladder.data.texts import parquet_files
from ladder.data.texts.utf8 import encoded
from ladder.errors import InputError

DOCUMENT_BYTES = 1 << 16  # longer plain text is split at line ends, so that even one book gives a validation split
LINE_BYTES = 1 << 28  # of a line of JSON, and of a whole JSON document
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # first bytes
# A compressed file that unpacks to more than both is no text: text shrinks to a third or a tenth.
UNPACKED_BYTES, UNPACKED_RATIO = 1 << 30, 200
JSON_NAMES = (".json", ".jsonl", ".ndjson")
UTF8_MARK = b"\xef\xbb\xbf"
# First bytes of files that are not read: what it is, and how to mend it.
REFUSED = {
    b"BZh": "compressed by bzip2; unpack it: bzip2 -d FILE",
    b"\xfd7zXZ\0": "compressed by xz; unpack it: xz -d FILE",
    b"PK\x03\x04": "a ZIP archive; unpack it: unzip FILE",
    b"\xff\xfe\0\0": "UTF-32; convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW",
    b"\xff\xfe": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
    b"\xfe\xff": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
}


def path_documents(path: epath.Path, field: str) -> Iterator[bytes | None]:
    """The documents of a file, or of all files in a folder, as `file_documents`."""
    for file in files(path):
        yield from file_documents(file, field)


def files(path: epath.Path) -> Iterator[epath.Path]:
    """A file itself; of a folder all files in it and its folders, except hidden ones, in order. Raises InputError."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if not child.name.startswith("."):
                yield from files(child)
    elif not path.is_file():
        raise InputError(f"data.text: {path}: no such file or folder")
    else:
        yield path


def file_documents(path: epath.Path, field: str) -> Iterator[bytes | None]:
    """The documents of a file. field: where JSON objects have the text.

    None: an object whose text is null, as many exports have them; the caller counts it. Raises InputError with file and
    line."""
    with path.open("rb") as file:
        if parquet_files.is_one(file):
            yield from parquet_files.documents(file, path, field)
        else:
            yield from _file_documents(_Stream(file, path), path, field)


class _Stream:
    """A file unpacked and without the mark of UTF-8. lines: how many were read so far."""

    def __init__(self, file, path: epath.Path):
        self.path, self.file, self.unpacked, self.lines = path, file, 0, 0
        head = file.read(4)
        file.seek(0)
        self.name = path.name.removesuffix(".gz").removesuffix(".zst")
        self.packed = None
        if head.startswith(GZIP) or path.name.endswith(".gz"):
            self.packed, file = "gzip", gzip.GzipFile(fileobj=file)
        elif head.startswith(ZSTD) or path.name.endswith(".zst"):
            import pyarrow

            self.packed, file = "zstd", pyarrow.CompressedInputStream(file, "zstd")
        self.reader = io.BufferedReader(file, DOCUMENT_BYTES)
        start = self._checked(lambda: self.reader.peek(64))[:64]
        for magic, what in REFUSED.items():
            if start.startswith(magic):
                raise InputError(f"{path}:1: {what}")
        if start.startswith(UTF8_MARK):
            self.reader.read(len(UTF8_MARK))
        elif len(start) > 3 and not any(start[1::2]) and all(start[::2]):
            raise InputError(f"{path}:1: UTF-16; convert it: iconv -f UTF-16LE -t UTF-8 FILE > NEW")

    def _checked(self, read) -> bytes:
        try:
            return read()
        except (EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of what was read
                raise
            where = f"{self.path}:{self.lines + 1}"
            raise InputError(f"{where}: the {self.packed} file is damaged or truncated") from None

    def peek(self) -> bytes:
        """The next bytes; at least one unless the file ends."""
        return self._checked(lambda: self.reader.peek(1))

    def read(self, size: int) -> bytes:
        return self._counted(self._checked(lambda: self.reader.read(size)))

    def line(self) -> bytes:
        """The next line, "" at the end."""
        line = self._counted(self._checked(lambda: self.reader.readline(LINE_BYTES)))
        self.lines += bool(line)
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            raise InputError(
                f"{self.path}:{self.lines}: a line of more than {LINE_BYTES >> 20} MiB; write one document a line"
            )
        return line

    def _counted(self, content: bytes) -> bytes:
        self.unpacked += len(content)
        if self.packed and self.unpacked > max(UNPACKED_BYTES, UNPACKED_RATIO * self.file.tell()):
            raise InputError(f"{self.path}: unpacks to more than {UNPACKED_RATIO} times its size; this is not text")
        return content


def _file_documents(stream: _Stream, path: epath.Path, field: str) -> Iterator[bytes | None]:
    promised = stream.name.endswith(JSON_NAMES)
    if not promised and not stream.peek().startswith(b"{"):
        yield from _plain_documents(stream, path)
        return
    first = stream.line()
    while promised and first and not first.strip():
        first = stream.line()
    if promised or _is_json_line(first, field):
        yield from _json_documents(stream, first, field, path)
    else:
        yield from _plain_documents(stream, path, first)


def _is_json_line(line: bytes, field: str) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get(field, 0), str | None)


def _plain_documents(stream: _Stream, path: epath.Path, first: bytes = b"") -> Iterator[bytes]:
    line = 1
    for piece in _pieces(stream, first):
        if b"\0" in piece:
            line += piece.count(b"\n", 0, piece.find(b"\0"))
            raise InputError(f"{path}:{line}: a binary file, not text; leave it out")
        try:
            piece.decode("utf-8")
        except UnicodeDecodeError as error:
            line += piece.count(b"\n", 0, error.start)
            raise InputError(f"{path}:{line}: {_not_utf8(error)}") from None
        line += piece.count(b"\n")
        yield piece


def _not_utf8(error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    return f"not UTF-8 (byte 0x{byte:02x}); convert it, for example: iconv -f ISO-8859-1 -t UTF-8 FILE > NEW"


def _pieces(stream: _Stream, buffer: bytes) -> Iterator[bytes]:
    """The text, cut at line ends into pieces of at most DOCUMENT_BYTES. buffer: what was read of it before."""
    while chunk := stream.read(DOCUMENT_BYTES):
        buffer += chunk
        while len(buffer) > DOCUMENT_BYTES:
            cut = buffer.rfind(b"\n", 0, DOCUMENT_BYTES) + 1 or DOCUMENT_BYTES
            while cut > DOCUMENT_BYTES - 4 and buffer[cut] & 0xC0 == 0x80:  # inside a character
                cut -= 1
            yield buffer[:cut]
            buffer = buffer[cut:]
    if buffer:
        yield buffer


def _json_documents(stream: _Stream, first: bytes, field: str, path: epath.Path) -> Iterator[bytes | None]:
    """Texts of JSON lines; or of one JSON document that is an array of objects, or one object."""
    if not first:
        return
    where, second = f"{path}:{stream.lines}", b""
    try:
        value = _parsed(first, where)
        second = stream.line() if isinstance(value, list) else b""
        is_lines = not isinstance(value, list) or second.strip()
    except InputError:
        if first.strip()[:1] not in (b"[", b"{"):
            raise
        value, is_lines = _document(first, stream), False
        if value is None:
            raise
    if not is_lines:
        for i, record in enumerate(value if isinstance(value, list) else [value], 1):
            yield _text(record, field, f"{path}: object {i}")
        return
    yield _text(value, field, where)
    for line in chain([second], iter(stream.line, b"")):
        if line.strip():
            where = f"{path}:{stream.lines}"
            yield _text(_parsed(line, where), field, where)


def _document(first: bytes, stream: _Stream) -> dict | list | None:
    """A JSON document over many lines; None where it is none, or longer than LINE_BYTES."""
    try:
        return json.loads(first + stream.read(LINE_BYTES))
    except (ValueError, RecursionError):
        return None


def _parsed(line: bytes, where: str):
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: {_not_utf8(error)}") from None
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply to be read; leave the line out") from None
    except ValueError as error:
        raise InputError(f"{where}: not a line of JSON (is the file truncated?): {error}") from None


def _text(value, field: str, where: str) -> bytes | None:
    """The text of a JSON object; None where it is null."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: no text under {field!r} (it has: {type(value).__name__}); write one object a line")
    if field not in value:
        has = ", ".join(map(str, value))
        raise InputError(f"{where}: no text under {field!r} (it has: {has}); name the field: data.field=NAME")
    text = value[field]
    if text is None:
        return None
    if not isinstance(text, str):
        kind = {list: "a list", dict: "an object", bool: "true or false"}.get(type(text), "a number")
        raise InputError(f"{where}: no text under {field!r}: it is {kind}; make it one string")
    return encoded(text, where)
