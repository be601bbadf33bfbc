"""What a run printed: log.txt, or log-<machine>.txt of each machine where every machine keeps its own."""

import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import as_path, is_local
from ladder.rundir.record import STOPPED, Record

_NAME = re.compile(r"log-(\d+)\.txt")


def path_of(run_dir, machine: int = 0):
    """The log of a machine. Raises InputError where there is none, and names those that there are."""
    run_dir = as_path(str(run_dir))
    numbers = {int(match[1]): path for path in run_dir.glob("log-*.txt") if (match := _NAME.fullmatch(path.name))}
    if not numbers and machine == 0 and (run_dir / "log.txt").exists():
        return run_dir / "log.txt"
    if machine in numbers:
        return numbers[machine]
    if numbers:
        raise InputError(f"{run_dir}: no log of machine {machine}; there are {', '.join(map(str, sorted(numbers)))}")
    raise InputError(f"{run_dir / 'log.txt'}: nothing logged yet (`ladder train` in a terminal prints there instead)")


def tail(run_dir: Path, lines: int, machine: int = 0) -> list[str]:
    """The last lines of a run's log."""
    with path_of(run_dir, machine).open("rb") as file:
        return [line.decode(errors="replace").rstrip("\n") for line in deque(file, maxlen=lines)]


def last(run_dir, lines: int = 1) -> str:
    """The last non-empty lines of a run's log, joined into one; "" where there are none."""
    try:
        printed = [line.strip() for line in tail(run_dir, 20) if line.strip()]
    except InputError:
        return ""
    return " | ".join(printed[-lines:])


def follow(run_dir: Path, machine: int = 0) -> Iterator[str]:
    """Text that is added to the log from now on, until the run is done or stopped."""
    record, path = Record(run_dir), path_of(run_dir, machine)
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
