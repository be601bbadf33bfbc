"""Predictions from a runs table, and how people see them: beside the truth where there is one."""

from collections.abc import Iterable

from rich.table import Table

from ladder.errors import InputError


def predict(table: str, targets: Iterable[str], tasks: list[str] | None, n_resamples: int, seed: int) -> tuple:
    """(the runs table, task_law.Prediction); targets as text, NAME=N,D, or none for those in the table."""
    if n_resamples < 2:
        raise InputError(f"--bootstrap {n_resamples}: an interval needs at least 2 resamples")
    from fitting import table as tables
    from fitting import task_law

    wanted = [task_law.parse_target(text) for text in targets]
    read = tables.read(table)
    return read, task_law.predict(read, wanted or None, tasks=tasks, n_resamples=n_resamples, seed=seed)


def table(entries: Iterable[dict]) -> Table:
    """entries: of pred.json, or of task_law.compare, which add what was measured."""
    entries = list(entries)
    compared = any(entry.get("actual_bpb") is not None for entry in entries)
    grid = Table(title="prediction and truth" if compared else "prediction", title_justify="left")
    grid.add_column("target", no_wrap=True)
    grid.add_column("task", no_wrap=True)
    truth = ("measured", "error", "inside") if compared else ()
    for name in ("bpb", "80 % interval", *truth, "accuracy", "80 % interval"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("flags", overflow="fold")
    for e in entries:
        measured = (_number(e["actual_bpb"]), _percent(e["error"]), _yes(e["inside"])) if compared else ()
        bpb, acc = (_number(e["bpb"]), _interval(e["bpb_pi80"])), (_number(e["acc"]), _interval(e["acc_pi80"]))
        grid.add_row(e["target"], e["task"], *bpb, *measured, *acc, "; ".join(e["flags"]))
    return grid


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.2%}"


def _yes(value: bool | None) -> str:
    return "" if value is None else "[green]yes" if value else "[red]no"
