"""The measurements of a ladder as arrays, one point for each run and task, and the targets to predict."""

from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.tables import comparable
from fitting.tables.quantities import quantity
from fitting.tables.runs_table import SHARES, Table

SAME = 0.005  # relative difference below which two N, or two D, are the same
CONVENTIONS = ("n_params", "n_non_embedding", "n_total")
# A run's point is the mean of its last evaluations: at most END_ROWS, from the last END_SHARE of its steps, where the
# learning rate is near its end and the bpb changes little.
END_ROWS, END_SHARE = 5, 0.03
EARLY = (
    f"not measured at the last step of a run, but in the last {END_SHARE:.0%} of its steps: D is that of its last row"
)


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
        if self.rows is None:
            return ()
        rows = self.rows.select(task=task)
        early = [] if rows["final"].any() or not len(rows) else [EARLY]
        return (*early, *comparable.lines(rows, *others, trunks=False))


def parse_target(text: str) -> Target:
    """The target that "N,D", "NAME=N,D" or "NAME=N,D,FLOPS" describes; "7B,4T" has the name 7B-4T.

    Raises InputError for any other text.
    """
    name, equals, numbers = text.partition("=")
    if not equals and text.count(",") == 1:
        name, numbers = text.replace(" ", "").replace(",", "-"), text
    try:
        values = [quantity(v) for v in numbers.split(",")]
    except InputError:
        values = []
    if not name or len(values) not in (2, 3) or not all(0 < v < np.inf for v in values):
        raise InputError(f"target {text!r}: write N,D (7B,4T), NAME=N,D or NAME=N,D,FLOPS, positive numbers", "target")
    if min(values[:2]) < comparable.FEW:
        raise InputError(f"target {text!r}: N and D are numbers of parameters and tokens, such as 6.9B,3.9T", "target")
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
    """The last rows of the target's own run: the one with its name, or else one whose N and D are within 0.5 % of the
    target's."""
    rows = last_rows_of(table.select(split="target"), task, metric)
    same_name = rows["run"] == target.name
    same_size = np.abs(rows[target.n_is] / target.N - 1) < SAME
    same_size &= np.abs(rows["tokens"] / target.D - 1) < SAME
    return rows.select(same_name if same_name.any() else same_size)


