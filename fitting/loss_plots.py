"""Figures of fitted loss laws: pure functions from a LossFit to matplotlib figures."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from fitting import bootstrap
from fitting.loss_law import LEVEL, LossFit
from fitting.plots import INK, MUTED, SIZES, TARGET, si, style

LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "C": "training compute C, FLOPs",
    "C_min": "least compute C_min, FLOPs",
    "S_min": "fewest steps S_min",
    "B": "tokens of a batch B",
    "L": "loss L",
}
N_LINES = 6


def law(fitted: LossFit) -> Figure:
    """What was measured, the law through it, and how far each point lies off it."""
    with style():
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        if len(fitted.law.features) > 1:
            _against_two(figure, left, fitted)
        else:
            _against_one(left, fitted)
        _residuals(right, fitted)
    return figure


def _against_one(axes, fitted: LossFit) -> None:
    (name,) = fitted.law.features
    x_n = fitted.points.features[name]
    x_m = np.geomspace(x_n.min(), x_n.max(), 100)
    y_Rm = fitted.predict({name: x_m})
    axes.fill_between(x_m, *bootstrap.interval(y_Rm[1:], LEVEL, axis=0), color=TARGET, alpha=0.18, lw=0)
    axes.plot(x_m, y_Rm[0], color=TARGET, label=fitted.law.formula)
    axes.plot(x_n, fitted.points.y_n, "o", color=SIZES(0.6), ms=4.5, mec="white", mew=0.6)
    _axes(axes, LABELS[name], fitted.points.quantity)
    axes.legend()


def _against_two(figure, axes, fitted: LossFit) -> None:
    """A law of N and of one other feature: against that, by N."""
    other = fitted.law.features[1]
    n_n, d_n, y_n = fitted.points.features["N"], fitted.points.features[other], fitted.points.y_n
    norm = LogNorm(n_n.min(), n_n.max())
    for n in np.geomspace(n_n.min(), n_n.max(), N_LINES):
        d_m = np.geomspace(d_n.min(), d_n.max(), 100)
        y_m = fitted.predict({"N": np.full(100, n), other: d_m})[0]
        axes.plot(d_m, y_m, color=SIZES(norm(n)), lw=1.1)
    dots = axes.scatter(d_n, y_n, c=n_n, cmap=SIZES, norm=norm, s=18, edgecolors="white", linewidths=0.5, zorder=3)
    bar = figure.colorbar(dots, ax=axes, pad=0.02)
    bar.set_label(LABELS["N"])
    axes.set_title(fitted.law.formula)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: si(v)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    # A law at the smallest D of the smallest N would squeeze what was measured.
    axes.set_ylim(y_n.min() * 0.98, y_n.max() * 1.03)
    _axes(axes, LABELS[other], fitted.points.quantity)


def _residuals(axes, fitted: LossFit) -> None:
    features = fitted.points.features
    name = "C" if "C" in features else fitted.law.features[0]
    off_n = 100 * (fitted.points.y_n / fitted.predict(features)[0] - 1)
    axes.axhline(0, color=INK, lw=0.8)
    color_n = features.get("N", features[name])
    axes.scatter(
        features[name], off_n, c=np.log(color_n), cmap=SIZES, s=18, edgecolors="white", linewidths=0.5, zorder=3
    )
    spread = 100 * fitted.fit.noise_T[0]
    axes.axhspan(-spread, spread, color=MUTED, alpha=0.12, lw=0)
    axes.set_xscale("log")
    axes.set_xlabel(LABELS[name])
    axes.set_ylabel("measured above the law, %")
    axes.set_title(f"one sd: {spread:.2g} %")


def _axes(axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    axes.tick_params(axis="y", which="minor", labelsize=7.5)
