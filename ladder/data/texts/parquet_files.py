"""Read documents from Parquet files, as Hugging Face and many teams store text: a row is a document."""

from collections.abc import Iterator

from ladder.data.texts.utf8 import encoded
from ladder.errors import InputError

MAGIC = b"PAR1"  # the first and the last bytes of a file
ROWS = 1024  # read at a time


def is_one(file) -> bool:
    head = file.read(len(MAGIC))
    file.seek(0)
    return head == MAGIC


def documents(file, path, field: str) -> Iterator[bytes | None]:
    """The texts in the column `field`, in order; None where a row has none. Raises InputError with file and row."""
    import pyarrow
    from pyarrow import parquet

    row = 0
    try:
        opened = parquet.ParquetFile(file)
        columns = opened.schema_arrow
        if field not in columns.names:
            has = ", ".join(columns.names)
            raise InputError(f"{path}: no column {field!r} (it has: {has}); name the field: data.field=NAME")
        kind = columns.field(field).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise InputError(f"{path}: the column {field!r} holds {kind}, not texts; name another: data.field=NAME")
        for batch in opened.iter_batches(ROWS, columns=[field]):
            for text in batch.column(0).to_pylist():
                row += 1
                yield None if text is None else encoded(text, f"{path}: row {row}")
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of what was read
            raise
        raise InputError(f"{path}: row {row + 1}: the Parquet file is damaged or truncated") from None
