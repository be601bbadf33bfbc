"""Where the time of a sitting goes; every moment counts in one part. launch/goodput.py adds up those of a run."""

import time
from contextlib import contextmanager

import jax


class Spans:
    """The seconds of a sitting by part: "restart" until `training` is called, then "productive", except for what runs
    `with spans(part)` and what `compiled` takes out.

    began: when the process started, in seconds since 1970; None for now. recompilations: unexpected ones, so far.
    """

    def __init__(self, began: float | None = None):
        self.began, self.recompilations = time.time() if began is None else began, 0
        self._first, self._seconds = None, {}
        self._part, self._since = "restart", time.monotonic() - (time.time() - self.began)

    def training(self, first: int) -> None:
        """The sitting resumed from step `first`, and begins to train."""
        self._first = first
        self._enter("productive")

    @contextmanager
    def __call__(self, part: str):
        outer = self._enter(part)
        try:
            with jax.profiler.TraceAnnotation(part):  # for a profiler, if one runs
                yield
        finally:
            self._enter(outer)

    def compiled(self, seconds: float) -> None:
        """Of the part that runs now, the last `seconds` were spent on compilation."""
        self._add(self._part, -seconds)
        self._add("compile", seconds)

    @property
    def part(self) -> str:
        """The part that runs now."""
        return self._part

    def so_far(self) -> dict:
        """For heartbeat.json and timing.jsonl: "seconds" by part, which add up to the time since "began"; "first", the
        step that the sitting resumed from, None before training; "recompilations"."""
        self._enter(self._part)
        seconds = {part: round(seconds, 4) for part, seconds in self._seconds.items()}
        return {
            "began": self.began,
            "first": self._first,
            "seconds": seconds,
            "recompilations": self.recompilations,
        }

    def _enter(self, part: str) -> str:
        """Count the time until now in the part that ends; returns it."""
        now, outer = time.monotonic(), self._part
        self._add(outer, now - self._since)
        self._part, self._since = part, now
        return outer

    def _add(self, part: str, seconds: float) -> None:
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds
