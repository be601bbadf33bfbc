"""Results of lm-evaluation-harness, of all its versions: results_*.json, samples_*.jsonl, and folders of them.

Since 0.4 a metric is named "acc,FILTER" and its standard error "acc_stderr,FILTER"; before, "acc" and "acc_stderr".
"""

import json
from pathlib import Path

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.importers import lm_eval_samples
from fitting.tables.importers.metrics import NAMES, check_share, is_number, listed
from fitting.tables.runs_table import Table, from_rows

METRICS = ("acc", "acc_norm", "bits_per_byte", "exact_match", "f1")
# Entries of a task that are no metrics.
DESCRIPTIONS = ("alias", "name", "sample_len", "sample_count", "samples")
# {(task, metric): columns of the row}
Rows = dict[tuple[str, str], dict]


def lm_eval(path, run: str, n_params: float, tokens: float, step: float = 0) -> Table:
    """A run's evaluations at one step: a result JSON, a samples_*.jsonl file (--log_samples), or the folder of them
    that --output_path names.

    Keeps acc, acc_norm (as "len_norm"), bits_per_byte (as "bpb"), exact_match and f1, with standard errors and numbers
    of documents. Samples give the bpb of the correct answers where they hold log-likelihoods. Table.left_out names the
    tasks and metrics that were not imported, and why. Raises InputError if there is nothing to import.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    rows, left_out = {}, []
    for file in _files(path):
        read = lm_eval_samples.read if ".jsonl" in file.name else _results
        new, notes = read(file)
        left_out += notes
        left_out += [f"{metric} of {task} in {rows[task, metric]['place']} ({file} has it too)"
                     for task, metric in new if (task, metric) in rows and read is _results]  # fmt: skip
        # Files come in the order of their time stamps, samples last: a later result counts, and one of a results file
        # counts before one that is computed from samples.
        rows = rows | new if read is _results else new | rows
    if not rows:
        reasons = f"; left out: {'; '.join(left_out)}" if left_out else ""
        raise InputError(f"{path}: holds none of the metrics {', '.join(METRICS)}{reasons}")
    common = {"run": run, "n_params": n_params, "tokens": tokens, "step": step}
    table = [common | {"task": task, "metric": metric} | row for (task, metric), row in rows.items()]
    return from_rows(table, str(path), tuple(left_out))


def _files(path: Path) -> list[Path]:
    """The result files at a path, in the order of their time stamps, and then the files of samples."""
    if not path.is_dir():
        return [path]
    results = sorted(path.rglob("results*.json"), key=lambda file: file.name)
    samples = sorted(path.rglob("samples_*.jsonl*"), key=lambda file: file.name)
    if not results and not samples:
        raise InputError(f"{path}: no results_*.json and no samples_*.jsonl in this folder")
    folders = {file.parent for file in results + samples}
    if len(folders) > 1:
        names = ", ".join(sorted(map(str, folders)))
        raise InputError(f"{path}: results in several folders: give each with its own --run: {names}")
    return results + samples


def _results(path: Path) -> tuple[Rows, list[str]]:
    """The rows of a result JSON, and what was left out of it."""
    content = _content(path)
    n_samples = content.get("n-samples")
    left_out = []
    if n_samples is not None and not isinstance(n_samples, dict):
        left_out.append(f"{path}: numbers of documents (n-samples is a {type(n_samples).__name__}, not an object)")
        n_samples = None
    groups = content.get("groups") if isinstance(content.get("groups"), dict) else {}
    rows, unknown = {}, {}
    for task, metrics in (groups | content["results"]).items():
        if not isinstance(metrics, dict):
            left_out.append(f"{path}: task {task} (its results are {json.dumps(metrics)[:40]})")
            continue
        n_docs = _n_docs((n_samples or {}).get(task))
        several = _metrics_of_several_filters(metrics)
        for name, value in metrics.items():
            metric, comma, kind = name.partition(",")
            if metric in DESCRIPTIONS or metric.endswith("_stderr"):
                continue
            if metric not in METRICS:
                unknown.setdefault(metric, []).append(task)
                continue
            if not is_number(value):
                left_out.append(f"{path}: {name} of {task} (its value is {json.dumps(value)[:40]})")
                continue
            if metric == "f1" and value > 1:
                left_out.append(f"{path}: {name} of {task} ({value:g} is in percent)")
                continue
            check_share(NAMES[metric], value, f"{path}: task {task}")
            stderr = metrics.get(f"{metric}_stderr{comma}{kind}")
            stderr = stderr if is_number(stderr) else None
            row_task = f"{task}:{kind}" if metric in several and kind != "none" else task
            rows[row_task, NAMES[metric]] = {"value": value, "stderr": stderr, "n_docs": n_docs, "place": str(path)}
    left_out += [f"{path}: metric {metric} of {listed(tasks)}" for metric, tasks in unknown.items()]
    return rows, left_out


def _content(path: Path) -> dict:
    """The JSON of a result file. Raises InputError if it has no "results"."""
    _, text = reader.content(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a result of lm-evaluation-harness: not JSON ({error})") from None
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        return content
    foundry = "eval_metrics" in content if isinstance(content, dict) else False
    advice = (
        "; it looks like one of llm-foundry: --source llm-foundry" if foundry or "InContextLearning" in text else ""
    )
    raise InputError(f'{path}: not a result of lm-evaluation-harness: no object "results" in it{advice}')


def _metrics_of_several_filters(metrics: dict) -> set[str]:
    """Metrics that stand under more than one filter (gsm8k: strict-match and flexible-extract)."""
    names = [name.partition(",")[0] for name in metrics]
    return {name for name in names if names.count(name) > 1}


def _n_docs(count) -> float | None:
    """A number of documents: {"original", "effective"}, or the number itself."""
    count = count.get("effective") if isinstance(count, dict) else count
    return count if is_number(count) and count > 0 else None
