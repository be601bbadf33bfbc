"""What training asks of a source, be it a corpus that was built from text or token files that are read in place."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ladder.data.tokenizer import Tokenizer


class Windows(Protocol):
    """Windows of seq_len + 1 tokens. hash: of the content. directory: of the corpus, or of the index of token files.

    eos: the id that ends each document; raises InputError where documents do not end with one. windows, tokens: per
    split. bytes_per_token: of the text, for token files estimated from a sample.
    """

    hash: str
    tokenizer_hash: str
    vocab_size: int
    seq_len: int
    windows: dict[str, int]
    tokens: dict[str, int]

    @property
    def bytes_per_token(self) -> float: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def eos(self) -> int: ...

    def window_reader(self, split: str) -> Callable[[list[int]], np.ndarray]:
        """read(windows) -> int32[len(windows), seq_len + 1]. Raises InputError where the files are damaged, and
        Preempted where a bucket stays down."""
        ...
