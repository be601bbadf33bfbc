"""Evaluations of llm-foundry: JSON with the metrics that composer logs, its table of results, or DCLM's files.

{"metrics/piqa/10-shot/InContextLearningMultipleChoiceAccuracy": 0.68}     also nested, at any depth
[{"Benchmark": "piqa", "Subtask": null, "Accuracy": 0.68, "Number few shot": "10-shot", "Model": "mine"}]
{"eval_metrics": {"icl": {"piqa": 0.68}}}                                  github.com/mlfoundations/dclm
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.importers.metrics import FOUNDRY_NAMES, check_share, is_number
from fitting.tables.runs_table import Table, from_rows

LOGGED = re.compile(r"(?:.*/)?metrics/(?P<task>[^/]+)/(?:(?P<shots>\d+-shot)/(?:(?P<part>.+)/)?)?(?P<metric>[^/]+)")
DCLM = re.compile(r"(?:.*/)?icl/(?P<task>[^/]+)")


def llm_foundry(path, run: str, n_params: float, tokens: float, step: float = 0) -> Table:
    """A run's evaluations at one step: accuracies, exact matches and losses by task.

    A task that stands with several numbers of shots is named TASK_N-shot. Table.left_out names what was not imported.
    Raises InputError if the file holds none of these metrics.
    """
    path = Path(path)
    _, text = reader.content(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a result of llm-foundry: not JSON ({error})") from None
    if isinstance(content, list):
        measured, unknown = _of_table(content, path), {}
    else:
        measured, unknown = _of_metrics(content)
    if not measured:
        raise InputError(
            f"{path}: not a result of llm-foundry: no metrics/TASK/N-shot/METRIC, no rows with Benchmark and Accuracy,"
            " no eval_metrics with icl"
        )
    several = Counter((task, metric) for task, _, metric in dict.fromkeys(key for key, _ in measured))
    common = {"run": run, "n_params": n_params, "tokens": tokens, "step": step, "place": str(path)}
    rows = []
    for (task, shots, metric), value in measured:
        check_share(metric, value, f"{path}: task {task}")
        name = f"{task}_{shots}" if several[task, metric] > 1 else task
        rows.append(common | {"task": name, "metric": metric, "value": value})
    groups = {}
    for key in unknown:
        groups.setdefault(key.rpartition("/")[0], []).append(key.rpartition("/")[2])
    left_out = [f"{path}: {group + ': ' if group else ''}{', '.join(names)}" for group, names in groups.items()]
    return from_rows(rows, str(path), tuple(left_out))


def _of_metrics(content) -> tuple[list, list[str]]:
    """([((task, shots, metric), value)], names of the numbers that are no known metric)."""
    measured, unknown = [], []
    for name, value in _leaves(content):
        logged, dclm = LOGGED.fullmatch(name), DCLM.fullmatch(name)
        if not is_number(value):
            if logged or dclm or isinstance(value, float):
                unknown.append(name)
        elif logged and logged["metric"] in FOUNDRY_NAMES:
            task = "_".join(part for part in (logged["task"], logged["part"]) if part)
            measured.append(((task, logged["shots"] or "", FOUNDRY_NAMES[logged["metric"]]), value))
        elif dclm:
            measured.append(((dclm["task"], "", "acc"), value))
        else:
            unknown.append(name)
    return measured, unknown


def _of_table(records: list, path: Path) -> list:
    """The same of the table that llm-foundry prints at its end, as JSON records."""
    measured, models = [], set()
    for i, record in enumerate(records):
        value = record.get("Accuracy") if isinstance(record, dict) else None
        if not is_number(value) or not record.get("Benchmark"):
            raise InputError(f"{path}: record {i} has no Benchmark with an Accuracy")
        models.add(str(record.get("Model")))
        task = "_".join(str(record[part]) for part in ("Benchmark", "Subtask") if record.get(part))
        measured.append(((task, str(record.get("Number few shot", "")), "acc"), value))
    if len(models) > 1:
        raise InputError(f"{path}: results of several models: {', '.join(sorted(models))}; write a file for each")
    return measured


def _leaves(content, name: str = "") -> Iterator[tuple[str, object]]:
    """(keys joined by "/", value) of everything in nested objects that is not an object."""
    if not isinstance(content, dict):
        yield name, content
        return
    for key, value in content.items():
        yield from _leaves(value, f"{name}/{key}" if name else str(key))
