"""How long the loop waits for data. A wait shorter than a step costs little: the device computes the step before."""

import time
from collections.abc import Iterator

STALL_SECONDS = 0.01


class DataWaits:
    """seconds: that the run has waited in all, earlier sittings included (`before`)."""

    def __init__(self, before: float = 0.0):
        self.seconds = before
        self._restart()

    def _restart(self) -> None:
        self._sum, self._steps, self._stalls = 0.0, 0, {}

    def next(self, prefetched: Iterator):
        """The next (step, batch)."""
        began = time.monotonic()
        step, batch = next(prefetched)
        waited = time.monotonic() - began
        self.seconds += waited
        self._sum, self._steps = self._sum + waited, self._steps + 1
        if waited >= STALL_SECONDS:
            self._stalls[str(step)] = round(waited, 3)
        return step, batch

    def take(self) -> dict:
        """Figures since the last call, for timing.jsonl: how many steps took how many seconds of waiting in all, and
        the seconds of each step that waited at least STALL_SECONDS."""
        figures = {"seconds": round(self._sum, 6), "steps": self._steps, "stalls": self._stalls}
        self._restart()
        return figures
