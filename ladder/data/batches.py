"""Batches as a pure function of (sources, weights, seed, step, rows), without iterator state that must be saved.

Row b of step s is position s * B + b of training. The mixture (mixture.py) says which source a position takes, and how
many windows of that source were taken before: index p of a source is window order[p] of its split. `order` is a
permutation of the split in each epoch, and a different one in every epoch. A process reads only the rows of its own
devices, so a step's batch does not depend on the number of processes.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import grain
import numpy as np

from ladder.data.mixture import Mixture, Order
from ladder.data.windows import Windows


class Batches:
    """batches(step) -> {"tokens": int32[R, L+1]}: the given `rows` of the step's global batch (default: all)."""

    def __init__(
        self,
        corpora: Windows | Sequence[Windows],
        split: str,
        batch_sequences: int,
        seed: int,
        rows: Sequence[int] | None = None,
        mixture: Mixture | Order | None = None,
    ):
        """corpora: of one source, or of all sources of `mixture` in order."""
        corpora = corpora if isinstance(corpora, Sequence) else [corpora]
        self.batch_sequences, self.mixture = batch_sequences, mixture
        self.sources = [_Source(corpus, split, seed, i) for i, corpus in enumerate(corpora)]
        self._rows = np.asarray(range(batch_sequences) if rows is None else rows, np.int64)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        positions = step * self.batch_sequences + self._rows
        if self.mixture is None:
            return {"tokens": self.sources[0].read(positions)}
        of_row, indices = self.mixture.locate(positions)
        tokens = np.empty((len(positions), self.sources[0].corpus.seq_len + 1), np.int32)
        for i, source in enumerate(self.sources):
            tokens[of_row == i] = source.read(indices[of_row == i])
        return {"tokens": tokens}

    def epochs(self, step: int) -> list[float]:
        """Passes over the split of each source before `step` begins; above 1, its text is repeated."""
        position = step * self.batch_sequences
        taken = [position] if self.mixture is None else self.mixture.taken(position).tolist()
        return [n / source.windows for n, source in zip(taken, self.sources, strict=True)]


class _Source:
    """The windows of a split of one source, in the order in which training reads them."""

    def __init__(self, corpus: Windows, split: str, seed: int, number: int):
        self.corpus, self.split, self.seed, self.number = corpus, split, seed, number
        self.windows = corpus.windows[split]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """int32[len(indices), L+1]"""
        return self._read([self._order[index] for index in indices.tolist()])

    @cached_property
    def _order(self) -> grain.MapDataset:
        # grain shuffles epoch e with seed + e. Unhashed, epoch 1 of a seed would be epoch 0 of the next seed.
        words = [self.seed, 0x6C6164, *([self.number] if self.number else [])]  # source 0 is read as if it were alone
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        return grain.MapDataset.range(self.windows).shuffle(seed=seed).repeat()

    @cached_property
    def _read(self) -> Callable[[list[int]], np.ndarray]:
        return self.corpus.window_reader(self.split)


def validation(corpus: Windows, tokens: int) -> np.ndarray:
    """int32[W, L+1]: the first windows of the validation split in order, with `tokens` targets, rounded down.

    At least one window, at most the split.
    """
    windows = min(max(1, tokens // corpus.seq_len), corpus.windows["validation"])
    return corpus.window_reader("validation")(list(range(windows)))


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
