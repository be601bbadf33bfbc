"""How the command shows numbers to people and hands them to programs."""

import json
import math
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from ladder.errors import InputError


def console() -> Console:
    """Standard output; a pipe or a file gets lines wide enough for the tables."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def progress(*more: ProgressColumn) -> Progress:
    """On standard error, where that is a screen; gone when done."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), *more
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def count(n: float) -> str:
    """190.4M, 3.9T: four figures."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.4g}{name}"
    return f"{n:.4g}"


def size(n_bytes: float) -> str:
    """Bytes in units of 1024."""
    for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB")):
        if n_bytes >= 1024**power:
            return f"{n_bytes / 1024**power:.3g} {name}"
    return f"{n_bytes / 1024:.3g} KiB"


def duration(seconds: float) -> str:
    """8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def to_json_text(value: dict) -> str:
    """For programs; every file carries its schema_version, and null where a number is infinite or none."""
    return json.dumps({"schema_version": 1} | _finite(value), indent=2, allow_nan=False) + "\n"


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: dict) -> None:
    """`to_json_text` to a file. Raises InputError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json_text(value))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
