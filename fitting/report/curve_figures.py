"""Figure of extrapolated learning curves."""

import math

import numpy as np
from matplotlib.figure import Figure

from fitting.loss_laws.learning_curves import Curve, End
from fitting.report.style import INK, MUTED, STAR, TARGET, new_figure, si_ticks

MAX_PANELS = 12


def ends(predicted_ends: list[End], curves: list[Curve], quantity: str) -> Figure:
    """A panel for each of the last 12 runs: the known part (dark), the rest (light), the predicted and measured end."""
    predicted_ends = predicted_ends[-MAX_PANELS:]
    columns = min(4, len(predicted_ends))
    rows = math.ceil(len(predicted_ends) / columns)
    with new_figure(2.9 * columns + 0.4, 2.5 * rows + 0.4) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, end in zip(panels, predicted_ends, strict=False):
            _panel(axes, end, curves)
        for axes in panels[len(predicted_ends) :]:
            axes.set_visible(False)
        figure.supxlabel("step", fontsize=9)
        figure.supylabel(quantity, fontsize=9)
    return figure


def _panel(axes, end: End, curves: list[Curve]) -> None:
    curve, steps = end.curve, len(end.curve.rate_s)
    parts = [(c.step_k, c.y_k, c.step_k <= curve.start) for c in curves if c.is_trunk_of(curve)]
    parts.append((curve.step_k, curve.y_k, curve.step_k > 0))
    step_k, y_k = (np.concatenate([part[i][part[2]] for part in parts]) for i in (0, 1))
    known_k = step_k <= end.known * steps
    axes.plot(step_k, y_k, color=MUTED, lw=1.1)
    axes.plot(step_k[known_k], y_k[known_k], color=INK, lw=1.8)
    axes.axvline(end.known * steps, color=MUTED, lw=0.8, ls=":")
    if curve.end is not None:
        axes.plot(steps, curve.end, "*", color=STAR, mec=INK, mew=0.6, ms=11, zorder=4)
    if end.y is not None:
        if end.interval:
            axes.plot([steps, steps], end.interval, color=TARGET, lw=5, alpha=0.3, solid_capstyle="round")
        axes.plot(steps, end.y, "D", color=TARGET, mec="white", ms=6, zorder=3)
    axes.set_xscale("log")
    si_ticks(axes.xaxis)
    shown = y_k[step_k > 0.1 * step_k.max()]
    low, high = np.nanmin([shown.min(), end.y or np.nan]), np.max(shown)
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    axes.set_title(curve.run if end.y is not None else f"{curve.run}: {end.why}", fontsize=7.5)
