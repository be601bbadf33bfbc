"""How the command shows results of fitting: tables, flags and figures."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fitting.report.grid import Grid
from ladder.errors import InputError
from launch import terminal

COLOURS = {"yes": "[green]yes", "no": "[red]no"}


def show(result) -> None:
    """Print the tables of a result of `fitting`, and its notes and flags below them."""
    tables(result.grids(), terminal.console())
    flags(result.lines())


def tables(grids: Iterable[Grid], console: Console) -> None:
    for grid in grids:
        console.print(table(grid))


def table(grid: Grid) -> Table:
    """A table of fitting for the terminal, its notes as a caption."""
    rich = Table(title=grid.title, title_justify="left", caption="\n".join(grid.notes) or None, caption_justify="left")
    for i, (heading, is_number) in enumerate(grid.columns):
        wraps = not is_number and i > 0
        rich.add_column(heading, justify="right" if is_number else "left", overflow="fold", no_wrap=not wraps)
    for row in grid.rows:
        rich.add_row(*(COLOURS.get(cell, escape(str(cell))) for cell in row))
    return rich


def flags(lines) -> None:
    """Print reasons not to trust a result."""
    for line in lines:
        terminal.console().print(f"[yellow]{escape(line)}")


def save(figure, path: Path) -> None:
    """Write a figure in the format of the file's name: .png, .svg, .pdf. Raises InputError."""
    from fitting.report.style import style

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style():
            figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
