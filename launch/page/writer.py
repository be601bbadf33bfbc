"""The page of a ladder, written to a file again and again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fitting import files
from fitting.errors import InputError as FitInputError
from ladder.errors import InputError
from launch.page import content, document
from launch.scheduler.loop import Round
from launch.scheduler.status import Status


class Page:
    """A page beside a ladder's folder.

    title: of the page. targets: as `forecasts.Forecaster` takes them. every: seconds between two writings. Raises
    InputError where `path` cannot be written.
    """

    def __init__(self, folder, path: Path, title: str, *, every: float = 10.0, targets=None):
        files.check_writable(path)
        self.path, self._every = path, every
        self._reader = content.Reader(folder, title, targets)
        self._runs: dict[str, Status] = {}
        self._states: dict[str, str] = {}
        self._written = -float("inf")

    def write(
        self,
        runs: Sequence[Status],
        states: Mapping[str, str] | None = None,
        again: bool = False,
        links: Mapping[str, str] | None = None,
    ) -> None:
        """Write the page, whole or not at all. runs, states: as `status.table` takes them. again: it will be written
        again, so an open one loads itself again. links: {text: a file beside the page}."""
        read = self._reader.read(runs, states, self._every if again else None)
        with files.replaced(self.path) as part:
            part.write_text(document.html(replace(read, links=links or {})), encoding="utf-8")

    def follow(self, round_: Round, say: Callable[[str], None], more: bool = False) -> None:
        """Write the page if it is due: every so many seconds, and when the jobs are settled. It keeps the runs of
        earlier rounds. more: rounds of other jobs may come. What stands in the way is said, and ends nothing: a ladder
        does not stop because its page cannot be written."""
        self._runs |= round_.runs
        self._states |= round_.states
        if time.monotonic() - self._written < self._every and not round_.settled:
            return
        try:
            self.write([*self._runs.values()], self._states, again=more or not round_.settled)
        except (InputError, FitInputError, OSError) as error:
            say(f"{self.path}: not written this time ({error})")
        self._written = time.monotonic()

    def finish(self, links: Mapping[str, str]) -> None:
        """Write the page for the last time, from the runs of the latest round."""
        self.write([*self._runs.values()], self._states, links=links)
