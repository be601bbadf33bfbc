"""Colours, fonts, size and number labels of all figures."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fitting.report.numbers import si

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ec"
TARGET, INSIDE, OUTSIDE, STAR = "#d1495b", "#2a7f62", "#d1495b", "#f2b134"
# From the smallest size to the largest: light to dark in similar hues, legible on white.
SIZES = matplotlib.colors.LinearSegmentedColormap.from_list("sizes", ["#7cc6d6", "#3a86b7", "#27408b", "#170f4d"])
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#b8c0c8",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "ladder",
}


def style():
    """Context in which figures are drawn and saved."""
    return matplotlib.rc_context(STYLE)


@contextmanager
def new_figure(width: float, height: float, font_size: float = STYLE["font.size"]) -> Iterator[Figure]:
    """An empty figure, sizes in inches, in the context in which it is drawn."""
    with matplotlib.rc_context(STYLE | {"font.size": font_size}):
        yield Figure(figsize=(width, height), layout="constrained")


def si_ticks(axis) -> None:
    """Label the major ticks of an x or y axis as 10k, 1M; leave the minor ones without labels."""
    axis.set_major_formatter(lambda value, _: si(value))
    axis.set_minor_formatter(NullFormatter())


def few_ticks(axis) -> None:
    """`si_ticks` at 1, 2 and 5 of each decade, for a logarithmic axis over one or two decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    si_ticks(axis)
