"""A file's text, whatever it is called: the kind of file is read from its first bytes, not from its name."""

import gzip
import io
import zlib

from fitting.errors import InputError

LARGEST = 2**30  # bytes that a .gz may unpack to; a table of a million rows has a tenth of this
_CHUNK = 2**22
GZIP = b"\x1f\x8b"
_WEB_PAGE = "a web page", "download the file itself (does the server ask for a login?)"
# First bytes of kinds that are not read: what they are, and how to mend it.
_OTHER_KINDS = (
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "unpack it first: zstd -d"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it first: xz -d"),
    (b"BZh", "compressed by bzip2", "unpack it first: bzip2 -d"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"PK\x03\x04", "an Excel workbook or another zip archive", "save the sheet as CSV, or unpack it first"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"PAR1", "a Parquet file", "write it as CSV: pandas.read_parquet(FILE).to_csv(OTHER, index=False)"),
    (b"ARROW1", "an Arrow file", "write it as CSV: pandas.read_feather(FILE).to_csv(OTHER, index=False)"),
    (b"\x89HDF", "an HDF5 file", "write the table as CSV"),
    (b"\x93NUMPY", "a numpy array", "write the table as CSV, with a header"),
    (b"SQLite format 3", "an SQLite database", "write the table as CSV"),
    (b"%PDF", "a PDF", "write the table as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file", "fetch the file: git lfs pull"),
    (b"<!DOCTYPE", *_WEB_PAGE),
    (b"<!doctype", *_WEB_PAGE),
    (b"<html", *_WEB_PAGE),
)
# Marks at the beginning that say how the text is encoded; that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def content(path) -> tuple[bytes, str]:
    """A file's bytes, and its text: unpacked if it is gzipped, without a mark of its encoding.

    Raises InputError, one line that says what the file is instead and how to mend it.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: not readable: {error.strerror or ' '.join(str(error).split())}") from None
    return raw, _decoded(_unpacked(raw, path) if raw.startswith(GZIP) else raw, path)


def _unpacked(raw: bytes, path) -> bytes:
    """All members of a .gz. Raises InputError if it is cut off, damaged, or larger than LARGEST."""
    parts, size = [], 0
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            while part := file.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > LARGEST:
                    raise InputError(f"{path}: the .gz unpacks to more than {LARGEST:,} bytes, the most that is read")
    except EOFError:
        raise InputError(f"{path}: not readable as text: the .gz is cut off; copy or download it again") from None
    except (OSError, zlib.error) as error:
        raise InputError(f"{path}: not readable as text: damaged .gz ({error}); copy or download it again") from None
    return b"".join(parts)


def _decoded(raw: bytes, path) -> str:
    for start, kind, remedy in _OTHER_KINDS:
        # A column may be named PAR1, but no table has bytes below a tab in its first line.
        if raw.startswith(start) and (not start.isalnum() or min(raw[:1024]) < 9):
            raise InputError(f"{path}: {kind}, not a text file; {remedy}")
    encoding = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), "utf-8-sig")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            name = encoding.upper()
            raise InputError(f"{path}: not readable as text: begins as {name} but is not; save it as UTF-8") from None
        if b"\0" in raw[:_CHUNK]:
            raise InputError(f"{path}: a binary file, not readable as text") from None
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        remedy = "is it Latin-1 or Windows-1252? save it as UTF-8"
        raise InputError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; {remedy}") from None
    if "\0" in text:
        raise InputError(f"{path}: holds zero bytes: damaged, or UTF-16 without its mark; save it as UTF-8")
    return text
