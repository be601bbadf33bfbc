"""Logs of Levanter: the lines of its json_logger, alone or in its log, or a history of Weights & Biases as CSV.

... - levanter.json_logger - json_logger.py:86 - INFO :: {"tracker": "json_logger", "event": "log", "step": 9,
"metrics": {"train/loss": 2.9, "throughput/total_tokens": 5242880, "eval/c4/bpb": 1.0}}   (tracker/json_logger.py, 2026)
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from fitting.tables.importers.metrics import NAMES
from fitting.tables.importers.trainer_log import Log, Trainer, flattened, measure, table
from fitting.tables.runs_table import Table

_LINE = re.compile(r'\{.*"tracker": ?"json_logger".*\}')
TOKENS = "throughput/total_tokens"


def levanter(paths: Iterable, n_params: dict[str, float], tokens_per_step: float | None = None) -> Table:
    """Training losses, losses and bpb of texts, and results of lm_eval of runs of Levanter.

    n_params: {run: N}, and tokens_per_step, of runs that `ladder plan --emit` did not write. Raises InputError.
    """
    return table(LEVANTER, paths, n_params, tokens_per_step)


def _metric(name: str) -> tuple[str, str] | None:
    group, _, path = name.partition("/")
    if name == "train/loss":
        return "train", "loss"
    if group not in ("eval", "lm_eval") or path.startswith("ema/"):
        return None
    task, _, last = path.rpartition("/")
    metric = NAMES.get(last.removesuffix(",none"))
    if metric is None or (group == "lm_eval" and not task):
        return None
    return task or "validation", metric


def _read(file: Path, text: str) -> Log:
    log = Log()
    for line_number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.search(line)
        if match is None:
            continue
        try:
            record = json.loads(match[0])
        except (ValueError, RecursionError):
            log.notes.append(f"line {line_number} (not JSON; cut off?)")
            continue
        log.run = log.run or _name(record)
        if record.get("event") == "log" and isinstance(record.get("metrics"), dict) and record.get("step") is not None:
            measure(log, LEVANTER, flattened(record["metrics"]), record["step"] + 1, f"{file}:{line_number}")
    return log


def _name(record: dict) -> str | None:
    """The run's id: of the config that is logged first, or of a record that is kept."""
    trainer = (record.get("hparams") or {}).get("trainer") if isinstance(record.get("hparams"), dict) else None
    return record.get("run_id") or (trainer.get("id") if isinstance(trainer, dict) else None)


LEVANTER = Trainer("Levanter", ("*.log", "*.jsonl", "*.json", "*.txt", "*.csv"), _read, _metric, 0, TOKENS)
