"""Examples of a TFDS dataset that is prepared on this machine, read without TensorFlow."""

import re
from collections.abc import Iterator

import tensorflow_datasets as tfds

from ladder.errors import InputError

NAME = re.compile(r"tfds:([^:@]+(?::\d+\.\d+\.\d+)?)(?::([^@]+))?(?:@(.+))?")
SHAPE = "tfds:NAME[/CONFIG][:SPLIT][@DATA_DIR]"


def examples(named: str, split: str) -> Iterator[tuple[str, dict]]:
    """("NAMED, record i", example) of every record, in order; `split` where the name has none.

    Raises InputError where there is no such dataset, or not as array_record.
    """
    match = NAME.fullmatch(named)
    if match is None:
        raise InputError(f"{named!r}: write {SHAPE}")
    name, asked, data_dir = match.groups()
    try:
        source = tfds.builder(name, data_dir=data_dir).as_data_source(asked or split)
        count = len(source)
    except Exception as error:  # TFDS raises whatever its builders raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{named}: cannot be read; is it prepared, as array_record? {reason}") from None
    for start in range(0, count, 64):
        indices = range(start, min(start + 64, count))
        for i, example in zip(indices, source.__getitems__(list(indices)), strict=True):
            yield f"{named}, record {i}", example
