"""Other projects' tables as runs tables: the task-ladder paper's CSVs, lm-evaluation-harness results, W&B histories."""

import csv
import json
import math
import re
from pathlib import Path

from fitting.errors import InputError
from fitting.tables.runs_table import Table, from_rows

# Bhagia et al. 2024: parameters without the input embedding, training FLOPs per token (their exact count, not 6N).
PAPER_SIZES = {
    "190M": (190354176, 1903391232),
    "370M": (371262464, 3443922944),
    "760M": (758220288, 6373843968),
    "1B": (1279395840, 10109071360),
    "3B": (3169537280, 22970355200),
    "7B": (6887575552, 49412071424),
    "13B": (13202396160, 91335915520),
}
PAPER_LADDER = ("190M", "370M", "760M", "1B")
PAPER_MULTIPLES = (1.0, 2.0, 5.0, 10.0)
# Shares of MMLU's questions by category, which the paper weighs both bpb and accuracy with.
MMLU_WEIGHTS = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
PAPER_METRICS = (
    ("bpb", re.compile(r"eval/downstream_bpb/(.+)_rc_5shot_bpb")),
    ("len_norm", re.compile(r"eval/downstream/(.+)_rc_5shot_len_norm")),
    ("loss", re.compile(r"eval/(.+)/CrossEntropyLoss")),
)
# Files whose names do not say which run they hold.
PAPER_FILES = {"peteish7_eval_anneal": "7B-4T"}
PAPER_NAME = re.compile(r"(?P<size>[0-9.]+[MB])-(?P<length>[0-9.]+)(?P<unit>xC|T)(?P<rest>.*)")


def paper(folder) -> Table:
    """The paper's wide CSV exports: one file a run, named SIZE-MULTIPLExC.csv, one row an evaluation.

    Its sixteen runs are split "train", other small runs "extra", 7B and 13B "target". "mmlu_avg_test" is the weighted
    mean of the four categories. Raises InputError with file and line.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.glob("*.csv") if PAPER_NAME.fullmatch(_paper_run(p)))
    if not files:
        raise InputError(f"{folder}: no file named like 190M-1xC.csv in it")
    return from_rows([row for file in files for row in _paper_rows(file)], str(folder))


def _paper_run(file: Path) -> str:
    return PAPER_FILES.get(file.stem, file.stem)


def _paper_rows(file: Path):
    run = _paper_run(file)
    found = PAPER_NAME.fullmatch(run)
    size, length = found["size"], float(found["length"])
    if size not in PAPER_SIZES:
        raise InputError(f"{file}: size {size!r} is not one of the paper's: {', '.join(PAPER_SIZES)}")
    n_params, flops_per_token = PAPER_SIZES[size]
    in_ladder = size in PAPER_LADDER and length in PAPER_MULTIPLES and found["unit"] == "xC" and not found["rest"]
    split = "train" if in_ladder else "target" if size in ("7B", "13B") else "extra"
    for place, wide in _csv(file):
        step = _number(wide, "_step", place)
        tokens = _paper_tokens(wide, step, place)
        common = {"run": run, "split": split, "size": size, "n_params": n_params, "tokens": tokens, "step": step}
        common |= {"flops": flops_per_token * tokens, "place": place}
        if found["unit"] == "xC":
            common["multiple"] = length
        values = {}
        for name, text in wide.items():
            for metric, pattern in PAPER_METRICS:
                if text not in ("", None) and (match := pattern.fullmatch(name)):
                    values[match[1], metric] = _number(wide, name, place)
        for (task, metric), value in _with_mmlu(values).items():
            yield common | {"task": task, "metric": metric, "value": value}


def _paper_tokens(wide: dict, step: float, place: str) -> float:
    if wide.get("throughput/total_tokens"):
        return _number(wide, "throughput/total_tokens", place)
    return step * _number(wide, "batch_size_in_tokens", place)


def _with_mmlu(values: dict) -> dict:
    """MMLU's four categories become one task, where all are there."""
    out = {key: value for key, value in values.items() if not key[0].startswith("mmlu_")}
    for metric in ("bpb", "len_norm"):
        parts = [values.get((f"mmlu_{name}_test", metric)) for name in MMLU_WEIGHTS]
        if None not in parts:
            mean = sum(w * v for w, v in zip(MMLU_WEIGHTS.values(), parts, strict=True))
            out["mmlu_avg_test", metric] = mean / sum(MMLU_WEIGHTS.values())
    return out


# lm-evaluation-harness: its names of metrics, and ours.
LM_EVAL_METRICS = {"acc": "acc", "acc_norm": "len_norm", "bits_per_byte": "bpb"}


def lm_eval(path, run: str, n_params: float, tokens: float, step: float = 0, split: str = "train") -> Table:
    """One result file of lm-evaluation-harness: a run's evaluations at one step.

    acc, acc_norm (as "len_norm") and bits_per_byte (as "bpb") are taken, with standard errors and counts of documents.
    Raises InputError where the file is not such a result or holds none of them.
    """
    path = Path(path)
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        results = read["results"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a result of lm-evaluation-harness ({type(error).__name__}: {error})") from None
    common = {"run": run, "split": split, "n_params": n_params, "tokens": tokens, "step": step, "place": str(path)}
    rows = []
    for task, metrics in results:
        counts = (read.get("n-samples") or {}).get(task) or {}
        for name, value in metrics.items():
            metric, _, kind = name.partition(",")
            if metric in LM_EVAL_METRICS and isinstance(value, int | float) and math.isfinite(value):
                stderr = metrics.get(f"{metric}_stderr,{kind}")
                row = {"task": task, "metric": LM_EVAL_METRICS[metric], "value": value}
                row |= {"stderr": stderr if isinstance(stderr, int | float) else None}
                rows.append(common | row | {"n_docs": counts.get("effective")})
    if not rows:
        raise InputError(f"{path}: holds none of {', '.join(LM_EVAL_METRICS)}")
    return from_rows(rows, str(path))


def wandb(path, run: str, n_params: float, tokens: str, step: str = "_step", split: str = "train") -> Table:
    """A run's history as W&B exports it (CSV, a column for each metric): columns TASK/bpb, TASK/acc, TASK/len_norm.

    tokens: the column with training tokens, or the number of tokens in a step. Other columns are left out. Raises
    InputError with file and line.
    """
    per_step = _positive(tokens)
    rows = []
    for place, wide in _csv(Path(path)):
        at = _number(wide, step, place)
        seen = at * per_step if per_step else _number(wide, tokens, place)
        if seen <= 0:
            continue  # before training there is no D
        common = {"run": run, "split": split, "n_params": n_params, "tokens": seen, "step": at, "place": place}
        for name, text in wide.items():
            task, _, metric = (name or "").rpartition("/")
            if task and metric in ("bpb", "acc", "len_norm", "loss") and text not in ("", None):
                row = {"task": task.rsplit("/", 1)[-1], "metric": metric, "value": _number(wide, name, place)}
                rows.append(common | row)
    if not rows:
        raise InputError(f"{path}: no column TASK/bpb, TASK/acc, TASK/len_norm or TASK/loss with a value")
    return from_rows(rows, str(path))


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{text}: tokens in a step must be positive")
    return value


def _csv(path: Path):
    """(file:line, {column: text}) of every row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text: {' '.join(str(error).split())}") from None
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _number(row: dict, name: str, place: str) -> float:
    if row.get(name) in ("", None):
        raise InputError(f"{place}: no value in column {name!r}")
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}: {name} is {row[name][:40]!r}, not a finite number")
    return value
