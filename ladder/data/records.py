"""The records of a corpus on disk: a TFDS dataset in array_record, written once, read by position."""

import contextlib
import functools
import io
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

SHARD_BYTES = 1 << 26  # of text; TFDS holds a shard's tokens in memory while it writes it


def source(directory, split: str):
    """Random access to the records of a split of the corpus in `directory`. Raises what TFDS raises."""
    return tfds.builder_from_directory(directory / Writer.name / str(Writer.VERSION)).as_data_source(split)


class Writer(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes the records of each split in order, one shard for every 64 MB of text.

    Not a GeneratorBasedBuilder: above 1 GB that sorts on disk with TensorFlow, which nothing else here needs.
    """

    name = "ladder_corpus"
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # else TFDS looks for checksums beside this file, with a package that it does not declare

    def __init__(self, *, records: dict[str, Iterator], sizes: dict[str, int], feature: tuple, **kwargs):
        self._records, self._sizes, self._feature = records, sizes, feature
        super().__init__(file_format="array_record", **kwargs)

    def write(self) -> None:
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads
            self.download_and_prepare()

    def _info(self):
        shape, dtype = self._feature
        # As bytes: 4 times as fast as a list of integers, and no larger.
        tokens = tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"tokens": tokens}))

    def _shard_iterators_per_split(self, dl_manager):
        shards = {}
        for split, records in self._records.items():
            ends = [*range(SHARD_BYTES, self._sizes[split] - SHARD_BYTES, SHARD_BYTES), np.inf]
            shards[split] = [functools.partial(self._shard, records, end) for end in ends]
        return shards

    @staticmethod
    def _shard(records: Iterator, end: float) -> Iterator[tuple[int, dict]]:
        for i, (n_bytes, tokens) in enumerate(records):
            yield i, {"tokens": tokens}
            if n_bytes >= end:
                return
