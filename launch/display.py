"""How the command shows results of fitting: tables, flags and figures."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fitting import files
from fitting.report.grid import Grid
from ladder.errors import InputError
from launch import terminal

COLOURS = {"yes": "green", "no": "red"}


def show(result) -> None:
    """Print the tables of a result of `fitting`, and its notes and flags below them."""
    tables(result.grids(), terminal.console())
    flags(result.lines())


def tables(grids: Iterable[Grid], console: Console) -> None:
    for grid in grids:
        console.print(table(grid))


def table(grid: Grid) -> terminal.Table:
    """A table of fitting for the terminal, its notes as a caption."""
    title, notes = Text(grid.title), Text("\n".join(grid.notes)) if grid.notes else None
    rich = terminal.Table(title=title, caption=notes)
    for i, (heading, is_number) in enumerate(grid.columns):
        wraps = not is_number and i > 0
        rich.add_column(Text(heading), justify="right" if is_number else "left", overflow="fold", no_wrap=not wraps)
    for row in grid.rows:
        rich.add_row(*(Text(str(cell), COLOURS.get(cell, "")) for cell in row))
    return rich


def flags(lines) -> None:
    """Print reasons not to trust a result."""
    for line in lines:
        terminal.console().print(Text(line, "yellow"))


def save(figure, path: Path) -> None:
    """Write a figure in the format of the file's name: .png, .svg, .pdf. Raises InputError."""
    from fitting.report.style import style

    with files.replaced(path) as part, style():
        try:
            figure.savefig(part, dpi=150)
        except ValueError as error:  # an unknown format
            raise InputError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
