"""What a run printed."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from ladder.errors import InputError
from ladder.record import STOPPED, Record


def tail(run_dir: Path, lines: int) -> list[str]:
    """The last lines of a run's log.txt."""
    path = run_dir / "log.txt"
    if not path.exists():
        raise InputError(f"{path}: nothing logged yet (`ladder train` in a terminal prints there instead)")
    with path.open(errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def last(run_dir, lines: int = 1) -> str:
    """The last things a run said, in one line, or nothing."""
    path = Path(run_dir) / "log.txt"
    said = [line.strip() for line in tail(path.parent, 20) if line.strip()] if path.exists() else []
    return " | ".join(said[-lines:])


def follow(run_dir: Path) -> Iterator[str]:
    """What is added from now on, until the run is done or stopped."""
    record = Record(run_dir)
    with (run_dir / "log.txt").open(errors="replace") as file:
        file.seek(0, 2)
        while True:
            over = record.state().name in ("done", *STOPPED)
            if text := file.read():
                yield text
            if over:
                return
            time.sleep(0.5)
