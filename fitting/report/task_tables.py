"""Tables of the task law: predictions, backtests, noise, comparisons, designs."""

import math
from collections.abc import Sequence

from fitting.forecasting import diagnostics
from fitting.forecasting.measurements import LOSS_NAMES
from fitting.forecasting.results import SuiteForecast, TaskForecast
from fitting.report.grid import Grid
from fitting.report.numbers import interval, optional, yes_no

INTERVAL_NOTE = "An 80 % interval is meant to miss one time in five."
AT_CHANCE = "at chance: not predicted"
CHANCE_NOTE = "Chance level: the ladder's runs are not above it (binomial test)."
BACKTEST_NOTE = "Coverage: share of the hidden runs in the 80 % intervals. Score: interval score, lower is better."
SUITE_NAME = "mean of the tasks"


def predictions(entries: Sequence[TaskForecast], suite: Sequence[SuiteForecast] = (), loss: str = "bpb") -> list[Grid]:
    """A table of bpb (or another loss) and, where accuracies are predicted, one of these; with measurements, if any."""
    several = len({e.target for e in entries}) > 1
    measured = any(e.measured_bpb is not None for e in entries)
    name = ["target", "task"] if several else ["task"]
    head = [*name, "#predicted", "#80 % interval", *(["#measured", "#error", "inside"] if measured else [])]
    bpb, accuracy = [], []
    for e in entries:
        row = [e.target, e.task] if several else [e.task]
        truth = [optional(e.measured_bpb), optional(e.error, "+.1%"), yes_no(e.inside)]
        if any(entry.bpb is not None for entry in entries):
            bpb.append([*row, optional(e.bpb), interval(e.bpb_interval), *truth[: 3 * measured]])
        if e.accuracy is not None:
            # The paper's methods, which have `fits`, give no intervals.
            ends = AT_CHANCE if e.accuracy_interval is None and e.fits is None else interval(e.accuracy_interval)
            truth = [optional(e.measured_accuracy), optional(e.accuracy_error, "+.1f", " points")]
            truth.append(yes_no(e.accuracy_inside))
            accuracy.append([*row, optional(e.accuracy), ends, *truth[: 3 * measured]])
    notes = (CHANCE_NOTE,) if any(AT_CHANCE in row for row in accuracy) else ()
    for mean in suite:
        row = [mean.target, SUITE_NAME] if several else [SUITE_NAME]
        for rows, name in ((bpb, "bpb"), (accuracy, "accuracy")):
            value, ends = getattr(mean, name), getattr(mean, f"{name}_interval")
            if value is not None and len(getattr(mean, f"{name}_tasks")) > 1:
                rows.append([*row, optional(value), interval(ends), *[""] * 3 * measured])
    grids = [Grid(LOSS_NAMES[loss], head, bpb), Grid("accuracy", head, accuracy, notes)]
    return [grid for grid in grids if grid.rows]


def flags(entries: Sequence[TaskForecast]) -> list[str]:
    """The flags of predictions, one line each."""
    return [f"{whose}: {flag}" for whose, flag in diagnostics.lines(entries)]


def backtests(rows: Sequence[dict], title: str, scale: float, unit: str) -> Grid:
    """rows: of backtest.Backtest.table, or accuracies. scale: 100 for relative errors in %."""
    head = ["held out", "#fitted", "#tested", "#compute", "#mean error", "#bias", "#coverage"]
    head += ["#width", "#score", "#score, constant width"]
    body = [
        [r["holdout"], str(r["fitted"]), str(r["tested"]), f"{math.exp(r['distance']):.1f}x",
         f"{scale * r['error']:.2f}{unit}", f"{scale * r['bias']:+.2f}", f"{r['coverage']:.0%}",
         f"{scale * r['width']:.2f}", f"{scale * r['score']:.2f}",
         f"{scale * r['constant_score']:.2f}"]
        for r in rows
    ]  # fmt: skip
    return Grid(title, head, body)


def noise(rows: Sequence[dict], run: str) -> Grid:
    """rows: of bhagia2024.error_analysis.variance."""
    body = []
    for r in rows:
        accuracy = [f"{r['acc_sd']:.4f}", f"{r['acc_cv']:.2%}"] if "acc_sd" in r else ["", ""]
        body.append([r["task"], f"{r['bpb_sd']:.4f}", f"{r['bpb_cv']:.2%}", *accuracy])
    head = ["task", "#bpb, sd", "#bpb, CV", "#accuracy, sd", "#accuracy, CV"]
    return Grid(f"noise of the last evaluations of {run}", head, body)


def smaller_ladders(rows: Sequence[dict], target: str) -> Grid:
    """rows: of bhagia2024.error_analysis.compute_versus_error."""
    body = []
    for r in rows:
        errors = [f"{r[k]:.1%}" for k in ("step1", "step2", "chained")]
        flops = [f"{r['sum_flops']:.3g}", f"{r['largest_flops']:.3g}"]
        note = "" if r["determined"] else "{:.2f} to {:.2f}".format(*r["points_range"])
        body.append([r["ladder"], str(r["runs"]), *flops, *errors, f"{r['points']:.2f}", note])
    head = ["ladder", "#runs", "#FLOPs, all", "#of the largest", "#step 1", "#step 2", "#chained", "#points", "#range"]
    note = "range: of points, where so few or so similar runs do not determine the law (losses changed in digit ten)"
    return Grid(f"the paper's method for {target} from smaller ladders, mean over tasks", head, body, (note,))


def comparison(rows: Sequence[dict], target: str) -> Grid:
    """rows: of forecast.compare."""
    body = []
    for r in rows:
        gains = ["beyond" if g is None else f"{g:.2f}x" for g in (r["gain"], *r["gain_pi80"])]
        acc = f"{r['probability_acc']:.0%}" if "probability_acc" in r else ""
        difference = [f"{r['difference']:+.4f}", "{:+.4f} to {:+.4f}".format(*r["difference_pi80"])]
        body.append([r["task"], f"{r['probability']:.0%}", *difference, gains[0], f"{gains[1]} to {gains[2]}", acc])
    head = ["task", "#lower bpb", "#difference", "#80 % interval", "#compute-equivalent gain", "#80 % interval"]
    return Grid(f"the first recipe against the other, at {target}", [*head, "#higher accuracy"], body)


def design(rows: Sequence[dict], target: str, all_flops: float, n_runs: int) -> Grid:
    """rows: of forecast.design.frontier, with the names of the runs."""
    body = [
        [f"{r['budget']:.3g}", f"{r['flops'] / all_flops:.0%}", f"{r['half_width']:.1%}", ", ".join(r["runs"])]
        for r in rows
    ]
    head = ["#budget, FLOPs", "#of all", "#80 % half-width of bpb", "runs"]
    return Grid(f"runs that predict {target} best, of {n_runs}", head, body)
