"""Accuracies in a runs table: which metric a task has, whether it is above chance, and its pairs with the loss."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from fitting.tables.points import last_rows_of
from fitting.tables.runs_table import Table, smoothed

# Length-normalised where a task has both, as the task-ladder paper has it.
ACCURACY_METRICS = ("len_norm", "acc")
# Accuracy by guessing of well-known tasks, by the start of their names (1 / number of choices), for tables without it.
KNOWN_CHANCE = {"piqa": 1 / 2, "boolq": 1 / 2, "winogrande": 1 / 2, "socialiqa": 1 / 3, "siqa": 1 / 3, "csqa": 1 / 5}
KNOWN_CHANCE |= dict.fromkeys(("arc_", "arc-", "hellaswag", "openbookqa", "mmlu"), 1 / 4)
CHECKPOINTS, SKIP_SHARE, WINDOW = 8, 0.1, 5
# A task is above chance if this many runs are, each at this level of significance after Bonferroni's correction.
MIN_RUNS_ABOVE_CHANCE, SIGNIFICANCE = 3, 0.05


@dataclass(frozen=True)
class Chance:
    """Whether a task's accuracy is above chance (level: accuracy by guessing), and why, as a sentence.

    tested: False where the table does not tell enough for a test; the accuracy is then taken to be above chance.
    """

    level: float | None
    above: bool
    why: str
    tested: bool = True


def metric_of(rows: Table, task: str) -> str | None:
    """The first of ACCURACY_METRICS that a task has; None where it has none."""
    return next(iter(_metrics(rows, task)), None)


def _metrics(rows: Table, task: str) -> list[str]:
    measured = rows.select(task=task).unique("metric")
    return [metric for metric in ACCURACY_METRICS if metric in measured]


def accuracy_read(rows: Table, task: str) -> tuple[str, Chance] | None:
    """(metric, whether it is above chance) of the accuracy that forecasts read; None where the task has none.

    It is metric_of, but the next metric where the runs are at chance by the first and above it by the next: dividing by
    the length misleads where choices differ by their length alone, because spaces before a line are cheap per byte.
    """
    first = None
    for metric in _metrics(rows, task):
        chance = chance_of(rows, task, metric)
        if chance.above and first:
            return metric, replace(chance, why=f"{chance.why}; accuracy is {metric}, because {first[0]} is at chance")
        if chance.above:
            return metric, chance
        first = first or (metric, chance)
    return first


def known_chance(task: str) -> float | None:
    """Accuracy by guessing of a well-known task; None of any other."""
    return next((level for start, level in KNOWN_CHANCE.items() if task.lower().startswith(start)), None)


def rows_read(rows: Table, task: str, metric: str) -> Table:
    """The rows of a task that step 2 reads."""
    return rows.select(task=task, metric=["bpb", metric])


def pairs_by_run(rows: Table, metric: str, loss: str = "bpb") -> dict[str, np.ndarray]:
    """{run: [k, 2]}: loss and accuracy of one task at the k steps that have both, in the order of the steps."""
    bpb, acc = rows.select(metric=loss), rows.select(metric=metric)
    bpb_of = dict(zip(zip(bpb["run"], bpb["step"], strict=True), bpb["value"], strict=True))
    triples = {}
    for run, step, value in zip(acc["run"], acc["step"], acc["value"], strict=True):
        if (run, step) in bpb_of:
            triples.setdefault(run, []).append((step, bpb_of[run, step], value))
    return {run: np.array(sorted(steps))[:, 1:] for run, steps in triples.items()}


def checkpoints_of(rows: Table, metric: str, loss: str) -> dict[str, np.ndarray]:
    """{run: [k, 2]}: loss and accuracy of one task at up to CHECKPOINTS evenly spaced steps of each run.

    As the task-ladder paper has it: without the first tenth of a run, each value a trailing mean over five rows.
    """
    kept = {}
    for run, pairs in pairs_by_run(rows, metric, loss).items():
        skipped = int(np.ceil(SKIP_SHARE * len(pairs))) if len(pairs) > 1 else 0
        pairs = smoothed(pairs[skipped:], WINDOW)
        kept[run] = pairs[np.unique(np.linspace(0, len(pairs) - 1, CHECKPOINTS).round().astype(int))]
    return kept


def chance_of(rows: Table, task: str, metric: str) -> Chance:
    """Whether the accuracy of a task is above chance in these runs: a binomial test of that of every decayed run
    against the larger of chance level and majority class."""
    ends = last_rows_of(rows, task, metric)
    stated = ends["chance"] if "chance" in ends else np.array([])
    level = float(stated[0]) if len(stated) and not np.isnan(stated[0]) else known_chance(task)
    taken = "" if level is None else f"; taken as {level:.3g}" + ("" if len(stated) else ", from the task's name")
    if "n_docs" not in ends or "chance" not in ends or not len(ends):
        return Chance(level, True, f"chance not tested: the table has no n_docs and chance{taken}", tested=False)
    chance, n_docs, acc = ends["chance"], ends["n_docs"], ends["value"]
    floor = np.fmax(chance, ends["majority"]) if "majority" in ends else chance
    if np.isnan(floor).any() or np.isnan(n_docs).any():
        return Chance(level, True, f"chance not tested: n_docs or chance is missing in some rows{taken}", tested=False)
    # P(as many correct answers or more), the binomial distribution as an incomplete beta function. (scipy.stats takes
    # half a second to import.)
    correct_n = np.round(acc * n_docs)
    p_n = np.where(correct_n > 0, special.betainc(np.maximum(correct_n, 1), n_docs - correct_n + 1, floor), 1.0)
    above, best = int((p_n < SIGNIFICANCE / len(p_n)).sum()), int(acc.argmax())
    is_above = above >= min(MIN_RUNS_ABOVE_CHANCE, len(p_n))
    why = (
        f"{above} of {len(p_n)} runs above chance; the best has {acc[best]:.3f} on"
        f" {n_docs[best]:.0f} docs against {floor[best]:.3f} (binomial p = {p_n[best]:.2g})"
    )
    return Chance(float(chance[0]), is_above, why if is_above else f"at chance: {why}")
