"""Shape: what depth against width, the feed-forward ratio and the number of heads cost at a fixed number of parameters.

Kaplan et al. 2020, section 3.1 and figure 5. The law is a parabola of ln loss in the logarithm of a ratio.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import NullFormatter

from fitting.errors import InputError
from fitting.report.grid import Grid
from fitting.report.style import MUTED, SIZES, TARGET, new_figure
from fitting.studies import regression
from fitting.studies.ends import SHAPE, ends, groups, need
from fitting.studies.regression import Line
from fitting.studies.results import Claim, Statement, Study
from fitting.tables.runs_table import Table

MOST_PERCENT = 3.0
SAME_N = 0.02  # relative difference of the number of parameters, above which a shape is left out
SOURCE = "Kaplan et al. 2020, figure 5"
# what is varied: name of the ratio, factor over which it may vary, statement
VARIED = {
    "aspect": ("d_model / layers", 40, "The aspect ratio may vary by a factor of 40 for less than 3 % of the loss"),
    "feedforward": (
        "d_ff / d_model",
        10,
        "The feed-forward ratio may vary by a factor of 10 for a few percent of the loss",
    ),
    "heads": ("heads", 8, "The number of heads may vary by a factor of 8 for a few percent of the loss"),
}
LIMITS = (
    "All shapes were trained with the learning rate of the base; with a rate of its own, a shape can only get better.",
    "Kaplan's models had 25M to 1.5B parameters, and their shapes were trained to convergence. At this size a layer or"
    " a head has few dimensions, which costs more.",
    "One seed for a shape: its point is as noisy as the base's seeds differ.",
)
CAPTION = (
    "Loss above the base shape's mean against what is varied, at the same number of parameters without embeddings, with"
    " the parabola fitted to it and its 95 % band. Grey: two standard deviations of the base's seeds. Dotted: 3 %."
)


@dataclass(frozen=True)
class Varied:
    """Runs whose shape differs from the base in one respect, and runs of the base. x: ln(ratio / the base's ratio)."""

    ratio: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def line(self) -> Line:
        """ln loss = q0 + q1 x + q2 x^2. Raises InputError where fewer than three ratios are finished."""
        if len(np.unique(np.round(self.x, 6))) < 3:
            raise InputError(f"{len(np.unique(np.round(self.x, 6)))} shapes are finished; a parabola needs 3")
        return regression.line(_basis(self.x), self.y)

    def penalty(self, factor: float) -> tuple[float, tuple[float, float]]:
        """Percent of the loss at the ends of a range of the ratio by `factor`, above its middle, the best ratio."""
        return self.line().of(100 * np.array([0.0, 0.0, (np.log(factor) / 2) ** 2]))


def analyse(table: Table) -> Study:
    """The base is the shape with the most seeds. Raises InputError where it has fewer than two."""
    need(table, "n_non_embedding", *SHAPE)
    rows = ends(table)
    of_shape = groups(rows, *SHAPE)
    base_key = max(of_shape, key=lambda key: len(of_shape[key]))
    base = of_shape[base_key]
    if len(base) < 2:
        raise InputError(f"{table.source}: no shape with two finished seeds, which say how noisy a loss is")
    level, noise = np.log(rows["value"][base]).mean(), regression.deviation(100 * np.log(rows["value"][base]))
    varied, notes = families(rows)
    claims = {name: Claim(says, SOURCE, "below 3 %", "{:.2f} %") for name, (_, _, says) in VARIED.items()}
    return Study(
        title="Shape: how much does the loss depend on depth, width and heads at a fixed number of parameters?",
        lead=(
            f"{len(of_shape)} shapes with {rows['n_non_embedding'][base[0]]:,.0f} parameters without embeddings. Seeds"
            f" of the base shape differ by {noise[0]:.2f} % of the loss (one standard deviation; 95 % interval"
            f" {noise[1][0]:.2f} to {noise[1][1]:.2f} %)."
        ),
        statements=tuple(claims[name].tried(lambda claim, name=name: _judged(claim, varied, name)) for name in VARIED),
        tables=(_table(rows, of_shape, base_key, level),),
        figures=((CAPTION, _figure(varied, level, noise[0])),),
        limits=LIMITS,
        notes=tuple(notes),
    )


def families(rows: Table) -> tuple[dict[str, Varied], list[str]]:
    """{what is varied: its runs and those of the base}; and a line for each run that is left out."""
    of_shape = groups(rows, *SHAPE)
    base = max(of_shape.values(), key=len)
    width, layers, heads, d_ff = (rows[name] for name in SHAPE)
    b, n = base[0], rows["n_non_embedding"]
    comparable = np.abs(n / n[b] - 1) <= SAME_N
    notes = [
        f"{rows['run'][i]} is left out: {n[i]:,.0f} parameters, not {n[b]:,.0f}" for i in np.flatnonzero(~comparable)
    ]
    is_base = np.isin(np.arange(len(rows)), base)
    same_layers, same_width = layers == layers[b], (width == width[b]) & (d_ff == d_ff[b])
    chosen = {
        "aspect": (~same_layers, width / layers),
        "feedforward": (same_layers & ~same_width, d_ff / width),
        "heads": (same_layers & same_width & (heads != heads[b]), heads),
    }
    varied = {}
    for name, (differs, ratio) in chosen.items():
        used = comparable & (differs | is_base)
        varied[name] = Varied(ratio[used], np.log(ratio[used] / ratio[b]), np.log(rows["value"][used]))
    return varied, notes


def _judged(claim: Claim, varied: dict[str, Varied], name: str) -> Statement:
    return claim.at_most(MOST_PERCENT, *varied[name].penalty(VARIED[name][1]))


def _basis(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones_like(x), x, x**2])


