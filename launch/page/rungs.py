"""The runs on the page: a square for each, and a table of each size."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from fitting.report.numbers import si
from launch import goodput, terminal
from launch.page import charts
from launch.scheduler.status import COLOURS, Status

MANY = 120  # runs from which on squares are small and the tables of sizes are closed
ROWS = 50  # of a table that the browser lays out at a time
_QUIET = ("running", "pending", "queued", "done")  # states whose detail (such as who trains it) is not shown
_HEAD = ("run", "state", "step", "done", "loss", "tokens/s", "left", "time")


def by_size(runs: Sequence[Status]) -> dict[str, list[Status]]:
    """Runs by size, from the smallest: of the rungs, then of targets, then fits and what cannot be read."""

    def order(run: Status) -> tuple:
        return not run.size, run.split == "target", run.n_params, run.size

    groups: dict[str, list[Status]] = {}
    for run in sorted(runs, key=order):  # stable: within a size, in the order given
        name = run.size or ("damaged" if run.state == "damaged" else "fit")
        groups.setdefault(f"{name} (target)" if run.split == "target" else name, []).append(run)
    return groups


def squares(runs: Sequence[Status]) -> str:
    """The ladder at a glance: a line for each size, a square for each run, in the colour of its state."""
    lines = []
    for size, group in by_size(runs).items():
        marks = "".join(
            f'<i class="{_colour(run.state)}" title="{escape(f"{run.run_id}: {run.state}, {run.share:.0%}")}"></i>'
            for run in group
        )
        lines.append(f"<b>{escape(size)}</b><div>{marks}</div>")
    return f'<div class="rungs{" many" if len(runs) > MANY else ""}">{"".join(lines)}</div>'


def counts(runs: Sequence[Status]) -> str:
    """How many runs are in each state."""
    n_of = {}
    for run in runs:
        n_of[run.state] = n_of.get(run.state, 0) + 1
    order = [*COLOURS, *sorted(n_of.keys() - COLOURS.keys())]
    items = [
        f'<li class="{_colour(state)}"><b>{n_of[state]:,}</b> {escape(state)}</li>' for state in order if state in n_of
    ]
    return f'<ul class="counts">{"".join(items)}</ul>'


def tables(runs: Sequence[Status], seconds: Mapping[str, Mapping[str, float]]) -> str:
    """A table for each size. Of many runs, in pieces: the browser lays out only those that are near the window."""
    blocks = []
    for size, group in by_size(runs).items():
        done = sum(run.state == "done" for run in group)
        if len(runs) <= MANY:
            text = _table(group, seconds)
        else:
            text = "".join(_piece(group, first, seconds) for first in range(0, len(group), ROWS))
        is_open = len(runs) <= MANY or any(_colour(run.state) == "red" for run in group)
        blocks.append(
            f"<details{' open' if is_open else ''}><summary><b>{escape(size)}</b>"
            f'<span class="dim">{done} of {len(group)} done</span></summary>{text}</details>'
        )
    return "".join(blocks)


def _piece(group: Sequence[Status], first: int, seconds: Mapping[str, Mapping[str, float]]) -> str:
    """ROWS runs, from the first. Its class says how long it is about, in tens of rows: until it is laid out."""
    piece = group[first : first + ROWS]
    return f'<div class="later r{math.ceil(len(piece) / 10)}">{_table(piece, seconds, first == 0)}</div>'


def _table(group: Sequence[Status], seconds: Mapping[str, Mapping[str, float]], with_head: bool = True) -> str:
    shown = _HEAD if seconds else _HEAD[:-1]
    heads = "".join(f'<th class="{_column(name)}">{name}</th>' for name in shown)
    rows = "".join(_row(run, seconds, shown) for run in group)
    head = f"<thead><tr>{heads}</tr></thead>" if with_head else ""
    columns = "".join(f'<col class="{_column(name)}">' for name in shown)
    return f'<table class="runs"><colgroup>{columns}</colgroup>{head}<tbody>{rows}</tbody></table>'


def _column(name: str) -> str:
    """The CSS classes of a column; "wide": only shown where there is room."""
    widths = {"run": "c1", "state": "c2", "step": "c3 n wide", "done": "c4 n", "loss": "c5 n", "time": "c6 wide"}
    return widths.get(name, "n wide")


def _row(run: Status, seconds: Mapping[str, Mapping[str, float]], shown: Sequence[str]) -> str:
    cells = {
        "run": f'<td class="c1">{escape(run.run_id)}</td>',
        "state": f'<td class="{_colour(run.state)}">{escape(run.state)}</td>',
        "step": _number("step", f"{run.step or 0:,} / {run.steps:,}" if run.steps else ""),
        "done": _number("done", f"{run.share:.0%}"),
        "loss": _number("loss", "" if run.loss is None else f"{run.loss:.4f}"),
        "tokens/s": _number("tokens/s", si(run.rate, 4) if run.rate and run.state == "running" else ""),
        "left": _number("left", "" if run.seconds_left is None else terminal.duration(run.seconds_left)),
        "time": f'<td class="c6 wide mini">{_time(seconds.get(run.run_id, {}))}</td>',
    }
    row, why = "".join(cells[head] for head in shown), ""
    if run.detail and run.state not in _QUIET:
        why = f'<tr><td class="why" colspan="{len(shown)}">{escape(run.detail)}</td></tr>'
    more = ' class="more"' if why else ""
    return f"<tr{more}>{row}</tr>{why}"


def _number(column: str, text: str) -> str:
    return f'<td class="{_column(column)}">{text}</td>'


def _time(seconds: Mapping[str, float]) -> str:
    total = sum(seconds.values())
    if not total:
        return ""
    says = f"{terminal.duration(total)}, {seconds['productive'] / total:.0%} productive"
    parts = [(f"p{i}", seconds[part]) for i, part in enumerate(goodput.PARTS)]
    return f'<span title="{says}">{charts.bar(parts, 100)}</span>'


def _colour(state: str) -> str:
    return COLOURS.get(state, "dim")
