"""Predictions from a runs table, and how people see them: beside the truth where there is one."""

import math
from collections.abc import Iterable

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ladder.errors import InputError


def read(table: str, targets: Iterable[str]) -> tuple:
    """(the runs table, its targets); targets as text, NAME=N,D[,FLOPS], or none for those in the table."""
    from ladder.loop import compile_cache

    compile_cache.keep()
    from fitting.tables import points, runs_table

    wanted = [points.parse_target(text) for text in targets]
    runs = runs_table.read(table)
    return runs, wanted or points.targets_of(runs)


def predict(table: str, targets: Iterable[str], tasks: list[str] | None, n_resamples: int, seed: int) -> tuple:
    """(the runs table, task_law.Prediction)."""
    if n_resamples < 2:
        raise InputError(f"--bootstrap {n_resamples}: an interval needs at least 2 resamples")
    from fitting.task_laws import two_step

    runs, wanted = read(table, targets)
    return runs, two_step.predict(runs, wanted, tasks=tasks, n_resamples=n_resamples, seed=seed)


def by_the_paper(table: str, targets: Iterable[str], tasks: list[str] | None, method: str) -> dict:
    """pred.json of one of the paper's methods."""
    from fitting.bhagia2024 import methods

    runs, wanted = read(table, targets)
    if not wanted:
        raise InputError(f'{table}: no target to predict: add --target NAME=N,D (or rows with split "target")')
    entries = methods.predict(runs, wanted, tasks, method)
    return {
        "table_sha256": runs.sha256,
        "method": method,
        "n_convention": "n_params",
        "targets": [{k: v for k, v in vars(t).items() if v is not None} for t in wanted],
        "predictions": entries,
    }


def backtests(rows: list[dict], title: str, scale: float) -> Table:
    """rows: of backtest.Backtest.table, or accuracies; scale: 100 for relative errors in %."""
    grid = Table(title=title, title_justify="left")
    grid.add_column("held out", no_wrap=True)
    for name in ("fitted", "tested", "compute", "error", "bias", "coverage raw", "stretched", "width", "score"):
        grid.add_column(name, justify="right")
    grid.add_column("score, constant width", justify="right")
    for r in rows:
        grid.add_row(
            r["holdout"], str(r["fitted"]), str(r["tested"]), f"{math.exp(r['distance']):.1f}x",
            f"{scale * r['error']:.2f}", f"{scale * r['bias']:+.2f}", f"{r['coverage_raw']:.0%}",
            f"{r['coverage']:.0%}", f"{scale * r['width']:.2f}", f"{scale * r['score']:.2f}",
            f"{scale * r['constant_score']:.2f}",
        )  # fmt: skip
    return grid


def noise(rows: list[dict], run: str) -> Table:
    """rows: of paper_study.variance."""
    grid = Table(title=f"noise of the last evaluations of {run}", title_justify="left")
    for name in ("task", "bpb, sd", "bpb, CV", "accuracy, sd", "accuracy, CV"):
        grid.add_column(name, justify="left" if name == "task" else "right")
    for r in rows:
        accuracy = (f"{r['acc_sd']:.4f}", f"{r['acc_cv']:.2%}") if "acc_sd" in r else ("", "")
        grid.add_row(r["task"], f"{r['bpb_sd']:.4f}", f"{r['bpb_cv']:.2%}", *accuracy)
    return grid


def smaller_ladders(rows: list[dict], target: str) -> Table:
    """rows: of paper_study.compute_versus_error."""
    grid = Table(
        title=f"the paper's method for {target} from smaller ladders, mean over tasks",
        caption="by rounding: too few or too similar runs for the law; its ends when the losses' tenth digit changes",
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    names = ("ladder", "runs", "FLOPs, all", "of the largest", "step 1", "step 2", "chained", "points", "")
    for name in names:
        grid.add_column(name, justify="left" if name in ("ladder", "") else "right")
    for r in rows:
        errors = (f"{r[k]:.1%}" for k in ("step1", "step2", "chained"))
        flops = f"{r['sum_flops']:.3g}", f"{r['largest_flops']:.3g}"
        note = "" if r["determined"] else "{:.2f} to {:.2f} by rounding".format(*r["points_range"])
        grid.add_row(r["ladder"], str(r["runs"]), *flops, *errors, f"{r['points']:.2f}", note)
    return grid


def comparison(rows: list[dict], target: str) -> Table:
    """rows: of fitting.compare."""
    grid = Table(title=f"the first recipe against the other, at {target}", title_justify="left")
    grid.add_column("task", no_wrap=True)
    for name in (
        "lower bpb",
        "difference",
        "80 % interval",
        "compute-equivalent gain",
        "80 % interval",
        "higher accuracy",
    ):
        grid.add_column(name, justify="right")
    for r in rows:
        lo, hi = ("beyond" if g is None else f"{g:.2f}x" for g in r["gain_pi80"])
        gain = "beyond" if r["gain"] is None else f"{r['gain']:.2f}x"
        acc = f"{r['probability_acc']:.0%}" if "probability_acc" in r else ""
        difference = f"{r['difference']:+.4f}", "{:+.4f} to {:+.4f}".format(*r["difference_pi80"])
        grid.add_row(r["task"], f"{r['probability']:.0%}", *difference, gain, f"{lo} to {hi}", acc)
    return grid


def table(entries: Iterable[dict]) -> Group:
    """entries: of pred.json, or of task_law.compare, which add what was measured. Flags stand below the numbers."""
    from fitting.task_laws import diagnostics

    entries = list(entries)
    compared = any(entry.get("actual_bpb") is not None for entry in entries)
    grid = Table(title="prediction and truth" if compared else "prediction", title_justify="left")
    grid.add_column("target", no_wrap=True)
    grid.add_column("task", no_wrap=True)
    truth = ("measured", "error", "inside") if compared else ()
    for name in ("bpb", "80 % interval", *truth, "accuracy", "80 % interval"):
        grid.add_column(name, justify="right", no_wrap=True)
    for e in entries:
        measured = (_number(e["actual_bpb"]), _percent(e["error"]), _yes(e["inside"])) if compared else ()
        bpb, acc = (_number(e["bpb"]), _interval(e["bpb_pi80"])), (_number(e["acc"]), _interval(e["acc_pi80"]))
        grid.add_row(e["target"], e["task"], *bpb, *measured, *acc)
    said = diagnostics.lines([entry for entry in entries if "flags" in entry])
    return Group(grid, *(f"[yellow]{escape(f'{whose}: {flag}')}" for whose, flag in said))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.2%}"


def _yes(value: bool | None) -> str:
    return "" if value is None else "[green]yes" if value else "[red]no"
