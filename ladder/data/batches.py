"""Batches as a pure function of (corpus, split, seed, step, rows), without iterator state that would have to be saved.

Position p of training, counted in windows from the first step, is window order[p] of the split. `order` is a
permutation of the split in each epoch, and a different one in every epoch. Row b of step s is position s * B + b. A
process reads only the rows of its own devices, so a step's batch does not depend on the number of processes.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache

import grain
import numpy as np

from ladder.data.corpus import Corpus

CACHED_RECORDS = 1024


class Batches:
    """batches(step) -> {"tokens": int32[R, L+1]}: the given `rows` of the step's global batch (default: all)."""

    def __init__(self, corpus: Corpus, split: str, batch_sequences: int, seed: int, rows: Sequence[int] | None = None):
        self.corpus, self.split, self.seed, self.batch_sequences = corpus, split, seed, batch_sequences
        self.windows = corpus.windows[split]
        self._rows = range(batch_sequences) if rows is None else rows

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        start = step * self.batch_sequences
        windows = [self._order[start + row] for row in self._rows]
        return {"tokens": _read(self._record, self.corpus, windows)}

    def epoch(self, step: int) -> float:
        """Passes over the split before `step` begins; above 1, the text is repeated."""
        return step * self.batch_sequences / self.windows

    @cached_property
    def _order(self) -> grain.MapDataset:
        # grain shuffles epoch e with seed + e. Unhashed, epoch 1 of a seed would be epoch 0 of the next seed.
        seed = int(np.random.SeedSequence([self.seed, 0x6C6164]).generate_state(1)[0])
        return grain.MapDataset.range(self.windows).shuffle(seed=seed).repeat()

    @cached_property
    def _record(self) -> Callable[[int], np.ndarray]:
        """Reads a record's tokens; the latest records stay in memory, so that a small corpus is read once."""
        return lru_cache(maxsize=CACHED_RECORDS)(self.corpus.reader(self.split))


def _read(record: Callable[[int], np.ndarray], corpus: Corpus, windows: list[int]) -> np.ndarray:
    """int32[len(windows), L+1]: window w is slot w % windows_per_record of its record."""
    length, per_record = corpus.seq_len, corpus.windows_per_record
    tokens = np.empty((len(windows), length + 1), np.int32)
    for row, w in enumerate(windows):
        start = w % per_record * length
        # One record at a time, 50 us each: __getitems__ starts threads in every call and is slower below 256 rows.
        tokens[row] = record(w // per_record)[start : start + length + 1]
    return tokens


def validation(corpus: Corpus, tokens: int) -> np.ndarray:
    """int32[W, L+1]: the first windows of the validation split in order, with `tokens` targets, rounded down.

    At least one window, at most the split.
    """
    windows = min(max(1, tokens // corpus.seq_len), corpus.windows["validation"])
    return _read(corpus.reader("validation"), corpus, list(range(windows)))


def prefetched(batches, start: int, stop: int, ahead: int = 2) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yields (step, batches(step)) for start <= step < stop; a thread reads up to `ahead` steps in advance.

    Closing or dropping the iterator ends the thread. An exception of `batches` is raised here, at the same step.
    """
    ready: queue.Queue = queue.Queue()
    slots = threading.Semaphore(ahead)
    stopped = threading.Event()

    def read() -> None:
        for step in range(start, stop):
            slots.acquire()
            if stopped.is_set():
                return
            try:
                ready.put((step, batches(step), None))
            except BaseException as error:
                ready.put((step, None, error))
                return

    thread = threading.Thread(target=read, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            step, batch, error = ready.get()
            slots.release()
            if error is not None:
                raise error
            yield step, batch
    finally:
        stopped.set()
        slots.release()
        thread.join()
