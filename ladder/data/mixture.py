"""Which source a window position of training takes: a pure function of the shares and the position, without state.

The sequence of sources is Tijdeman's schedule ("The chairman assignment problem", 1980): at each position, among the
sources whose share is due, the one with the earliest deadline. In the first n positions, for every n, each source was
taken its share of n times to within one; so in any n positions in a row to within two. A shorter run reads a prefix of
what a longer one reads.
"""

import heapq
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ladder.data_config import POSITIONS


class Mixture:
    """The order in which sources are read. It repeats after POSITIONS positions, of which source i takes shares[i];
    the shares sum to POSITIONS.

    table: the source of each of the first POSITIONS positions; rank: how many earlier ones took the same source.
    """

    def __init__(self, shares: Sequence[int]):
        if min(shares) < 0 or sum(shares) != POSITIONS:
            raise ValueError(f"shares {shares} are negative or do not sum to {POSITIONS}")
        self.shares = np.array(shares, np.int64)
        self.table, self.rank = _tables(tuple(map(int, shares)))

    def locate(self, positions) -> tuple[np.ndarray, np.ndarray]:
        """(source, index) of each position: the position takes the index-th window of the source's own order."""
        periods, at = np.divmod(np.asarray(positions, np.int64), POSITIONS)
        sources = self.table[at]
        return sources, periods * self.shares[sources] + self.rank[at]

    def taken(self, position: int) -> np.ndarray:
        """How many of the positions before `position` took each source."""
        periods, at = divmod(position, POSITIONS)
        return periods * self.shares + np.bincount(self.table[:at], minlength=len(self.shares))


class Order:
    """Mixtures one after the other. A source goes on where the mixture before stopped, so no window is read again
    before all others of its epoch. phases: (first position, shares) in order, the first from position 0."""

    def __init__(self, phases: Sequence[tuple[int, Sequence[int]]]):
        self.starts = np.array([start for start, _ in phases], np.int64)
        self.mixtures = [Mixture(shares) for _, shares in phases]
        lengths = np.diff(self.starts).tolist()
        taken = [mixture.taken(length) for mixture, length in zip(self.mixtures, lengths, strict=False)]
        self.taken_before = np.cumsum([np.zeros_like(self.mixtures[0].shares), *taken], axis=0)

    def locate(self, positions) -> tuple[np.ndarray, np.ndarray]:
        """As Mixture.locate."""
        positions = np.asarray(positions, np.int64)
        sources, indices = np.zeros_like(positions), np.zeros_like(positions)
        phases = np.searchsorted(self.starts, positions, side="right") - 1
        for phase in np.unique(phases):
            inside = phases == phase
            sources[inside], index = self.mixtures[phase].locate(positions[inside] - self.starts[phase])
            indices[inside] = index + self.taken_before[phase, sources[inside]]
        return sources, indices

    def taken(self, position: int) -> np.ndarray:
        """As Mixture.taken."""
        phase = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.taken_before[phase] + self.mixtures[phase].taken(position - int(self.starts[phase]))


@lru_cache(maxsize=16)
def _tables(shares: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(table, rank) by the earliest deadline. Turn j of a source with share c of T, one of k sources, is due from
    position (j + e) T/c on and must be done by (j + 1 - e) T/c, where e = 1 / (2k - 2) (positions count from 1)."""
    table, rank = np.zeros(POSITIONS, np.int16), np.arange(POSITIONS, dtype=np.int32)
    if max(shares) == POSITIONS:
        table[:] = shares.index(POSITIONS)
        return table, rank
    m = 2 * sum(share > 0 for share in shares) - 2
    sources = np.repeat(np.arange(len(shares)), shares)
    turns = np.concatenate([np.arange(share) for share in shares])
    of_source = np.array(shares)[sources] * m
    due = -(-POSITIONS * (m * turns + 1) // of_source)  # rounded up, in whole numbers: the same on every machine
    deadline = POSITIONS * (m * turns + m - 1) / of_source  # one correctly rounded division: that too
    by_due, waiting, following = np.argsort(due, kind="stable"), [], 0
    due, deadline = due[by_due].tolist(), deadline[by_due].tolist()
    sources, turns = sources[by_due].tolist(), turns[by_due].tolist()
    for position in range(POSITIONS):
        while following < POSITIONS and due[following] <= position + 1:
            heapq.heappush(waiting, (deadline[following], sources[following], turns[following]))
            following += 1
        _, table[position], rank[position] = heapq.heappop(waiting)
    return table, rank
