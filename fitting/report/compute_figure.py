"""A figure and a table of one forecast against compute: the rungs, the law of compute through the best of them, the
forecast with its interval, and what the target measures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fitting.forecasting.results import TaskForecast
from fitting.loss_laws.compute_law import ComputeLaw
from fitting.report.grid import Grid
from fitting.report.numbers import interval, optional, yes_no
from fitting.report.style import INK, MUTED, SIZES, STAR, TARGET, new_figure


def figure(C_n: Sequence[float], loss_n: Sequence[float], C: float, entry: TaskForecast, law: ComputeLaw) -> Figure:
    """C_n, loss_n: training FLOPs and bits per byte of the rungs. C: of the target. entry: its forecast."""
    C_n, loss_n = np.asarray(C_n), np.asarray(loss_n)
    with new_figure(8.6, 4.6, 10.5) as drawn:
        axes = drawn.add_subplot()
        line = np.geomspace(C_n.min(), 1.5 * C, 100)
        axes.plot(line, law.loss(line), color=MUTED, ls=(0, (4, 2)), label="law of compute, through the filled rungs")
        dots = {"ls": "", "marker": "o", "ms": 7, "mec": SIZES(0.6)}
        axes.plot(C_n[~law.best_n], loss_n[~law.best_n], mfc="white", **dots)
        axes.plot(C_n[law.best_n], loss_n[law.best_n], mfc=SIZES(0.6), label="rungs", **dots)
        low, high = entry.bpb_interval
        ends = [[entry.bpb - low], [high - entry.bpb]]
        axes.errorbar(C, entry.bpb, ends, fmt="D", color=TARGET, mec="white", ms=8, capsize=4, lw=2,
                      label="sealed forecast, 80 % interval")  # fmt: skip
        if entry.measured_bpb is not None:
            axes.plot(C, entry.measured_bpb, "*", color=STAR, mec=INK, mew=0.9, ms=17, label="measured afterwards")
        axes.set_xscale("log")
        axes.set_xlabel("training compute 6 N D, FLOPs")
        axes.set_ylabel(f"{entry.task}, bits per byte")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.legend(fontsize=9)
    return drawn


def grid(C_n: Sequence[float], C: float, entry: TaskForecast, law: ComputeLaw) -> Grid:
    """The forecast beside that of the law of compute, each with its error where the target has been measured."""
    by_law, truth = float(law.loss(C)[0]), entry.measured_bpb
    error = None if truth is None else by_law / truth - 1
    e, a, alpha = (law.params[name] for name in ("E", "A", "alpha"))
    return Grid(
        f"{entry.task} at {C / max(C_n):.0f} times the compute of the largest rung, bits per byte",
        ("forecast", "#predicted", "#80 % interval", "#measured", "#error", "inside"),
        [
            ["sealed: N and D", f"{entry.bpb:.3f}", interval(entry.bpb_interval), optional(truth),
             optional(entry.error, "+.1%"), yes_no(entry.inside)],
            ["law of compute", f"{by_law:.3f}", "", optional(truth), optional(error, "+.1%"), ""],
        ],
        (f"law of compute: {e:.3g} + {a:.3g} / C^{alpha:.3g}, through the {law.best_n.sum()} rungs that are the best of"
         " their compute",),
    )  # fmt: skip
