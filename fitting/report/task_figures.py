"""Figures of a prediction: pure functions from tables and fits to matplotlib figures and axes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from fitting.forecasting.predict import Prediction
from fitting.forecasting.results import TaskForecast
from fitting.inference.calibration import QUANTILE, calibration
from fitting.report.numbers import si
from fitting.report.style import INK, INSIDE, MUTED, OUTSIDE, SIZES, STAR, TARGET, new_figure, si_ticks
from fitting.tables.points import Target, measured
from fitting.tables.runs_table import Table

# Learning curves are drawn as means over intervals of this width in ln tokens, because the loss of a batch is noisy.
BIN = 0.08


def step1(table: Table, prediction: Prediction, target: Target, task: str, *, large: bool = False) -> Figure:
    """bpb of one task against tokens: runs, law, prediction with its 80 % band, and the measurement."""
    with new_figure(8.6, 5.0, 10.5) if large else new_figure(4.5, 3.2, 8.5) as figure:
        draw_step1(figure.add_subplot(), table, prediction, target, task, large=large)
    return figure


def draw_step1(axes, table: Table, prediction: Prediction, target: Target, task: str, *, large: bool) -> None:
    colors = _colors(prediction)
    points = prediction.points
    bpb_n = points.bpb_Tn[points.tasks.index(task)]
    if large:
        _curves(axes, table, task, prediction.measurements.metric, colors, alpha=0.35, width=0.9)
    for d, bpb, size in zip(points.features["D"], bpb_n, points.sizes, strict=True):
        axes.plot(d, bpb, "o", color=colors[size], ms=7 if large else 4.5, mec="white", mew=0.8, zorder=4)
    if task in prediction.fitted:
        _laws(axes, prediction, target, task, colors, large)
    measured_bpb = measured(table, target, task, prediction.measurements.metric)
    if measured_bpb is not None:
        axes.plot(target.D, measured_bpb, "*", color=STAR, mec=INK, mew=0.9, ms=19 if large else 12, zorder=7)
    _token_axis(axes)
    axes.set_ylabel(prediction.measurements.loss_name)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(task)
    if large:
        _zoom(axes, prediction, target, task, measured_bpb)
        _legend(axes, prediction, target, colors, measured_bpb is not None)
        if task in prediction.fitted and measured_bpb is not None:
            _inset(axes, prediction, target, task, measured_bpb)


def curves(table: Table, prediction: Prediction, task: str) -> Figure:
    """Training loss of every run against tokens, or bpb of a task where the table has no training loss; targets red."""
    loss = len(table.select(task="train", metric="loss")) > 0
    shown = ("train", "loss") if loss else (task, prediction.measurements.metric)
    with new_figure(8.6, 4.0) as figure:
        axes = figure.add_subplot()
        colors = _colors(prediction)
        _curves(axes, table, *shown, colors, alpha=0.9, width=1.2)
        if not loss:
            points = prediction.points
            bpb_n = points.bpb_Tn[points.tasks.index(task)]
            color_n = [colors[s] for s in points.sizes]
            axes.scatter(points.features["D"], bpb_n, c=color_n, s=26, zorder=4, edgecolors="white")
        _token_axis(axes)
        axes.set_ylabel("training loss, nats per token" if loss else f"{task}, {prediction.measurements.loss_name}")
        handles = [Line2D([], [], color=c, label=_size_label(prediction, s)) for s, c in colors.items()]
        if len(table.select(split="target", task=shown[0], metric=shown[1])):
            handles.append(Line2D([], [], color=TARGET, label="target"))
        axes.legend(handles=handles, fontsize=8)
    return figure


def errors(entries: Sequence[TaskForecast]) -> Figure:
    """Predicted against measured: each task's 80 % interval and measurement, in percent of the prediction."""
    entries = [e for e in reversed(entries) if e.bpb is not None]
    several = len({e.target for e in entries}) > 1
    with new_figure(8.6, 0.75 + 0.36 * len(entries)) as figure:
        axes = figure.add_subplot()
        for i, entry in enumerate(entries):
            lo, hi = (100 * (b / entry.bpb - 1) for b in entry.bpb_interval)
            color = {True: INSIDE, False: OUTSIDE, None: MUTED}[entry.inside]
            axes.plot([lo, hi], [i, i], color=color, lw=7, alpha=0.25, solid_capstyle="round")
            axes.plot(0, i, "|", color=color, ms=11, mew=2)
            if entry.measured_bpb is not None:
                percent = 100 * (entry.measured_bpb / entry.bpb - 1)
                axes.plot(percent, i, "*", color=STAR, mec=INK, mew=0.8, ms=12, zorder=3)
        axes.set_yticks(range(len(entries)), [f"{e.target}  {e.task}" if several else e.task for e in entries])
        axes.set_ylim(-0.6, len(entries) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.axvline(0, color="#b8c0c8", lw=0.8, zorder=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g} %" if value else "predicted")
        axes.set_xlabel("measured bpb, relative to the prediction (bar: 80 % interval, star: measured)")
    return figure


def step2(table: Table, prediction: Prediction, target: Target, task: str) -> Figure:
    """Accuracy of one task against its bpb, with the sigmoid and its 80 % band, or at chance."""
    with new_figure(4.5, 3.2, 8.5) as figure:
        draw_step2(figure.add_subplot(), table, prediction, target, task)
    return figure


def draw_step2(axes, table: Table, prediction: Prediction, target: Target, task: str) -> None:
    accuracy, entry = prediction.step2[task], prediction.entry(target, task)
    is_fitted = accuracy.chance.above and bool(accuracy.sigmoids)
    color = SIZES(0.45) if is_fitted else MUTED
    loss_k, acc_k = accuracy.pairs[0].T if accuracy.checkpoints else (accuracy.loss_n, accuracy.acc_n)
    axes.plot(loss_k, acc_k, "o", color=color, ms=3.5, alpha=0.7, mec="white", mew=0.4)
    if accuracy.chance.level is not None:
        axes.axhline(accuracy.chance.level, color=MUTED, ls=":", lw=1.2)
        at = {"ha": "right", "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(0.99, accuracy.chance.level, "chance ", color=MUTED, fontsize=8, **at)
    if is_fitted and entry.bpb is not None:
        x = np.linspace(min(entry.bpb, loss_k.min()) * 0.98, loss_k.max(), 80)
        y, sd = accuracy.curve(x)
        axes.fill_between(x, y - QUANTILE * sd, y + QUANTILE * sd, color=color, alpha=0.18, lw=0)
        axes.plot(x, y, color=color, lw=1.6)
        errors = _lengths(entry.accuracy, entry.accuracy_interval), _lengths(entry.bpb, entry.bpb_interval)
        axes.errorbar(entry.bpb, entry.accuracy, *errors, color=TARGET, fmt="D", ms=5, lw=1.6, zorder=5)
    bpb, acc = (measured(table, target, task, m) for m in (prediction.measurements.metric, accuracy.metric))
    if bpb is not None and acc is not None:
        axes.plot(bpb, acc, "*", color=STAR, mec=INK, mew=0.9, ms=12, zorder=7)
    if not is_fitted:
        axes.set_ylim(0, max(0.5, 1.4 * float(np.max(accuracy.acc_n, initial=0.3))))
    axes.invert_xaxis()
    axes.set_xlabel(f"{prediction.measurements.loss_name} (better to the right)")
    axes.set_ylabel("accuracy" if accuracy.metric == "acc" else "accuracy (length-normalised)")
    axes.set_title(task if is_fitted else f"{task}: not fitted")


def _lengths(value: float, interval: tuple[float, float]) -> list[list[float]]:
    """An interval as matplotlib's error bars have it: [[length below], [length above]]."""
    return [[value - interval[0]], [interval[1] - value]]


def _colors(prediction: Prediction) -> dict[str, tuple]:
    sizes = list(dict.fromkeys(prediction.points.sizes))
    return {s: SIZES(i / max(len(sizes) - 1, 1)) for i, s in enumerate(sizes)}


def _size_label(prediction: Prediction, size: str) -> str:
    points = prediction.points
    n = points.features["N"][points.sizes.index(size)]
    return size if size == si(n) else f"{size}  ({si(n)} parameters)"


def _curves(axes, table: Table, task: str, metric: str, colors: dict, alpha: float, width: float) -> None:
    rows = table.select(task=task, metric=metric)
    for run in rows.unique("run"):
        run_rows = rows.select(run=run)
        is_target = run_rows["split"][0] == "target"
        size = str(run_rows["size"][0]) if "size" in run_rows else si(run_rows["n_params"][0])
        if not is_target and size not in colors:
            continue
        color = TARGET if is_target else colors[size]
        axes.plot(*_thinned(run_rows["tokens"], run_rows["value"]), color=color, lw=width, alpha=alpha, zorder=2)


def _thinned(tokens: np.ndarray, values: np.ndarray) -> list[list]:
    """A curve as means over intervals of ln tokens: [tokens, values]."""
    bins = (np.log(tokens / tokens.min()) / BIN).astype(int)
    return [[column[bins == b].mean() for b in np.unique(bins)] for column in (tokens, values)]


def _laws(axes, prediction: Prediction, target: Target, task: str, colors: dict, large: bool) -> None:
    """The fitted law at every size, and at the target with its 80 % prediction band."""
    points, law = prediction.points, prediction.laws[target.name, task]
    for size, color in colors.items():
        has_size = np.array(points.sizes) == size
        trained_n = points.features["D"][has_size]
        d = np.geomspace(trained_n.min() / 1.15, trained_n.max() * 1.15, 30)
        n = np.full_like(d, points.features["N"][has_size][0])
        axes.plot(d, np.exp(law.predict(n, d)[0]), color=color, lw=2 if large else 1.3, zorder=3)
    lo_d = min(target.D / 6, np.median(points.features["D"]))
    d = np.geomspace(lo_d, target.D * 1.25, 40)
    mean, spread = law.predict(np.full_like(d, target.N), d)
    half = calibration().loss_half_width(law.noise, law.best_run - mean, spread)
    y = np.exp(mean)
    axes.fill_between(d, y * np.exp(-half), y * np.exp(half), color=TARGET, alpha=0.15, lw=0, zorder=1)
    axes.plot(d, y, color=TARGET, lw=2 if large else 1.4, ls=(0, (4, 2)), zorder=3)
    entry = prediction.entry(target, task)
    sizes = {"ms": 8, "capsize": 4} if large else {"ms": 5.5, "capsize": 2.5}
    error = _lengths(entry.bpb, entry.bpb_interval)
    axes.errorbar(target.D, entry.bpb, error, color=TARGET, fmt="D", mec="white", mew=0.8, lw=2, zorder=6, **sizes)


def _token_axis(axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("training tokens")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    si_ticks(axes.xaxis)


def _zoom(axes, prediction: Prediction, target: Target, task: str, measured_bpb: float | None) -> None:
    """Cut off the first steps of the learning curves, whose values are far above all others."""
    points, interval = prediction.points, prediction.entry(target, task).bpb_interval
    measured_or_nan = np.nan if measured_bpb is None else measured_bpb
    shown = [*points.bpb_Tn[points.tasks.index(task)], *(interval or []), measured_or_nan]
    best, worst = np.nanmin(shown), np.nanmax(shown)
    axes.set_ylim(best - 0.12 * (worst - best), worst + 0.3 * (worst - best))
    axes.set_xlim(left=points.features["D"].min() / 4)


def _inset(axes, prediction: Prediction, target: Target, task: str, measured_bpb: float) -> None:
    """A magnified view of the target's prediction interval and its measured value."""
    entry = prediction.entry(target, task)
    bpb, (low, high) = entry.bpb, entry.bpb_interval
    inset = axes.inset_axes((0.075, 0.09, 0.25, 0.33))
    error = _lengths(bpb, (low, high))
    inset.errorbar(0, bpb, error, color=TARGET, fmt="D", mec="white", ms=8, lw=2.2, capsize=5)
    inset.annotate(f"{bpb:.3f}", (0, bpb), (9, 0), textcoords="offset points", va="center", color=TARGET)
    inset.plot(1, measured_bpb, "*", color=STAR, mec=INK, mew=0.9, ms=17)
    inset.annotate(f"{measured_bpb:.3f}", (1, measured_bpb), (11, 0), textcoords="offset points", va="center")
    inset.set_xticks([0, 1], ["predicted", "measured"])
    inset.axhspan(low, high, color=TARGET, alpha=0.08, lw=0)
    values = low, high, measured_bpb
    margin = 0.25 * (max(values) - min(values))
    inset.set_ylim(min(values) - margin, max(values) + margin)
    inset.set_xlim(-0.45, 1.75)
    inset.yaxis.set_major_locator(MaxNLocator(4))
    inset.tick_params(labelsize=8.5, length=0)
    inset.grid(axis="x", visible=False)


def _legend(axes, prediction: Prediction, target: Target, colors: dict, is_measured: bool) -> None:
    handles = [
        Line2D([], [], color=c, marker="o", mec="white", label=_size_label(prediction, s)) for s, c in colors.items()
    ]
    label = f"predicted, {si(target.N)} parameters (80 %)"
    handles.append(Line2D([], [], color=TARGET, marker="D", mec="white", ls=(0, (4, 2)), label=label))
    if is_measured:
        handles.append(Line2D([], [], color=STAR, marker="*", mec=INK, ms=14, ls="", label="measured afterwards"))
    axes.legend(handles=handles, fontsize=9, loc="upper right")
