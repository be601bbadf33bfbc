"""The measurements of a ladder as arrays, one point for each run and task, and the targets to predict."""

from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.tables import comparable
from fitting.tables.runs_table import Table

SAME = 0.005  # relative difference below which two N, or two D, are the same
CONVENTIONS = ("n_params", "n_non_embedding", "n_total")
# A run's point is the mean of its last evaluations: at most END_ROWS, from the last END_SHARE of its steps, where the
# learning rate is near its end and the bpb changes little.
END_ROWS, END_SHARE = 5, 0.03


@dataclass(frozen=True)
class Target:
    """A model to predict.

    N: parameters. n_is: the column of the runs table that counts them the same way ("n_params", "n_non_embedding" or
    "n_total"). D: training tokens. C: training FLOPs, only for laws of C. Raises InputError for a number that is not
    positive.
    """

    name: str
    N: float
    D: float
    C: float | None = None
    n_is: str = "n_params"

    def __post_init__(self):
        for name, value in {"N": self.N, "D": self.D, "C": self.C}.items():
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"target {self.name}: {name} = {value:g}; it must be a positive number", "target")
        if self.n_is not in CONVENTIONS:
            raise InputError(f"target {self.name}: n_is = {self.n_is!r}; use one of {', '.join(CONVENTIONS)}", "target")

    @property
    def features(self) -> dict:
        return {"N": self.N, "D": self.D}

    def json(self) -> dict:
        numbers = {"name": self.name, "n_params": self.N, "tokens": self.D}
        return numbers if self.C is None else numbers | {"flops": self.C}


@dataclass(frozen=True)
class Points:
    """The ends of n decayed runs (sorted by N, then D) in T tasks.

    features: "N", "D" and, if the table has it, "flops". bpb_Tn: bits per byte (or another metric), nan if a task was
    not evaluated. groups_n: the trunk of a branch, or the run itself. rows: those that the values are means of.
    """

    tasks: tuple[str, ...]
    runs: tuple[str, ...]
    sizes: tuple[str, ...]
    features: dict[str, np.ndarray]
    groups_n: np.ndarray
    bpb_Tn: np.ndarray
    rows: Table | None = None

    def flags(self, task: str, *others: Table) -> tuple[str, ...]:
        """Reasons why the points of a task do not compare, with each other or with further rows."""
        return () if self.rows is None else comparable.lines(self.rows.select(task=task), *others, trunks=False)


def parse_target(text: str) -> Target:
    """The target that "NAME=N,D" or "NAME=N,D,FLOPS" describes. Raises InputError for any other text."""
    name, _, numbers = text.partition("=")
    try:
        values = [float(v) for v in numbers.split(",")]
    except ValueError:
        values = []
    if not name or len(values) not in (2, 3) or not all(0 < v < np.inf for v in values):
        raise InputError(
            f"target {text!r}: write NAME=N,D or NAME=N,D,FLOPS, positive numbers, such as 7B-4T=6.9e9,3.9e12", "target"
        )
    return Target(name.strip(), *values)


def targets_of(table: Table, n_convention: str = "n_params") -> list[Target]:
    """The targets in a table: its runs of split "target", under the names of the runs."""
    check_convention(table, n_convention)
    rows = table.select(split="target", final=True)
    targets = []
    for run in rows.unique("run"):
        ends = rows.select(run=run)
        targets.append(Target(run, float(ends[n_convention][0]), float(ends["tokens"].max()), n_is=n_convention))
    return targets


def measured(table: Table, target: Target, task: str, metric: str) -> float | None:
    """The last value of the target's own run in the table, or None if the table has none."""
    values = measured_rows(table, target, task, metric)["value"]
    return float(values[-1]) if len(values) else None