def last_rows_of(table: Table, task: str, metric: str) -> Table:
    """The last row of a task in every decayed run, if it lies within the last END_SHARE of the run's steps."""
    rows, ends = table.select(task=task, metric=metric), table.select(final=True)
    used = _end_rows(rows, dict(zip(ends["run"], ends["step"], strict=True)), 1)
    return rows.select(np.isin(np.arange(len(rows)), [series[-1] for series in used.values()]))


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
    last `last_rows` rows. A run's D is that of the last row used. Raises InputError if there is no such run or task, or
    a value is not positive.
    """
    check_convention(table, n_convention)
    table = table.select(split=list(splits))
    rows, ends = table.select(metric=metric), table.select(final=True)
    used = _end_rows(rows, dict(zip(ends["run"], ends["step"], strict=True)), last_rows)
    if not used:
        raise InputError(f"{table.source}: {_why_no_point(table, rows, ends, metric, splits[0])}")
    last_row = sorted(series[-1] for series in used.values())
    known = list(dict.fromkeys(rows["task"][last_row].tolist()))
    tasks = known if tasks is None else list(tasks)
    for task in tasks:
        if task not in known:
            raise InputError(f"{table.source}: {_why_no_task(rows, ends, task, known)}", "tasks")
    end_row = {}  # {run: its last row of the tasks, or of any task where it has none of them}
    for i in sorted(last_row, key=lambda i: (rows["task"][i] in tasks, rows["step"][i], -i)):
        end_row[rows["run"][i]] = i
    end = rows.select(np.isin(np.arange(len(rows)), list(end_row.values())))
    order = np.lexsort([end["run"].astype(str), end["tokens"], end[n_convention]])
    runs = end["run"][order].tolist()
    bpb_Tn, is_used = np.full((len(tasks), len(runs)), np.nan), np.zeros(len(rows), bool)
    for (run, task), series in used.items():
        if task in tasks:
            bpb_Tn[tasks.index(task), runs.index(run)] = np.mean(rows["value"][series])
            is_used[series] = True
    if metric not in SHARES and np.nanmin(bpb_Tn) <= 0:
        raise InputError(f"{table.source}: {metric} is {np.nanmin(bpb_Tn):g}; it must be positive")
    parents = end["parent"][order] if "parent" in end else np.full(len(runs), "")
    sizes = end["size"][order] if "size" in end else [f"{n:.3g}" for n in end[n_convention][order]]
    features = {"N": end[n_convention][order], "D": end["tokens"][order]}
    if "flops" in end and not np.isnan(end["flops"]).any():
        features["flops"] = end["flops"][order]
    groups_n = np.array([parent or run for parent, run in zip(parents, runs, strict=True)])
    return Points(tuple(tasks), tuple(runs), tuple(sizes), features, groups_n, bpb_Tn, rows.select(is_used))


def _end_rows(rows: Table, last_step: dict, last_rows: int | None) -> dict[tuple, list[int]]:
    """{(run, task): indices of the rows that its point is the mean of}, for the runs in last_step; without those whose
    last row lies before the last END_SHARE of the run's steps."""
    runs, tasks, steps = rows["run"].tolist(), rows["task"].tolist(), rows["step"]
    ends = np.array([last_step.get(run, np.nan) for run in runs], float)
    is_end = (steps >= (1 - END_SHARE) * ends) & (steps <= ends)
    used = np.flatnonzero(steps <= ends if last_rows else is_end)
    indices = {}
    for i in used[np.argsort(steps[used], kind="stable")].tolist():
        indices.setdefault((runs[i], tasks[i]), []).append(i)
    reaches_end = {(runs[i], tasks[i]) for i in np.flatnonzero(is_end).tolist()}
    return {key: series[-(last_rows or END_ROWS) :] for key, series in indices.items() if key in reaches_end}


def _why_no_point(table: Table, rows: Table, ends: Table, metric: str, split: str) -> str:
    if not len(table):
        return f'no row in split "{split}"'
    if not len(rows):
        text = f"no metric {metric!r}; it has {', '.join(table.unique('metric'))}"
        if metric == "bpb" and any(name in table["metric"] for name in ("acc", "len_norm")):
            text += ". From accuracy alone: ladder predict; all else needs bits per byte (bpb)"
        return text
    if not len(ends):
        return f'no final row in split "{split}"; a fit needs runs decayed to their end'
    return f"no {metric} near the end of a run: {_last_measured(rows, ends)}"


def _why_no_task(rows: Table, ends: Table, task: str, known: list[str]) -> str:
    if task not in rows["task"]:
        return f"no task {task!r}; it has {', '.join(known)}"
    return f"no {task!r} near the end of a run: {_last_measured(rows.select(task=task), ends)}"


def _last_measured(rows: Table, ends: Table) -> str:
    """Where the last of some rows lies in its run, for a run with an end."""
    last_step = dict(zip(ends["run"], ends["step"], strict=True))
    of_runs = rows.select(run=list(last_step))
    if not len(of_runs):
        return f"runs with a final row have no such row ({rows['run'][0]} has no final row)"
    i = int(np.argmax(of_runs["step"] / [max(last_step[run], 1) for run in of_runs["run"]]))
    run, step = of_runs["run"][i], of_runs["step"][i]
    return f"{run} has it at step {step:.15g} of {last_step[run]:.15g}, not in the last {END_SHARE:.0%}"


def check_convention(table: Table, n_convention: str) -> None:
    """Raises InputError if n_convention is not a count of parameters, or the table lacks it."""
    if n_convention not in CONVENTIONS or n_convention not in table:
        known = ", ".join(c for c in CONVENTIONS if c in table)
        raise InputError(f"{table.source}: no count of parameters {n_convention!r}; it has {known}", "n")
