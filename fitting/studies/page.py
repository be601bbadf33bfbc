"""The page of a study: statements and verdicts first, then figures, tables, and what cannot be concluded."""

from collections.abc import Sequence
from html import escape

from fitting.report import html
from fitting.report.grid import Grid
from fitting.studies.results import Study


def page(study: Study, commands: Sequence[str], facts: dict[str, str], missing: Sequence[str] = ()) -> str:
    """One self-contained HTML page. commands: that make it again. facts: of the runs. missing: a line for each run of
    the study that is not in it, with the reason."""
    parts = [f"<h1>{escape(study.title)}</h1>", f'<p class="lead">{escape(study.lead)}</p>']
    if missing:
        parts.append(f"<p><b>Missing runs: {len(missing)}.</b> They are named below; numbers are of the others.</p>")
    note = "The verdict is read from our 95 % interval; the last column says how."
    parts.append(html.section(study.table.title, study.table.html(), f'<p class="note">{note}</p>'))
    for number, (caption, figure) in enumerate(study.figures, 1):
        parts.append(
            html.section(f"Figure {number}", html.figure(figure, caption), f'<p class="caption">{escape(caption)}</p>')
        )
    parts.append(html.section("What cannot be concluded at this scale", _list(study.limits)))
    if study.notes:
        parts.append(html.section("Reasons not to trust a number", _list(study.notes)))
    parts += [html.section(grid.title, grid.html(), *_notes(grid)) for grid in study.tables if grid.rows]
    if missing:
        parts.append(html.section("Missing runs", _list(missing)))
    rows = [[name, value] for name, value in facts.items()]
    parts.append(
        html.section("How it was made", Grid("", ["", ""], rows).html(), f"<pre>{escape(chr(10).join(commands))}</pre>")
    )
    return html.page(study.title, parts)


def _notes(grid: Grid) -> list[str]:
    return [f'<p class="note">{escape(note)}</p>' for note in grid.notes]


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
