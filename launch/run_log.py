"""The log.txt of a run: everything that it printed."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import as_path, is_local
from ladder.rundir.record import STOPPED, Record


def tail(run_dir: Path, lines: int) -> list[str]:
    """The last lines of a run's log.txt."""
    path = run_dir / "log.txt"
    if not path.exists():
        raise InputError(f"{path}: nothing logged yet (`ladder train` in a terminal prints there instead)")
    with path.open("rb") as file:
        return [line.decode(errors="replace").rstrip("\n") for line in deque(file, maxlen=lines)]


def last(run_dir, lines: int = 1) -> str:
    """The last non-empty lines of a run's log.txt, joined into one; "" where there are none."""
    path = as_path(str(run_dir)) / "log.txt"
    printed = [line.strip() for line in tail(path.parent, 20) if line.strip()] if path.exists() else []
    return " | ".join(printed[-lines:])


def follow(run_dir: Path) -> Iterator[str]:
    """Text that is added to log.txt from now on, until the run is done or stopped."""
    record, path = Record(run_dir), run_dir / "log.txt"
    position = path.stat().st_size if is_local(path) else len(path.read_bytes())
    while True:
        over = record.state().name in ("done", "damaged", *STOPPED)
        with path.open("rb") as file:  # opened every time, because an object store replaces the whole file
            file.seek(position)
            text = file.read()
        position += len(text)
        if text:
            yield text.decode(errors="replace")
        if over:
            return
        time.sleep(0.5 if is_local(path) else 10.0)
