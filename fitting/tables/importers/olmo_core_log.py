"""Logs of OLMo-core: the files of its MetricSaverCallback, its console, or a history of Weights & Biases as CSV.

metrics_step100.json   {"train/CE loss": 3.1, "throughput/total tokens": 52428800, "eval/lm/c4/CE loss": 3.3, ...}
console                [step=100/7262,epoch=1,eta=2h]  and then lines     train/CE loss=3.102        (version 3.0.0)
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from fitting.errors import InputError
from fitting.tables.importers.trainer_log import Log, Trainer, measure, table
from fitting.tables.runs_table import Table

_SAVED = re.compile(r"metrics_step(\d+)\.json")
_STEP = re.compile(r"\[step=([\d,]+)/")
_PRINTED = re.compile(r"^\s+([A-Za-z][^=]*)=(-?[\d.,]+(?:E[+-]\d+)?)([EPTB]?)\s*$")
_SUFFIXES = {"": 1.0, "B": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_DOWNSTREAM = re.compile(r"eval/downstream/(?P<task>.+) \((?P<metric>[^()]+?)(?P<v2> v2)?\)")
_DOWNSTREAM_METRICS = {"accuracy": "acc", "length-normalized accuracy": "len_norm", "BPB": "bpb", "F1 score": "f1"}
_TEXT = re.compile(r"eval/lm/(?P<task>.+)/CE loss")
TOKENS = "throughput/total tokens"


def olmo_core(paths: Iterable, n_params: dict[str, float], tokens_per_step: float | None = None) -> Table:
    """Training losses, losses of texts and results of downstream tasks of runs of OLMo-core.

    n_params: {run: N}, and tokens_per_step, of runs that `ladder plan --emit olmo-core` did not write. Of a task that
    OLMo-core measures in two versions, the second counts. Raises InputError.
    """
    return table(OLMO_CORE, paths, n_params, tokens_per_step)


def _metric(name: str) -> tuple[str, str] | None:
    if name == "train/CE loss":
        return "train", "loss"
    if match := _TEXT.fullmatch(name):
        return match["task"], "loss"
    match = _DOWNSTREAM.fullmatch(name)
    metric = match and _DOWNSTREAM_METRICS.get(match["metric"])
    return (match["task"], metric) if metric else None


def _read(file: Path, text: str) -> Log:
    return _saved(file, text) if file.name.endswith(".json") else _console(file, text)


def _saved(file: Path, text: str) -> Log:
    """A file of metrics. It also holds the evaluations of earlier steps, if none was due at its own."""
    try:
        metrics = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{file}: not JSON; is it cut off?") from None
    log, match = Log(), _SAVED.fullmatch(file.name)
    if match is None or not isinstance(metrics, dict):
        log.notes.append("the name of a file of metrics is metrics_stepN.json; metrics.json does not say its step")
        return log
    step = int(match[1])
    before = _evaluations_before(file, step)
    stale = {name for name, value in metrics.items() if name.startswith("eval/") and before.get(name) == value}
    measure(log, OLMO_CORE, _second_versions(metrics, stale, log), step, str(file))
    return log


def _evaluations_before(file: Path, step: int) -> dict:
    """The metrics of the last file before this one in its folder."""
    steps = {int(match[1]): other for other in file.parent.iterdir() if (match := _SAVED.fullmatch(other.name))}
    earlier = [number for number in steps if number < step]
    try:
        metrics = json.loads(steps[max(earlier)].read_text()) if earlier else {}
    except ValueError:
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _second_versions(metrics: dict, stale: set[str], log: Log) -> dict:
    """Without stale values, and without the first version of a metric that is there in the second."""
    first = {name for name in metrics if name.endswith(")") and f"{name[:-1]} v2)" in metrics}
    log.unknown |= first
    return {name: value for name, value in metrics.items() if name not in stale | first}


def _console(file: Path, text: str) -> Log:
    log, step, metrics, place = Log(), None, {}, ""
    for line_number, line in enumerate(text.splitlines(), start=1):
        if match := _STEP.search(line):
            step, place = int(match[1].replace(",", "")), f"{file}:{line_number}"
        elif (match := _PRINTED.match(line)) and step is not None:
            metrics = {match[1]: float(match[2].replace(",", "")) * _SUFFIXES[match[3]]}
            if match[1].startswith("eval/") or _metric(match[1]) is None:
                log.unknown.add(match[1])
            else:
                measure(log, OLMO_CORE, metrics, step, place, rounded=True)
    if log.measured:
        log.notes.append("more than four digits, and evaluations: only metrics_stepN.json and W&B have them")
    return log


OLMO_CORE = Trainer("OLMo-core", ("metrics_step*.json", "*.log", "*.csv"), _read, _metric, first_step=1, tokens=TOKENS)
