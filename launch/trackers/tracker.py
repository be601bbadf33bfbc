"""What the trackers have in common: which interface they have, and that only one process writes to a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ladder.errors import InputError, Preempted
from ladder.rundir.files import absolute, as_path, is_local
from ladder.rundir.record import Record
from launch.trackers.batch import Batch


@dataclass(frozen=True)
class Run:
    """A run directory or a fit directory, as trackers see it. config: the content of its config.json."""

    directory: Path
    config: dict

    @classmethod
    def read(cls, directory) -> "Run":
        """Raises DamagedError where config.json is missing or damaged."""
        return cls(as_path(absolute(directory)), Record(directory).read_config())

    @property
    def run_id(self) -> str:
        return self.config["run_id"]

    @property
    def ladder(self) -> str:
        return self.config["ladder"]


class Tracker(Protocol):
    """Where metrics go. `write` is all or nothing: whatever kills the process, `last` says the truth afterwards."""

    def last(self, run: Run) -> int:
        """The last step that was written of the run; -1 if none was."""

    def write(self, run: Run, batch: Batch) -> None:
        """Write a batch that begins after `last`."""

    def page(self, fit: Run) -> None:
        """Keep the fit's report.html, where the tracker can keep a page."""

    def end(self, run: Run, state: str) -> None:
        """The run is over (state: "done", "failed" ...), and all that it published was written."""

    def close(self) -> None:
        """Nothing more is written by this process."""

    def how_to_look(self) -> str:
        """A line that says how to see what was written."""


@contextmanager
def alone_in(directory: Path, ladder: str) -> Iterator[None]:
    """Be the only process that writes this ladder to a tracker's folder, which is made. Raises InputError where it
    cannot be written to, and Preempted while another process has the lock; the system releases it however that ends."""
    if not is_local(directory):
        raise InputError(f"{directory}: trackers write to a folder of this machine only", "dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / f".{ladder}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror})", "dir") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Preempted(f"{directory}: another `ladder track` writes the ladder {ladder} there") from None
    finally:
        os.close(lock)
