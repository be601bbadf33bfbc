"""Colours and fonts of all figures."""

import base64
import io

import matplotlib
from matplotlib.figure import Figure

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


def svg(figure: Figure) -> str:
    """A figure as a data URI that an <img> shows without any other file."""
    out = io.BytesIO()
    with style():
        figure.savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()
