"""The task-ladder paper's CSV exports (github.com/allenai/OLMo-ladder, src/scripts/paper/data/ladder-runs)."""

import re
from pathlib import Path

from fitting.errors import InputError
from fitting.tables.importers.metrics import csv_rows, number
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
    ("acc", re.compile(r"eval/downstream/(.+)_rc_5shot_acc")),
    ("loss", re.compile(r"eval/(.+)/CrossEntropyLoss")),
)
STEP, TOKENS, BATCH = "_step", "throughput/total_tokens", "batch_size_in_tokens"
# {file name: run} of files that are not named by their run.
PAPER_FILES = {"peteish7_eval_anneal": "7B-4T"}
PAPER_NAME = re.compile(r"(?P<size>[0-9.]+[MB])-(?P<length>[0-9.]+)(?P<unit>xC|T)(?P<rest>.*)")


def paper(folder) -> Table:
    """The paper's CSV exports: one file per run, named SIZE-MULTIPLExC.csv, with one row per evaluation.

    The split of the ladder's sixteen runs is "train", of 7B and 13B "target", of all others "extra". Task
    "mmlu_avg_test" is the weighted mean of MMLU's four categories. Table.left_out names the files and the columns
    that were not imported. Raises InputError with file and line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --source paper reads a folder of CSVs such as 190M-1xC.csv")
    files = sorted(folder.glob("*.csv"))
    runs = [file for file in files if PAPER_NAME.fullmatch(_paper_run(file))]
    if not runs:
        raise InputError(f"{folder}: no file named like 190M-1xC.csv")
    rows, unknown = [], set()
    for file in runs:
        size = PAPER_NAME.fullmatch(_paper_run(file))["size"]
        if size not in PAPER_SIZES:
            raise InputError(f"{file}: size {size!r} is not one of the paper's: {', '.join(PAPER_SIZES)}")
        wide_rows = csv_rows(file)
        rows += _paper_rows(file, wide_rows)
        unknown.update(column for column in wide_rows[0][1] if not _is_known(column))
    left_out = [f"{file}: its name is not one of a run" for file in files if file not in runs]
    groups = {}
    for column in sorted(unknown):
        prefix, _, name = column.rpartition("/")
        groups.setdefault(prefix, []).append(name)
    left_out += [f"columns {prefix + '/' if prefix else ''}: {', '.join(names)}" for prefix, names in groups.items()]
    return from_rows(rows, str(folder), tuple(left_out))


def _paper_run(file: Path) -> str:
    return PAPER_FILES.get(file.stem, file.stem)


def _is_known(column: str) -> bool:
    """Whether a column's values are in the runs table."""
    tasks = [match[1] for _, pattern in PAPER_METRICS if (match := pattern.fullmatch(column))]
    if tasks and tasks[0].startswith("mmlu_"):
        return tasks[0].removeprefix("mmlu_").removesuffix("_test") in MMLU_WEIGHTS
    return bool(tasks) or column in (STEP, TOKENS, BATCH)


def _paper_rows(file: Path, wide_rows: list[tuple[str, dict]]):
    run = _paper_run(file)
    name = PAPER_NAME.fullmatch(run)
    size, length = name["size"], float(name["length"])
    n_params, flops_per_token = PAPER_SIZES[size]
    in_ladder = size in PAPER_LADDER and length in PAPER_MULTIPLES and name["unit"] == "xC" and not name["rest"]
    split = "train" if in_ladder else "target" if size in ("7B", "13B") else "extra"
    for place, wide in wide_rows:
        step, tokens = _step_and_tokens(wide, place)
        common = {"run": run, "split": split, "size": size, "n_params": n_params, "tokens": tokens, "step": step}
        common |= {"flops": flops_per_token * tokens, "place": place}
        if name["unit"] == "xC":
            common["multiple"] = length
        values = {}
        for column, text in wide.items():
            for metric, pattern in PAPER_METRICS:
                if text and (match := pattern.fullmatch(column)):
                    values[match[1], metric] = number(wide, column, place)
        for (task, metric), value in _with_mmlu(values).items():
            yield common | {"task": task, "metric": metric, "value": value}


def _step_and_tokens(wide: dict, place: str) -> tuple[float, float]:
    """A row's step and training tokens; one that the file lacks follows from the other and the batch size.

    (peteish7_eval_anneal.csv has no step; the files of a second seed have no tokens.)
    """
    if STEP in wide:
        step = number(wide, STEP, place)
        return step, number(wide, TOKENS, place) if wide.get(TOKENS) else step * number(wide, BATCH, place)
    if TOKENS not in wide or BATCH not in wide:
        raise InputError(f"{place}: no column {STEP!r}, and not both of {TOKENS!r} and {BATCH!r} to find it from")
    tokens, batch = number(wide, TOKENS, place), number(wide, BATCH, place)
    if batch < 1:
        raise InputError(f"{place}: {BATCH} is {batch:g}; it must be at least 1")
    return float(round(tokens / batch)), tokens


def _with_mmlu(values: dict) -> dict:
    """{(task, metric): value} with MMLU's mean in place of its categories; without MMLU if a category is missing."""
    combined = {key: value for key, value in values.items() if not key[0].startswith("mmlu_")}
    for metric in ("bpb", "len_norm"):
        by_category = [values.get((f"mmlu_{category}_test", metric)) for category in MMLU_WEIGHTS]
        if None not in by_category:
            total = sum(weight * value for weight, value in zip(MMLU_WEIGHTS.values(), by_category, strict=True))
            combined["mmlu_avg_test", metric] = total / sum(MMLU_WEIGHTS.values())
    return combined
