"""A table as text cells, built once for the terminal, a notebook and a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

VERDICTS = ("yes", "no")  # cells that are coloured


@dataclass(frozen=True)
class Grid:
    """head: headings; those of columns of numbers begin with #. rows: cells. notes: lines below the table.

    classes: a CSS class for each row of the HTML table, or nothing.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    classes: Sequence[str] = ()

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """(heading, whether the column holds numbers) of each column."""
        return [(heading.removeprefix("#"), heading.startswith("#")) for heading in self.head]

    def __str__(self) -> str:
        cells = [[heading for heading, _ in self.columns], *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, (_, is_number) in zip(row, widths, self.columns, strict=True)
            ).rstrip()
            for row in cells
        ]
        return "\n".join([*filter(None, [self.title]), lines[0], "-" * len(lines[0]), *lines[1:], *self.notes])

    def html(self) -> str:
        """A <table>, without title and notes."""
        number = ['class="n"' if is_number else "" for _, is_number in self.columns]
        top = "".join(f"<th {n}>{escape(h)}</th>" for (h, _), n in zip(self.columns, number, strict=True))
        lines = []
        for i, row in enumerate(self.rows):
            tds = "".join(f"<td {n}>{_cell(c)}</td>" for c, n in zip(row, number, strict=True))
            lines.append(f'<tr class="{self.classes[i] if self.classes else ""}">{tds}</tr>')
        return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p><b>{escape(self.title)}</b></p>{self.html()}{notes}"


def _cell(cell: str) -> str:
    return f'<span class="{cell}">{cell}</span>' if cell in VERDICTS else escape(str(cell))
