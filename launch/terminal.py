"""Terminal output for people (console, progress, sizes, durations), and JSON files for programs."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import table
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from fitting import files

LEAST_TEXT = 12  # characters of a column of text that wraps


class Table(table.Table):
    """A table whose cells are whole: where the terminal is too narrow, it leaves out columns and says which.

    drop: the headings that go first, in this order; after them goes the rightmost column. The first column stays.
    """

    def __init__(self, *headers: str, drop: Sequence[str] = (), **options):
        super().__init__(*headers, title_justify="left", caption_justify="left", **options)
        self.drop = drop

    def __rich_console__(self, console, options):
        columns, caption, dropped = self.columns, self.caption, []
        order = [column for name in self.drop for column in columns if str(column.header) == name]
        order += [column for column in reversed(columns[1:]) if column not in order]
        needed = {id(column): _least_width(column, console, options) for column in columns}
        while sum(needed.values()) + 1 > options.max_width and order:
            dropped.append(order.pop(0))
            del needed[id(dropped[-1])]
        if not dropped:
            yield from super().__rich_console__(console, options)
            return
        names = ", ".join(str(column.header) for column in columns if column in dropped)
        note = f"no room for: {names}; a wider terminal or a pipe shows all"
        self.columns = [column for column in columns if column not in dropped]
        self.caption = "\n".join([*([str(caption)] if caption else []), note])
        try:
            yield from super().__rich_console__(console, options)
        finally:
            self.columns, self.caption = columns, caption


def _least_width(column: table.Column, console: Console, options) -> int:
    """Characters that a column needs, with its padding and its border; a column of text that wraps needs few."""
    wide = options.update(width=10_000)
    width = max(Measurement.get(console, wide, cell).maximum for cell in (column.header, column.footer, *column.cells))
    return (width if column.no_wrap else min(width, LEAST_TEXT)) + 3


def console() -> Console:
    """Standard output; 160 columns wide, which the tables need, where it is a pipe or a file.

    Square brackets are text, not markup: names of users may hold them. What is coloured is a rich.text.Text.
    """
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False, emoji=False)


def progress(*extra: ProgressColumn) -> Progress:
    """A progress line on standard error, if that is a terminal; it disappears at the end."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), *extra
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


@contextmanager
def working(description: str):
    """Show what is done, and for how long, until it is done."""
    with progress() as live:
        live.add_task(description, total=None)
        yield


def waited(items: Iterable, description: str) -> Iterator:
    """The items, each after what is shown until it is there."""
    items, end = iter(items), object()
    while True:
        with working(description):
            item = next(items, end)
        if item is end:
            return
        yield item


def size(n_bytes: float) -> str:
    """Bytes in units of 1024."""
    for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB")):
        if n_bytes >= 1024**power:
            return f"{n_bytes / 1024**power:.3g} {name}"
    return f"{n_bytes / 1024:.3g} KiB"


def duration(seconds: float) -> str:
    """8 s, 3 min 20 s, 2 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def to_json_text(value: dict) -> str:
    """JSON with a schema_version; NaN and infinite numbers become null."""
    return json.dumps({"schema_version": 1} | _finite(value), indent=2, allow_nan=False) + "\n"


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: dict) -> None:
    """Write `to_json_text` to a file, whole or not at all. Raises InputError where that is not possible."""
    with files.replaced(path) as part:
        part.write_text(to_json_text(value), encoding="utf-8")
