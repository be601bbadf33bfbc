"""The last screen of a demo: what was predicted, what came out, and what to try next; at most 80 columns."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fitting.report.numbers import interval, optional, yes_no
from launch import display

NEXT = (
    ("ladder demo --text my/notes", "on text of your own"),
    ("ladder predict TABLE --target 7B,4T", "from runs that you have"),
    ("ladder new my.py --target 7B,4T --budget 1%", "a ladder for your model"),
)


def show(entries: Sequence, sealed: str, page: Path, console: Console) -> None:
    """entries: TaskForecasts with what was measured. sealed: a line on the sealed forecast. page: of the report."""
    console.rule("what was predicted, and what came out", align="left")
    console.print(_table(entries))
    console.print(verdict(entries), Text(sealed), f"report: {page}", sep="\n", soft_wrap=True)
    for i, (command, what) in enumerate(NEXT):
        console.print(Text("next: " if i == 0 else " " * 6), Text(f"{command:<45}", "bold"), what, sep="")


def verdict(entries: Sequence) -> str:
    """How many intervals hold what was measured."""
    inside = [held for e in entries for held in (e.inside, e.accuracy_inside) if held is not None]
    return f"{sum(inside)} of {len(inside)} intervals of 80 % hold what was measured; one in five is meant to miss"


def _table(entries: Sequence) -> Table:
    """A row for each interval: those of the loss, below them those of accuracy."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("bits per byte", "predicted", "80 % interval", "measured", "error", "inside"):
        table.add_column(heading, justify="left" if heading in ("bits per byte", "inside") else "right", no_wrap=True)
    several = len({e.target for e in entries}) > 1
    names = [f"{e.target} {e.task}" if several else e.task for e in entries]
    for e, name in zip(entries, names, strict=True):
        if e.bpb_interval:
            _row(table, name, e.bpb, e.bpb_interval, e.measured_bpb, optional(e.error, "+.1%"), e.inside)
    with_accuracy = [(e, name) for e, name in zip(entries, names, strict=True) if e.accuracy_interval]
    if with_accuracy:
        table.add_row(Text("accuracy", "bold"))
    for e, name in with_accuracy:
        error = optional(e.accuracy_error, "+.1f", " points")
        _row(table, name, e.accuracy, e.accuracy_interval, e.measured_accuracy, error, e.accuracy_inside)
    return table


def _row(table: Table, name, predicted, ends, measured, error: str, inside: bool | None) -> None:
    cells = name, optional(predicted), interval(ends), optional(measured), error, yes_no(inside)
    table.add_row(*(Text(cell, display.COLOURS.get(cell, "")) for cell in cells))