def measured_rows(table: Table, target: Target, task: str, metric: str) -> Table:
    """The final rows of the target's own run: the one with its name, or else one whose N and D are within 0.5 % of the
    target's."""
    rows = table.select(split="target", final=True, task=task, metric=metric)
    same_name = rows["run"] == target.name
    same_size = np.abs(rows[target.n_is] / target.N - 1) < SAME
    same_size &= np.abs(rows["tokens"] / target.D - 1) < SAME
    return rows.select(same_name if same_name.any() else same_size)


def ladder_points(
    table: Table,
    tasks: list[str] | None,
    n_convention: str,
    metric: str = "bpb",
    splits: tuple[str, ...] = ("train",),
    last_rows: int | None = None,
) -> Points:
    """One value for each task and each decayed run of some splits.

    A value is the mean of a run's last END_ROWS rows within the last END_SHARE of its steps; with last_rows, of its
    last `last_rows` rows. Raises InputError if there is no such run or task, or a value is not positive.
    """
    check_convention(table, n_convention)
    rows = table.select(split=list(splits), metric=metric)
    ends = rows.select(rows["final"])
    if not len(ends):
        raise InputError(
            f'{table.source}: no final row with metric {metric!r} in split "{splits[0]}"; a fit needs runs decayed to'
            " their end"
        )
    known = ends.unique("task")
    tasks = known if tasks is None else list(tasks)
    for task in tasks:
        if task not in known:
            raise InputError(f"{table.source}: no task {task!r}; it has {', '.join(known)}", "tasks")
    order = np.lexsort([ends["run"].astype(str), ends["tokens"], ends[n_convention]])
    runs = list(dict.fromkeys(ends["run"][order].tolist()))
    first_row = [int(np.flatnonzero(ends["run"] == run)[0]) for run in runs]
    last_step = dict(zip(ends["run"], ends["step"], strict=True))
    bpb_Tn, is_used = np.full((len(tasks), len(runs)), np.nan), np.zeros(len(rows), bool)
    for (run, task), used in _end_rows(rows, last_step, last_rows).items():
        if task in tasks:
            bpb_Tn[tasks.index(task), runs.index(run)] = np.mean(rows["value"][used])
            is_used[used] = True
    if np.nanmin(bpb_Tn) <= 0:
        raise InputError(f"{table.source}: {metric} is {np.nanmin(bpb_Tn):g}; it must be positive")
    parents = ends["parent"][first_row] if "parent" in ends else np.full(len(runs), "")
    sizes = ends["size"][first_row] if "size" in ends else [f"{n:.3g}" for n in ends[n_convention][first_row]]
    features = {"N": ends[n_convention][first_row], "D": ends["tokens"][first_row]}
    if "flops" in ends and not np.isnan(ends["flops"][first_row]).any():
        features["flops"] = ends["flops"][first_row]
    groups_n = np.array([parent or run for parent, run in zip(parents, runs, strict=True)])
    return Points(tuple(tasks), tuple(runs), tuple(sizes), features, groups_n, bpb_Tn, rows.select(is_used))


def _end_rows(rows: Table, last_step: dict, last_rows: int | None) -> dict[tuple, list[int]]:
    """{(run, task): indices of the rows that its point is the mean of}, for the runs in last_step."""
    indices = {}
    for i in np.argsort(rows["step"], kind="stable"):
        run, step = rows["run"][i], rows["step"][i]
        if run not in last_step or step > last_step[run]:
            continue
        if last_rows or step >= (1 - END_SHARE) * last_step[run]:
            indices.setdefault((run, rows["task"][i]), []).append(i)
    return {key: series[-(last_rows or END_ROWS) :] for key, series in indices.items()}


def check_convention(table: Table, n_convention: str) -> None:
    """Raises InputError if n_convention is not a count of parameters, or the table lacks it."""
    if n_convention not in CONVENTIONS or n_convention not in table:
        known = ", ".join(c for c in CONVENTIONS if c in table)
        raise InputError(f"{table.source}: no count of parameters {n_convention!r}; it has {known}", "n")
