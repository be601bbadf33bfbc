"""Figures of fitted loss laws: pure functions from a LossFit to matplotlib figures and axes."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.loss_laws import profile
from fitting.loss_laws.allocation import Frontier, of_law
from fitting.loss_laws.loss_fit import LEVEL, LossFit
from fitting.report.numbers import si
from fitting.report.style import INK, MUTED, SIZES, TARGET, new_figure, si_ticks
from fitting.tables.loss_points import LossPoints

LABELS = {
    "N": "parameters N",
    "D": "training tokens D",
    "C": "training compute C, FLOPs",
    "C_min": "minimal compute C_min, FLOPs",
    "S": "training steps S",
    "S_min": "minimal steps S_min",
    "U": "unique tokens U",
    "T": "position of the token T",
    "B": "batch size B, tokens",
    "L": "loss L",
}
N_LINES = 6
DOTS = {"cmap": SIZES, "s": 18, "edgecolors": "white", "linewidths": 0.5, "zorder": 3}


def law(fitted: LossFit) -> Figure:
    """The points and the law through them; beside it the residual of each point."""
    with new_figure(9.6, 4.0) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        draw_law(left, fitted)
        _residuals(right, fitted)
    return figure


def draw_law(axes, fitted: LossFit) -> None:
    if len(fitted.law.features) > 1:
        return _draw_lines_of_n(axes, fitted)
    (name,) = fitted.law.features
    x_n = fitted.points.features[name]
    x_m = np.geomspace(x_n.min(), x_n.max(), 100)
    y_Rm = fitted.values({name: x_m})
    axes.fill_between(x_m, *bootstrap.interval(y_Rm[1:], LEVEL, axis=0), color=TARGET, alpha=0.18, lw=0)
    axes.plot(x_m, y_Rm[0], color=TARGET, label=fitted.law.formula)
    axes.plot(x_n, fitted.points.y_n, "o", color=SIZES(0.6), ms=4.5, mec="white", mew=0.6)
    _axes(axes, LABELS[name], fitted.points.quantity)
    axes.legend()


def _draw_lines_of_n(axes, fitted: LossFit) -> None:
    """A law of N and of other features: against the first other one, with a line for each of some N."""
    other = fitted.law.features[1]
    n_n, d_n, y_n = fitted.points.features["N"], fitted.points.features[other], fitted.points.y_n
    norm = LogNorm(n_n.min(), n_n.max())
    for n in np.geomspace(n_n.min(), n_n.max(), N_LINES):
        d_m = np.geomspace(d_n.min(), d_n.max(), 100)
        extra = {k: np.full(100, np.median(fitted.points.features[k])) for k in fitted.law.features[2:]}
        y_m = fitted.values({"N": np.full(100, n), other: d_m} | extra)[0]
        axes.plot(d_m, y_m, color=SIZES(norm(n)), lw=1.1)
    dots = axes.scatter(d_n, y_n, c=n_n, norm=norm, **DOTS)
    _colorbar(axes, dots, LABELS["N"])
    at_median = "".join(f"; lines at the median {name}" for name in fitted.law.features[2:])
    axes.set_title(fitted.law.formula + at_median, fontsize=7 if at_median else 10)
    # The law at the smallest D of the smallest N may lie far above all points.
    axes.set_ylim(y_n.min() * 0.98, y_n.max() * 1.03)
    _axes(axes, LABELS[other], fitted.points.quantity)


def _colorbar(axes, dots, label: str) -> None:
    bar = axes.figure.colorbar(dots, ax=axes, pad=0.02, label=label)
    si_ticks(bar.ax.yaxis)


def _residuals(axes, fitted: LossFit) -> None:
    features = fitted.points.features
    name = "C" if "C" in features else fitted.law.features[0]
    error_n = 100 * (fitted.points.y_n / fitted.values(features)[0] - 1)
    axes.axhline(0, color=INK, lw=0.8)
    axes.scatter(features[name], error_n, c=np.log(features.get("N", features[name])), **DOTS)
    spread = 100 * fitted.bootstrap.noise_T[0]
    axes.axhspan(-spread, spread, color=MUTED, alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel=LABELS[name], ylabel="measured above the law, %", title=f"one sd: {spread:.2g} %")


def against(fitted: LossFit) -> Figure:
    """Loss against N, D and C (Kaplan et al. 2020, figure 1), with lines of the law at fixed values of another feature.

    Raises InputError where the law is not one of N and D.
    """
    if not set("NDC") <= set(fitted.points.features) or not {"N", "D"} <= set(fitted.law.features):
        raise InputError(f"the figure against needs a law of N and D, which {fitted.law.name} is not", "figure")
    features, y_n = fitted.points.features, fitted.points.y_n
    with new_figure(12.6, 3.9) as figure:
        panels = figure.subplots(1, 3)
        for axes, (name, other) in zip(panels, (("N", "D"), ("D", "N"), ("C", "N")), strict=True):
            norm = LogNorm(features[other].min(), features[other].max())
            x_m = np.geomspace(features[name].min(), features[name].max(), 100)
            for held in np.geomspace(features[other].min(), features[other].max(), N_LINES):
                x = {name: x_m, other: np.full(100, held)}
                x = {"N": x["N"], "D": x["C"] / (6 * held)} if name == "C" else x
                extra = {k: np.full(100, np.median(v)) for k, v in features.items() if k not in "ND"}
                inside = _within(x["D"], features["D"]) & _within(x["N"], features["N"])
                line = np.where(inside, fitted.values(extra | x)[0], np.nan)
                axes.plot(x_m, line, color=SIZES(norm(held)), lw=1.0)
            dots = axes.scatter(features[name], y_n, c=features[other], norm=norm, **DOTS)
            _colorbar(axes, dots, LABELS[other])
            _axes(axes, LABELS[name], fitted.points.quantity if name == "N" else "")
            axes.set_ylim(y_n.min() * 0.98, y_n.max() * 1.03)
        if fitted.law.optimum and not fitted.law.at_critical_batch:
            best = of_law(fitted).loss_of(x_m)[0]
            panels[2].plot(x_m, best, color=TARGET, lw=1.8, label="best for its compute")
            panels[2].legend()
    return figure


def _within(x_m: np.ndarray, x_n: np.ndarray) -> np.ndarray:
    return (x_m >= 0.999 * x_n.min()) & (x_m <= 1.001 * x_n.max())


def pairs(fitted: LossFit) -> Figure:
    """Resampled parameters against each other, in pairs (after Besiroglu et al. 2024, figure 5)."""
    draws, best = fitted.bootstrap.resampled(0), fitted.bootstrap.params(0)
    logged = {k for k, v in draws.items() if v.min() > 0 and v.max() > 10 * v.min()}
    names = list(draws)
    scales = {name: "log" if name in logged else "linear" for name in names}
    with new_figure(1.9 * len(names) + 0.6, 1.8 * len(names) + 0.5) as figure:
        panels = figure.subplots(len(names), len(names), squeeze=False)
        for row, y in enumerate(names):
            for column, x in enumerate(names):
                axes = panels[row][column]
                axes.set(visible=column <= row, xscale=scales[x])
                if column == row:
                    bins = np.geomspace(draws[x].min(), draws[x].max(), 40) if x in logged else 40
                    axes.hist(draws[x], bins=bins, color=SIZES(0.35))
                    axes.axvline(best[x], color=TARGET, lw=1.2)
                    axes.set_yticks([])
                elif column < row:
                    axes.set_yscale(scales[y])
                    axes.plot(draws[x], draws[y], ".", color=SIZES(0.5), ms=3, alpha=0.4, mew=0, rasterized=True)
                    axes.plot(best[x], best[y], "*", color=TARGET, mec="white", ms=10, mew=0.6)
                axes.xaxis.set_minor_formatter(NullFormatter())
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.tick_params(labelsize=7, labelleft=column == 0 and row > 0, labelbottom=row == len(names) - 1)
            panels[row][0].set_ylabel(y if row else "")
            panels[-1][row].set_xlabel(y)
    return figure


def parameters(fitted: LossFit) -> Figure:
    """The objective over two exponents, all else refitted, and the resamples (like Hoffmann et al. 2022, figure 4)."""
    surface = profile.profile(fitted, profile.exponents(fitted))
    x_R, y_R = (fitted.bootstrap.resampled(0)[name] for name in surface.names)
    with new_figure(6.2, 4.6) as figure:
        axes = figure.add_subplot()
        draw_profile(axes, surface)
        axes.plot(x_R, y_R, ".", color="white", ms=2.5, alpha=0.5, mew=0, label="resamples")
        x_ends, y_ends = (values[[0, -1]] for values in surface.axes)
        axes.set(xlim=x_ends, ylim=y_ends, title=fitted.law.formula)
        axes.legend(facecolor=SIZES(0.9), frameon=True, framealpha=0.6, labelcolor="white", edgecolor="none")
    return figure


FIGURES = {"law": law, "against": against, "pairs": pairs, "landscape": parameters}


def allocation(frontier: Frontier, points: LossPoints | None, budgets) -> Figure:
    """Compute-optimal parameters against compute, with the runs and the given budgets; IsoFLOP parabolas beside it."""
    panels = 2 if frontier.parabolas else 1
    with new_figure(5.6 * panels + 0.8, 4.2) as figure:
        *left, axes = figure.subplots(1, panels, squeeze=False)[0]
        if left:
            _isoflops(left[0], frontier.parabolas)
        draw_allocation(axes, frontier, points, budgets)
    return figure


def draw_allocation(axes, frontier: Frontier, points: LossPoints | None, budgets) -> None:
    budgets = np.asarray(budgets, float)
    ends = [budgets.min(), budgets.max()]
    if points is not None:
        c_n, n_n = points.features["C"], points.features["N"]
        dots = axes.scatter(c_n, n_n, c=points.y_n, cmap=SIZES.reversed(), s=14, alpha=0.8, label="runs")
        axes.figure.colorbar(dots, ax=axes, pad=0.02, label=points.quantity)
        ends = [min(c_n.min(), *ends), max(c_n.max(), *ends)]
    c_m = np.geomspace(*ends, 100) if ends[0] < ends[1] else np.geomspace(ends[0] / 10, ends[1] * 10, 100)
    n_Rm = frontier.n(c_m)
    if len(n_Rm) > 1:
        axes.fill_between(c_m, *frontier.interval(n_Rm, True), color=TARGET, alpha=0.18, lw=0)
    axes.plot(c_m, n_Rm[0], color=TARGET, label=f"$N_{{opt}} \\propto C^{{{frontier.a_R[0]:.3f}}}$ (95 %)")
    if frontier.minima:
        minima = [(m["flops"], m["n_params"]) for m in frontier.minima]
        axes.plot(*zip(*minima, strict=True), "s", color=INK, ms=2.5 if len(minima) > 30 else 4, label="minima")
    axes.plot(budgets, frontier.n(budgets)[0], "D", color=TARGET, mec="white", ms=8, label="given budgets")
    title = f"approach {frontier.approach}"
    axes.set(xscale="log", yscale="log", xlabel=LABELS["C"], ylabel=LABELS["N"], title=title)
    axes.yaxis.set_major_formatter(lambda value, _: si(value))
    axes.legend(loc="upper left")


def draw_profile(axes, shape: profile.Profile) -> None:
    """By how much the objective exceeds its minimum: over one parameter a line, over two a map."""
    above = 100 * (shape.objective / shape.objective.min() - 1)
    axes.set_xlabel(shape.names[0])
    if len(shape.names) == 1:
        axes.plot(shape.axes[0], above, color=SIZES(0.6))
        top = float(np.quantile(above, 0.75))  # far from the optimum the objective is larger by orders of magnitude
        axes.set_ylim(-0.03 * top, 1.2 * top)
        axes.axvline(shape.best[0], color=TARGET, lw=1.2)
        axes.set_ylabel("objective above its minimum, %")
        return
    top = max(float(np.quantile(above, 0.9)), 1e-4)
    levels = MaxNLocator(12).tick_values(0, top)
    shades = axes.contourf(*shape.axes, above, levels, cmap=SIZES.reversed(), extend="max", alpha=0.85)
    label = "objective above its minimum"
    axes.figure.colorbar(shades, ax=axes, pad=0.02, label=label, format=lambda value, _: f"{value:.3g} %")
    axes.plot(*shape.best, "*", color=TARGET, mec="white", ms=13, label="fit")
    axes.set_ylabel(shape.names[1])
    axes.grid(False)


def _isoflops(axes, parabolas) -> None:
    """Loss against parameters at each budget, with parabolas and minima (Hoffmann et al. 2022, figure 3)."""
    for i, p in enumerate(parabolas):
        color = SIZES(i / max(len(parabolas) - 1, 1))
        x_n = p.basis[:, 1]
        x_m = np.linspace(x_n.min(), x_n.max(), 60)
        axes.plot(np.exp(p.center + x_m), np.polyval(p.q[::-1], x_m), color=color, lw=1.2)
        axes.plot(np.exp(p.center + x_n), p.y_n, "o", color=color, ms=3.5, label=f"{np.exp(p.log_c):.2g}")
        axes.plot(np.exp(p.center + p.vertex), p.least, "*", color=TARGET, ms=10, zorder=4)
    axes.set(xscale="log", xlabel=LABELS["N"], ylabel="loss")
    axes.xaxis.set_major_formatter(lambda value, _: si(value))
    axes.legend(title="FLOPs", loc="upper right", fontsize=8)


def _axes(axes, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")
    axes.tick_params(axis="y", which="minor", labelsize=7.5)
