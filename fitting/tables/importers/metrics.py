"""Metrics that other projects measure, by the names of the runs table; and the notes about what was left out."""

import math
from collections.abc import Iterable

from fitting.errors import InputError
from fitting.tables import reader

# {name elsewhere: name in the runs table}
NAMES = {
    "acc": "acc",
    "acc_norm": "len_norm",
    "len_norm": "len_norm",
    "bits_per_byte": "bpb",
    "bpb": "bpb",
    "exact_match": "exact_match",
    "f1": "f1",
    "loss": "loss",
}
# Metrics of composer and llm-foundry, as they stand in their JSON and in W&B histories.
FOUNDRY_NAMES = {
    "InContextLearningLMAccuracy": "acc",
    "InContextLearningMultipleChoiceAccuracy": "acc",
    "InContextLearningQAAccuracy": "exact_match",
    "InContextLearningGenerationExactMatchAccuracy": "exact_match",
    "LanguageCrossEntropy": "loss",
}
SHARES = ("acc", "len_norm", "exact_match", "f1")


def check_share(metric: str, value: float, place: str) -> None:
    """Raises InputError if a share of questions, such as an accuracy, is not between 0 and 1."""
    if metric in SHARES and not 0 <= value <= 1:
        raise InputError(f"{place}: {metric} is {value:g}; it must lie between 0 and 1 (percent? divide by 100)")


def is_number(value) -> bool:
    """Whether a value of a JSON file is a finite number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def number(row: dict, name: str, place: str) -> float:
    """The number in a column of a CSV's row. Raises InputError if there is no such column or no number in it."""
    if name not in row:
        raise InputError(f"{place}: no column {name!r}; there are: {', '.join(column for column in row if column)}")
    if row[name] in (None, ""):
        raise InputError(f"{place}: no value in column {name!r}")
    return float(reader.numbers(name, [row[name]], [place], required=True)[0])


def csv_rows(path) -> list[tuple[str, dict]]:
    """(file:line, {column: text}) of every row."""
    table = reader.read(path)
    rows = zip(*table.columns, strict=True)
    return [(place, dict(zip(table.header, row, strict=True))) for place, row in zip(table.places, rows, strict=True)]


def listed(names: Iterable[str]) -> str:
    """Distinct names in order: "a, b, c"."""
    return ", ".join(sorted(dict.fromkeys(names)))