def _table(rows: Table, of_shape: dict, base_key: tuple, level: float) -> Grid:
    body = []
    for key, indices in of_shape.items():
        width, layers, heads, d_ff = key
        percent = 100 * (np.log(rows["value"][indices]).mean() - level)
        n, loss = rows["n_non_embedding"][indices[0]], rows["value"][indices].mean()
        of_the_shape = [f"{value:.0f}" for value in (layers, width, heads, d_ff)]
        ratios = [f"{width / layers:.3g}", f"{d_ff / width:.3g}"]
        above = "base" if key == base_key else f"{percent:+.2f}"
        body.append([*of_the_shape, f"{n:,.0f}", *ratios, str(len(indices)), f"{loss:.4f}", above])
    head = ("layers", "d_model", "heads", "d_ff", "parameters", "aspect ratio", "d_ff / d_model", "seeds", "bpb")
    return Grid("Every shape", [*(f"#{name}" for name in head), "#above the base, %"], body)


def _figure(varied: dict[str, Varied], level: float, noise: float):
    with new_figure(12.0, 3.8) as figure:
        for axes, (name, family) in zip(figure.subplots(1, 3, sharey=True), varied.items(), strict=True):
            axes.axhspan(-2 * noise, 2 * noise, color=MUTED, alpha=0.12, lw=0)
            axes.axhline(MOST_PERCENT, color=MUTED, lw=1, ls=":")
            x_m = np.linspace(family.x.min(), family.x.max(), 60)
            at_base = np.exp(np.log(family.ratio[0]) - family.x[0])
            try:
                value, lo, hi = (100 * (v - level) for v in family.line().band(_basis(x_m)))
                axes.fill_between(at_base * np.exp(x_m), lo, hi, color=TARGET, alpha=0.18, lw=0)
                axes.plot(at_base * np.exp(x_m), value, color=TARGET)
            except InputError:
                pass  # too few shapes are finished: the points alone
            axes.plot(family.ratio, 100 * (family.y - level), "o", color=SIZES(0.6), ms=5, mec="white", mew=0.6)
            axes.set(xscale="log", xlabel=VARIED[name][0], ylabel="loss above the base, %" if name == "aspect" else "")
            axes.xaxis.set_major_formatter("{x:.3g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
    return figure
