"""The evaluation of a checkpoint as a table for the terminal and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict

from launch import terminal

METRICS = ("bpb", "ce_loss", "acc", "len_norm", "soft", "soft_log", "loss")


def table(evaluation) -> terminal.Table:
    """One line for each task."""
    step = "" if evaluation.step is None else f" at step {evaluation.step:,}"
    grid = terminal.Table(title=f"{evaluation.run_id}{step}")
    by_task: dict[str, dict[str, dict]] = {}
    for row in evaluation.rows:
        by_task.setdefault(row["task"], {})[row["metric"]] = row
    metrics = [metric for metric in METRICS if any(metric in rows for rows in by_task.values())]
    for name in ("task", "docs", *metrics, "chance", "majority"):
        grid.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for task, rows in by_task.items():
        accuracy = rows.get("acc", {})
        docs = next(iter(rows.values()))["n_docs"]
        cells = [_cell(rows.get(metric)) for metric in metrics]
        baselines = [f"{accuracy[name]:.3f}" if name in accuracy else "" for name in ("chance", "majority")]
        grid.add_row(task, "" if docs is None else f"{docs:,}", *cells, *baselines)
    return grid


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.4f}" + ("" if row["stderr"] is None else f" ± {row['stderr']:.4f}")


def cost(evaluation) -> str:
    """One line below the table: tokens, time, and share of the training compute."""
    if evaluation.seconds is None:
        return "recorded before; nothing was computed"
    text = f"{evaluation.tokens:,} tokens in {terminal.duration(evaluation.seconds)}"
    text += "" if evaluation.share is None else f", {evaluation.share:.2%} of the run's training compute"
    return text + (f"; {evaluation.cut} answers are longer than the model's context" if evaluation.cut else "")


def to_json(evaluations: Iterable) -> dict:
    return {"evaluations": [asdict(evaluation) for evaluation in evaluations]}
