"""Figures and tables of the study of size, data and compute."""

from contextlib import suppress

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fitting.errors import InputError
from fitting.laws import kaplan_relations
from fitting.laws.published import PUBLISHED
from fitting.report import loss_figures
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.report.style import INK, MUTED, SIZES, TARGET, new_figure, si_ticks
from fitting.studies.ends import groups
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

CURVES = (
    "Learning curves of the fresh runs (validation loss against compute), ends of their branches (dots), and the law's"
    " loss of the best size for each compute (Kaplan et al. 2020, figures 1 and 13)."
)
LEAST = (
    "The same against the least compute C_min that training far below the critical batch size would take (Kaplan et al."
    " 2020, figure 13)."
)
LIMITED = (
    "Loss against the D that limits a run, with the law L(N, D) fitted to it; beside it, by how much each run lies"
    " above the law (Kaplan et al. 2020, figure 9, left)."
)
OVERFITTING = (
    "How far each run lies above the law's loss at unlimited data, against N^(alpha_N/alpha_D) / D: runs of all sizes"
    " fall on one line (Kaplan et al. 2020, figure 9, right). Dotted: 2 %."
)
ALPHA_C, ALPHA_C_MIN = (PUBLISHED["kaplan", law].params["alpha_C"] for law in ("kaplan-c", "kaplan-cmin"))
LEAST_SHOWN = 1e-3
APPROACHES = ("envelope of the learning curves", "IsoFLOP parabolas", "the fitted law")


def figures(table: Table, laws) -> tuple[tuple[str, Figure], ...]:
    """(caption, figure) of all that can be drawn. laws: scaling.Laws."""
    drawn = [(CURVES, _curves(table, laws))]
    for caption, draw in (
        (LEAST, lambda: _curves(table, laws, laws.least())),
        (LIMITED, lambda: loss_figures.law(laws.limited())),
        (OVERFITTING, lambda: _overfitting(laws)),
    ):
        try:
            drawn.append((caption, draw()))
        except InputError:
            continue  # its statement says what is missing
    for number, (frontier, name) in enumerate(zip(laws.frontiers, APPROACHES, strict=True), 1):
        try:
            found = frontier()
        except InputError:
            continue
        fresh = laws.fresh().points if number == 3 else None
        budgets = [found.minima[0]["flops"], found.minima[-1]["flops"]] if found.minima else [found.largest]
        drawn.append((f"Best size for its compute by {name}.", loss_figures.allocation(found, fresh, budgets)))
    return tuple(drawn)


def _curves(table: Table, laws, least=None) -> Figure:
    """least: to draw C_min (least_compute.LeastCompute); None: C."""
    fresh = table.select(task=TASK, metric=METRIC)
    if "unique_tokens" in fresh:
        fresh = fresh.select(~np.isfinite(fresh["unique_tokens"]))
    norm = LogNorm(table["n_params"].min(), table["n_params"].max() * 1.001)
    share = 1.0 if least is None else least.batch.share_of_least(fresh["value"], fresh["batch_tokens"])
    flops = fresh["flops"] * share
    with new_figure(7.2, 4.4) as figure:
        axes = figure.add_subplot()
        for i in groups(fresh, "run").values():
            i = i[np.argsort(fresh["step"][i])]
            is_end = fresh["final"][i]
            colour = SIZES(norm(fresh["n_params"][i[0]]))
            axes.plot(flops[i][~is_end], fresh["value"][i][~is_end], color=colour, lw=1)
            axes.plot(flops[i][is_end], fresh["value"][i][is_end], "o", color=colour, ms=4.5, mec="white", mew=0.6)
        with suppress(InputError):  # its statement says what is missing
            _draw_best(axes, laws, least)
        shades = ScalarMappable(norm, SIZES)
        si_ticks(figure.colorbar(shades, ax=axes, pad=0.02, label="parameters").ax.yaxis)
        compute = "training compute C, FLOPs" if least is None else "least compute C_min, FLOPs"
        axes.set(xscale="log", yscale="log", xlabel=compute, ylabel="validation loss, bits per byte")
        axes.yaxis.set_major_formatter("{x:.3g}")
        axes.yaxis.set_minor_formatter("{x:.3g}")
    return figure


def _draw_best(axes, laws, least) -> None:
    """The law's loss of the best size for each compute, and the published exponent."""
    c = (laws.fresh().points if least is None else least.at_least()).features["C"]
    frontier = laws.frontiers[2]() if least is None else laws.of_least()
    c_m = np.geomspace(c.min(), c.max(), 50)
    best_m = frontier.loss_of(c_m)[0]
    name, alpha = ("C", ALPHA_C) if least is None else ("C_min", ALPHA_C_MIN)
    axes.plot(c_m, best_m, color=TARGET, lw=1.8, label="best size for its compute")
    axes.plot(
        c_m, best_m[0] * (c_m / c_m[0]) ** -alpha, color=MUTED, ls=":", label=f"published exponent, {name}^-{alpha:g}"
    )
    axes.legend()


def _overfitting(laws) -> Figure:
    from fitting.studies.scaling.analysis import enough_tokens, overfitting_of

    fitted = laws.limited()
    n, d, params = fitted.points.features["N"], fitted.points.features["D"], fitted.bootstrap.params(0)
    x_n = n ** (params["alpha_N"] / params["alpha_D"]) / d
    x_m = np.geomspace(x_n.min(), x_n.max(), 60)
    with new_figure(6.4, 4.2) as figure:
        axes = figure.add_subplot()
        law_m = kaplan_relations.overfitting(1.0, 1 / x_m, nd=params)
        axes.plot(x_m, law_m, color=TARGET, label="the fitted law, equation 4.3")
        above = overfitting_of(fitted)
        above = np.where(above > LEAST_SHOWN, above, np.nan)  # noise may put a run on the other side of the law
        dots = axes.scatter(x_n, above, c=n, norm=LogNorm(), **loss_figures.DOTS)
        si_ticks(figure.colorbar(dots, ax=axes, pad=0.02, label="parameters N").ax.yaxis)
        axes.axhline(0.02, color=INK, lw=0.8, ls=":")
        title = f"{si(n.max())} parameters need {si(enough_tokens(fitted, n.max()))} tokens"
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="N^(alpha_N/alpha_D) / D",
            ylabel="L(N, D) / L(N, unlimited) - 1",
            title=title,
        )
        axes.legend()
    return figure


def early_stops(repeated: list) -> Grid:
    """Where runs that repeat their data should have stopped. repeated: of scaling."""
    body = []
    for _, last, lowest, step in repeated:
        passes = last["tokens"] / last["unique_tokens"]
        body.append([si(last["n_non_embedding"]), si(last["unique_tokens"]), f"{passes:.2g}",
                     f"{passes * step / last['step']:.2g}", f"{lowest:.4f}", f"{last['value']:.4f}"])  # fmt: skip
    head = [
        "#parameters",
        "#unique tokens",
        "#passes trained",
        "#passes at the lowest loss",
        "#lowest loss",
        "#last loss",
    ]
    return Grid("Runs that repeat their data: where early stopping would have stopped", head, body)
