"""Batches as a pure function of (sources, weights, seed, step, rows), without iterator state that must be saved.

Row b of step s is position s * B + b of training. The mixture (mixture.py) says which source a position takes, and how
many windows of that source were taken before: index p of a source is window order[p] of its split. `order` is a
permutation of the split in each epoch, and a different one in every epoch. A run that reads a subset of a source reads
the first windows of one permutation of the split, in an order of their own. A process reads only the rows of its own
devices, so a step's batch does not depend on the number of processes.
"""

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import grain
import numpy as np

from ladder.data.mixture import Mixture, Order
from ladder.data.windows import Windows
from ladder.data_config import windows_of_subset
from ladder.rundir.kill_points import fault_point


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
        subsets: Sequence[float] = (),
    ):
        """corpora: of one source, or of all sources of `mixture` in order. subsets: the share of the windows of each
        source that is read; () is all of each."""
        corpora = corpora if isinstance(corpora, Sequence) else [corpora]
        self.batch_sequences, self.mixture = batch_sequences, mixture
        shares = subsets or [1.0] * len(corpora)
        both = zip(corpora, shares, strict=True)
        self.sources = [_Source(corpus, split, seed, i, share) for i, (corpus, share) in enumerate(both)]
        self._rows = np.asarray(range(batch_sequences) if rows is None else rows, np.int64)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        of_row, indices = self._locate(step)
        if self.mixture is None:
            return {"tokens": self.sources[0].read(indices)}
        tokens = np.empty((len(indices), self.sources[0].corpus.seq_len + 1), np.int32)
        for i, source in enumerate(self.sources):
            tokens[of_row == i] = source.read(indices[of_row == i])
        return {"tokens": tokens}

    def _locate(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each row: which source it is from, and how many windows of that source were taken before."""
        positions = step * self.batch_sequences + self._rows
        return (np.zeros_like(positions), positions) if self.mixture is None else self.mixture.locate(positions)

    def windows(self, step: int) -> list[tuple[int, int]]:
        """Of each row of a step: (which source, which of the windows of its split)."""
        of_row, indices = (array.tolist() for array in self._locate(step))
        return [(i, self.sources[i].window(index)) for i, index in zip(of_row, indices, strict=True)]

    def whole(self) -> "Batches":
        """The same batches with all rows, whatever rows this process holds."""
        whole = copy.copy(self)
        whole._rows = np.arange(self.batch_sequences)
        return whole

    def epochs(self, step: int) -> list[float]:
        """Passes over the split of each source before `step` begins; above 1, its text is repeated."""
        position = step * self.batch_sequences
        taken = [position] if self.mixture is None else self.mixture.taken(position).tolist()
        return [n / source.windows for n, source in zip(taken, self.sources, strict=True)]


class _Source:
    """The windows of a split of one source, or of a `share` of them, in the order in which training reads them."""

    def __init__(self, corpus: Windows, split: str, seed: int, number: int, share: float = 1.0):
        self.corpus, self.split, self.seed, self.number = corpus, split, seed, number
        self.windows = windows_of_subset(corpus.windows[split], share)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """int32[len(indices), L+1]"""
        return self._read([self.window(index) for index in indices.tolist()])

    def window(self, index: int) -> int:
        """The window of the split that training reads as number `index` of this source."""
        window = self._order[index]
        return int(self._subset[window] if self.windows < self.corpus.windows[self.split] else window)

    @cached_property
    def _order(self) -> grain.MapDataset:
        # grain shuffles epoch e with seed + e. Unhashed, epoch 1 of a seed would be epoch 0 of the next seed.
        return grain.MapDataset.range(self.windows).shuffle(seed=self._hashed_seed(0x6C6164)).repeat()

    @cached_property
    def _subset(self) -> grain.MapDataset:
        """All windows of the split in one order; the first `windows` of it are read."""
        seed = self._hashed_seed(0x737562)
        return grain.MapDataset.range(self.corpus.windows[self.split]).shuffle(seed=seed)

    def _hashed_seed(self, purpose: int) -> int:
        words = [self.seed, purpose, *([self.number] if self.number else [])]  # source 0 is read as if it were alone
        return int(np.random.SeedSequence(words).generate_state(1)[0])

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
                fault_point("read")
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
