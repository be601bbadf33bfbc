"""Figures of fitted loss laws: pure functions from a LossFit to matplotlib figures."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from fitting import bootstrap
from fitting.allocation import Frontier
from fitting.loss_law import LEVEL, LossFit
from fitting.loss_points import LossPoints
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


def allocation(frontier: Frontier, points: LossPoints | None, budgets) -> Figure:
    """Compute-optimal parameters against compute, with the runs that there are and the budgets asked for."""
    budgets = np.asarray(budgets, float)
    with style():
        panels = 2 if frontier.parabolas else 1
        figure = Figure(figsize=(5.6 * panels + 0.8, 4.2), layout="constrained")
        *left, axes = figure.subplots(1, panels, squeeze=False)[0]
        if left:
            _isoflops(left[0], frontier.parabolas)
        ends = [budgets.min(), budgets.max()]
        if points is not None:
            c_n, n_n = points.features["C"], points.features["N"]
            dots = axes.scatter(c_n, n_n, c=points.y_n, cmap=SIZES.reversed(), s=14, alpha=0.8, label="runs")
            figure.colorbar(dots, ax=axes, pad=0.02).set_label(points.quantity)
            ends = [min(c_n.min(), *ends), max(c_n.max(), *ends)]
        c_m = np.geomspace(*ends, 100) if ends[0] < ends[1] else np.geomspace(ends[0] / 10, ends[1] * 10, 100)
        n_Rm = frontier.n(c_m)
        if len(n_Rm) > 1:
            axes.fill_between(c_m, *bootstrap.interval(n_Rm[1:], LEVEL, axis=0), color=TARGET, alpha=0.18, lw=0)
        axes.plot(c_m, n_Rm[0], color=TARGET, label=f"$N_{{opt}} \\propto C^{{{frontier.a_R[0]:.3f}}}$ (95 %)")
        if frontier.minima:
            at = [(m["flops"], m["n_params"]) for m in frontier.minima]
            axes.plot(*zip(*at, strict=True), "s", color=INK, ms=4, label="minima")
        axes.plot(budgets, frontier.n(budgets)[0], "D", color=TARGET, mec="white", ms=8, label="budgets asked for")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(LABELS["C"])
        axes.set_ylabel(LABELS["N"])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: si(v)))
        axes.set_title(f"approach {frontier.approach}")
        axes.legend(loc="upper left")
    return figure


def _isoflops(axes, parabolas) -> None:
    """Loss against parameters at each budget, with parabolas and minima (Hoffmann et al. 2022, figure 3)."""
    for i, p in enumerate(parabolas):
        color = SIZES(i / max(len(parabolas) - 1, 1))
        x_n = p.basis[:, 1]
        x_m = np.linspace(x_n.min(), x_n.max(), 60)
        axes.plot(np.exp(p.center + x_m), np.polyval(p.q[::-1], x_m), color=color, lw=1.2)
        axes.plot(np.exp(p.center + x_n), p.y_n, "o", color=color, ms=3.5, label=f"{np.exp(p.log_c):.2g}")
        axes.plot(np.exp(p.center + p.vertex), p.least, "*", color=TARGET, ms=10, zorder=4)
    axes.set_xscale("log")
    axes.set_xlabel(LABELS["N"])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: si(v)))
    axes.set_ylabel("loss")
    axes.legend(title="FLOPs", loc="upper right", fontsize=8)


def _axes(axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    axes.tick_params(axis="y", which="minor", labelsize=7.5)
