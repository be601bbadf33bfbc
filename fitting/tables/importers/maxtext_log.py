"""Logs of MaxText: its metrics_file (JSON lines), its console, or a history of Weights & Biases as CSV.

{"learning/loss": 2.9, "learning/lm_loss": 2.9, "learning/z_loss": 1e-4, ..., "step": 9.0, "run_name": "190M-1xC"}
completed step: 9, seconds: 1.2, TFLOP/s/device: 80.1, ..., loss: 2.901, lm_loss: 2.901, perplexity: 18.188
Completed eval after train step 9, loss=2.950, perplexity=19.106, ...        (common/metric_logger.py of 0.2.5)
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from fitting.tables.importers.trainer_log import Log, Trainer, measure, table
from fitting.tables.runs_table import Table

_NUMBER = r"([-+.\w]+)"
_STEP = re.compile(rf"completed step: (\d+),.*?\bloss: {_NUMBER}(?:, lm_loss: {_NUMBER})?")
_EVAL = re.compile(rf"[Cc]ompleted eval after train step (\d+), loss={_NUMBER}")
_EVAL_BEFORE = re.compile(rf"eval metrics after step: (\d+), loss={_NUMBER}")  # up to 0.1
_RUN = re.compile(r"Config param run_name: (\S+)")
_METRICS = {"learning/lm_loss": ("train", "loss"), "eval/avg_loss": ("validation", "loss")}


def maxtext(paths: Iterable, n_params: dict[str, float], tokens_per_step: float | None = None) -> Table:
    """Training and validation losses of runs of MaxText. The z-loss is subtracted where the log has it.

    n_params: {run: N}, and tokens_per_step, of runs that `ladder plan --emit maxtext` did not write. Raises InputError.
    """
    return table(MAXTEXT, paths, n_params, tokens_per_step)


def _read(file: Path, text: str) -> Log:
    log = Log()
    for line_number, line in enumerate(text.splitlines(), start=1):
        place = f"{file}:{line_number}"
        if line.startswith("{"):
            _json(log, line, place)
        elif match := _STEP.search(line):
            _printed(log, "learning/lm_loss", match[1], match[3] or match[2], place)
        elif match := _EVAL.search(line) or _EVAL_BEFORE.search(line):
            _printed(log, "eval/avg_loss", match[1], match[2], place)
        elif match := _RUN.search(line):
            log.run = match[1]
    if any(one.rounded for one in log.measured):
        log.notes.append("more than three decimals, and the z-loss apart: only metrics_file has them")
    return log


def _json(log: Log, line: str, place: str) -> None:
    try:
        metrics = json.loads(line)
        step = metrics.pop("step")
    except (ValueError, KeyError, RecursionError):
        log.notes.append(f"{place} (not a line of metrics; cut off?)")
        return
    log.run = metrics.pop("run_name", log.run)
    if "learning/loss" in metrics:  # before 0.2 there was no lm_loss
        metrics.setdefault("learning/lm_loss", metrics.pop("learning/loss"))
        z_loss = metrics.get("learning/z_loss", 0.0)
        metrics["learning/lm_loss"] -= z_loss
    if "eval/avg_loss" in metrics:
        metrics["eval/avg_loss"] -= metrics.get("eval/avg_z_loss", 0.0)
    measure(log, MAXTEXT, metrics, step + 1, place)


def _printed(log: Log, name: str, step: str, value: str, place: str) -> None:
    measure(log, MAXTEXT, {name: float(value)}, int(step) + 1, place, rounded=True)


MAXTEXT = Trainer("MaxText", ("*.jsonl", "*.txt", "*.log", "*.csv"), _read, _METRICS.get, first_step=0)
