"""Other projects' tables as runs tables: the task-ladder paper's CSVs, lm-evaluation-harness results, W&B histories."""

import json
import math
import re
from pathlib import Path

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.runs_table import Table, from_rows

# Bhagia et al. 2024: (parameters without the input embedding, training FLOPs per token by their exact count, not 6N).
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
# Share of MMLU's questions in each category: the paper's weights for the mean of bpb and of accuracy.
MMLU_WEIGHTS = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
PAPER_METRICS = (
    ("bpb", re.compile(r"eval/downstream_bpb/(.+)_rc_5shot_bpb")),
    ("len_norm", re.compile(r"eval/downstream/(.+)_rc_5shot_len_norm")),
    ("loss", re.compile(r"eval/(.+)/CrossEntropyLoss")),
)
# {file name: run} of files that are not named by their run.
PAPER_FILES = {"peteish7_eval_anneal": "7B-4T"}
PAPER_NAME = re.compile(r"(?P<size>[0-9.]+[MB])-(?P<length>[0-9.]+)(?P<unit>xC|T)(?P<rest>.*)")


def paper(folder) -> Table:
    """The paper's CSV exports: one file per run, named SIZE-MULTIPLExC.csv, with one row per evaluation.

    The split of the ladder's sixteen runs is "train", of 7B and 13B "target", of all others "extra". Task
    "mmlu_avg_test" is the weighted mean of MMLU's four categories. Raises InputError with file and line.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.glob("*.csv") if PAPER_NAME.fullmatch(_paper_run(p)))
    if not files:
        raise InputError(f"{folder}: no file named like 190M-1xC.csv")
    return from_rows([row for file in files for row in _paper_rows(file)], str(folder))


def _paper_run(file: Path) -> str:
    return PAPER_FILES.get(file.stem, file.stem)


def _paper_rows(file: Path):
    run = _paper_run(file)
    name = PAPER_NAME.fullmatch(run)
    size, length = name["size"], float(name["length"])
    if size not in PAPER_SIZES:
        raise InputError(f"{file}: size {size!r} is not one of the paper's: {', '.join(PAPER_SIZES)}")
    n_params, flops_per_token = PAPER_SIZES[size]
    in_ladder = size in PAPER_LADDER and length in PAPER_MULTIPLES and name["unit"] == "xC" and not name["rest"]
    split = "train" if in_ladder else "target" if size in ("7B", "13B") else "extra"
    for place, wide in _csv_rows(file):
        step = _number(wide, "_step", place)
        if wide.get("throughput/total_tokens"):
            tokens = _number(wide, "throughput/total_tokens", place)
        else:
            tokens = step * _number(wide, "batch_size_in_tokens", place)
        common = {"run": run, "split": split, "size": size, "n_params": n_params, "tokens": tokens, "step": step}
        common |= {"flops": flops_per_token * tokens, "place": place}
        if name["unit"] == "xC":
            common["multiple"] = length
        values = {}
        for column, text in wide.items():
            for metric, pattern in PAPER_METRICS:
                if text and (match := pattern.fullmatch(column)):
                    values[match[1], metric] = _number(wide, column, place)
        for (task, metric), value in _with_mmlu(values).items():
            yield common | {"task": task, "metric": metric, "value": value}


def _with_mmlu(values: dict) -> dict:
    """{(task, metric): value} with MMLU's mean in place of its categories; without MMLU if a category is missing."""
    combined = {key: value for key, value in values.items() if not key[0].startswith("mmlu_")}
    for metric in ("bpb", "len_norm"):
        by_category = [values.get((f"mmlu_{category}_test", metric)) for category in MMLU_WEIGHTS]
        if None not in by_category:
            total = sum(weight * value for weight, value in zip(MMLU_WEIGHTS.values(), by_category, strict=True))
            combined["mmlu_avg_test", metric] = total / sum(MMLU_WEIGHTS.values())
    return combined


# {metric of lm-evaluation-harness: ours}
LM_EVAL_METRICS = {"acc": "acc", "acc_norm": "len_norm", "bits_per_byte": "bpb"}


def lm_eval(path, run: str, n_params: float, tokens: float, step: float = 0) -> Table:
    """One result file of lm-evaluation-harness: a run's evaluations at one step.

    Keeps acc, acc_norm (as "len_norm") and bits_per_byte (as "bpb"), with standard errors and numbers of documents.
    Raises InputError if the file is not such a result or holds none of these metrics.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = content["results"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a result of lm-evaluation-harness ({type(error).__name__}: {error})") from None
    common = {"run": run, "n_params": n_params, "tokens": tokens, "step": step, "place": str(path)}
    rows = []
    for task, metrics in results:
        counts = (content.get("n-samples") or {}).get(task) or {}
        for name, value in metrics.items():
            metric, _, kind = name.partition(",")
            if metric in LM_EVAL_METRICS and isinstance(value, int | float) and math.isfinite(value):
                stderr = metrics.get(f"{metric}_stderr,{kind}")
                row = {"task": task, "metric": LM_EVAL_METRICS[metric], "value": value}
                row |= {"stderr": stderr if isinstance(stderr, int | float) else None}
                rows.append(common | row | {"n_docs": counts.get("effective")})
    if not rows:
        raise InputError(f"{path}: holds none of the metrics {', '.join(LM_EVAL_METRICS)}")
    return from_rows(rows, str(path))


def wandb(path, run: str, n_params: float, tokens: str) -> Table:
    """A run's history as W&B exports it: CSV with a column "_step" and columns TASK/bpb, TASK/acc, TASK/len_norm or
    TASK/loss; other columns are ignored.

    tokens: the column with training tokens, or the number of tokens in a step. Raises InputError with file and line.
    """
    try:
        tokens_per_step = float(tokens)
    except ValueError:
        tokens_per_step = None
    if tokens_per_step is not None and not 0 < tokens_per_step < math.inf:
        raise InputError(f"{tokens}: tokens in a step must be positive")
    rows = []
    for place, wide in _csv_rows(Path(path)):
        step = _number(wide, "_step", place)
        tokens_seen = step * tokens_per_step if tokens_per_step else _number(wide, tokens, place)
        if tokens_seen <= 0:
            continue  # an evaluation before training: laws need D > 0
        common = {"run": run, "n_params": n_params, "tokens": tokens_seen, "step": step, "place": place}
        for column, text in wide.items():
            task, _, metric = column.rpartition("/")
            if task and metric in ("bpb", "acc", "len_norm", "loss") and text:
                row = {"task": task.rsplit("/", 1)[-1], "metric": metric, "value": _number(wide, column, place)}
                rows.append(common | row)
    if not rows:
        raise InputError(f"{path}: no column TASK/bpb, TASK/acc, TASK/len_norm or TASK/loss with a value")
    return from_rows(rows, str(path))


def _csv_rows(path: Path):
    """(file:line, {column: text}) of every row."""
    table = reader.read(path)
    for place, *cells in zip(table.places, *table.columns, strict=True):
        yield place, dict(zip(table.header, cells, strict=True))


def _number(row: dict, name: str, place: str) -> float:
    if not row.get(name):
        raise InputError(f"{place}: no value in column {name!r}")
    return float(reader.numbers(name, [row[name]], [place], required=True)[0])
