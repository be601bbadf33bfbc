"""Read the examples of a TFDS dataset that is prepared on this machine, without TensorFlow."""

import re
from collections.abc import Iterator

import tensorflow_datasets as tfds

from ladder.data.texts import utf8
from ladder.errors import InputError

NAME = re.compile(r"tfds:([^:@]+(?::\d+\.\d+\.\d+)?)(?::([^@]+))?(?:@(.+))?")
SYNTAX = "tfds:NAME[/CONFIG][:SPLIT][@DATA_DIR]"


def examples(spec: str, split: str) -> Iterator[tuple[str, dict]]:
    """Yields ("SPEC, record i", example) of every record in order. spec: as SYNTAX; `split` if it names none.

    Raises InputError if the dataset does not exist or is not prepared as array_record.
    """
    match = NAME.fullmatch(spec)
    if match is None:
        raise InputError(f"{spec!r}: write {SYNTAX}")
    name, named_split, data_dir = match.groups()
    try:
        source = tfds.builder(name, data_dir=data_dir).as_data_source(named_split or split)
        count = len(source)
    except Exception as error:  # TFDS raises whatever its builders raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{spec}: cannot be read; is it prepared, as array_record? {reason}") from None
    for start in range(0, count, 64):
        indices = range(start, min(start + 64, count))
        for i, example in zip(indices, source.__getitems__(list(indices)), strict=True):
            yield f"{spec}, record {i}", example


def documents(spec: str, field: str) -> Iterator[bytes]:
    """The texts under `field`, as UTF-8. Raises InputError where an example has none."""
    for where, example in examples(spec, "train"):
        value = example.get(field)
        if isinstance(value, bytes) and utf8.is_utf8(value):
            yield value
        elif isinstance(value, str):
            yield utf8.encoded(value, where)
        else:
            raise InputError(f"{where}: no text under {field!r} (it has: {', '.join(example)}); set data.field")
