"""The held-out documents of a corpus, as text."""

import numpy as np

from ladder.data.windows import Windows

MOST_CHARACTERS = 32 * 2**20  # of text; more than enough for a million questions
WINDOWS_AT_ONCE = 256
NOT_UTF8 = "\ufffd"


def documents(corpus: Windows, most_characters: int = MOST_CHARACTERS) -> list[str]:
    """The validation documents that are whole, in the order of the corpus; the first ones, where there is more text.

    Documents whose bytes are not UTF-8 are left out. Raises InputError where the corpus is damaged, or its documents
    have no end that is known.
    """
    read, count, eos = corpus.window_reader("validation"), corpus.windows["validation"], corpus.eos
    texts, rest, n_characters = [], np.empty(0, np.int32), 0
    for first in range(0, count, WINDOWS_AT_ONCE):
        windows = read(list(range(first, min(first + WINDOWS_AT_ONCE, count))))
        tokens = np.concatenate([rest, windows[:, :-1].ravel()])  # a window ends with the first token of the next
        *whole, rest = np.split(tokens, np.flatnonzero(tokens == eos) + 1)
        decoded = [corpus.tokenizer.decode(ids[ids != eos]) for ids in whole]
        new = [text for text in decoded if text.strip() and NOT_UTF8 not in text]
        texts += new
        n_characters += sum(map(len, new))
        if n_characters >= most_characters:
            break
    return texts
