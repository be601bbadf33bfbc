"""Points for a loss law: from a wide table (a row per run) or from the ends of the runs of a runs table."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fitting.errors import InputError
from fitting.laws import kaplan_relations as kaplan
from fitting.tables import reader, runs_table
from fitting.tables.points import ladder_points

# Names of a wide table's columns for each feature, unless the user names others.
COLUMNS = {
    "N": "params",
    "D": "tokens",
    "C": "flops",
    "S": "steps",
    "B": "batch_tokens",
    "U": "unique_tokens",
    "T": "position",
}
POSITIVE = (*COLUMNS, "y", "weights")  # features of a law of the user's own may have any sign
VALUE = "loss"
FROM_N_AND_D = "6ND"  # as a column of C: count it so, whatever columns there are
# Columns that say which runs share noise (branches of a trunk, points of a run); the first that exists is used.
UNITS = ("trunk", "parent", "run")
EXCLUDED = "excluded"
NO = ("", "0", "0.0", "false", "no")


@dataclass(frozen=True)
class LossPoints:
    """One point a run: features {"N": [n], "D": [n], ...} as far as known, y_n > 0, and groups_n, the resampled unit.

    derived: {feature that the table did not have: the formula it comes from}. weights_n: how much each point counts.
    labels: {column of settings: str[n]}. left_out: why points were dropped, in words.
    """

    features: dict[str, np.ndarray]
    y_n: np.ndarray
    groups_n: np.ndarray
    source: str
    sha256: str
    quantity: str
    n_convention: str
    left_out: tuple[str, ...] = ()
    derived: dict[str, str] = field(default_factory=dict)
    weights_n: np.ndarray | None = None
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y_n)

    def select(self, keep_n: np.ndarray, why: str) -> "LossPoints":
        """The points where keep_n; the others are counted in left_out. Raises InputError where none remains."""
        if keep_n.all():
            return self
        if not keep_n.any():
            raise InputError(f"{self.source}: no point is left: {why}")
        left_out = *self.left_out, f"{np.sum(~keep_n)} of {len(self)} points: {why}"
        return replace(
            self,
            features={k: v[keep_n] for k, v in self.features.items()},
            y_n=self.y_n[keep_n],
            groups_n=self.groups_n[keep_n],
            left_out=left_out,
            weights_n=None if self.weights_n is None else self.weights_n[keep_n],
            labels={k: v[keep_n] for k, v in self.labels.items()},
        )


@dataclass(frozen=True)
class Reading:
    """How a table of losses is read.

    columns: {feature: column} where it is not the one in COLUMNS; for a runs table columns["N"] is the count of
    parameters. y: the column of the fitted quantity. task, metric: of a runs table, what was measured. keep_excluded:
    also rows marked in a column "excluded". drop_above: leave out points with a larger y. critical: constants of
    B_crit(L) by which S_min and C_min follow from S, B and C (by default Kaplan's). curves: every row of the runs of a
    runs table instead of the ends of the decayed ones. reach: of those curves, the steps to this loss (`reached`).
    weights, labels: of a wide table, the column of how much each row counts, and columns of settings. units: the column
    of what shares noise, by default the first of UNITS. against: of a runs table, the task whose loss is L.
    """

    columns: dict[str, str] = field(default_factory=dict)
    y: str | None = None
    task: str = "validation"
    metric: str = "bpb"
    keep_excluded: bool = False
    drop_above: float | None = None
    critical: dict | None = None
    curves: bool = False
    reach: float | None = None
    weights: str | None = None
    units: str | None = None
    against: str | None = None
    labels: tuple[str, ...] = ()


def read(path, how: Reading | None = None, **settings) -> LossPoints:
    """Points of a wide table, or of a runs table's decayed runs (a folder of run directories is one).

    settings: of Reading, where how is not given. Raises InputError with file and line.
    """
    how, path = how or Reading(**settings), Path(path)
    table = None if path.is_dir() else reader.read(path)
    if table is None or set(runs_table.REQUIRED) <= set(table.header):
        return of_runs(runs_table.read(path), how)
    return of_cells(table, str(path), how)


def of_runs(table: runs_table.Table, how: Reading) -> LossPoints:
    """Points of a runs table."""
    if how.weights or how.labels:
        raise InputError(f"{table.source}: a runs table; weights and labels are columns of a wide table", "weights")
    if how.against and (how.curves or how.reach):
        raise InputError("against: is for the ends of runs, not for curves", "against")
    return _finished(_from_runs(table, how), how)


def of_cells(table: reader.Cells, source: str, how: Reading) -> LossPoints:
    """Points of a wide table that is read already."""
    return _finished(_from_wide(table, source, how), how)


def _finished(points: LossPoints, how: Reading) -> LossPoints:
    if how.drop_above is not None:
        points = points.select(points.y_n <= how.drop_above, f"{points.quantity} above {how.drop_above:g}")
    points = _completed(points, how.critical or kaplan.BATCH)
    return points if how.reach is None else reached(points, how.reach)


def reached(curves: LossPoints, loss: float) -> LossPoints:
    """The steps after which each run's curve first reaches `loss`, interpolated in ln S: sample efficiency.

    Kaplan et al. 2020, figure 2 (against N) and section 5.1 (against the batch size). Runs that start below it or
    never reach it are left out; raises InputError where all are.
    """
    if "S" not in curves.features:
        raise InputError(f"{curves.source}: steps to a loss need steps, or tokens and tokens of a batch")
    runs, rows_reached, steps = np.unique(curves.groups_n), [], []
    for run in runs:
        rows = np.flatnonzero(curves.groups_n == run)
        rows = rows[np.argsort(curves.features["S"][rows])]
        below = np.flatnonzero(curves.y_n[rows] <= loss)
        if below.size and below[0] > 0:
            pair = rows[[below[0], below[0] - 1]]  # by rising loss, as np.interp wants it
            rows_reached.append(pair[0])
            steps.append(np.exp(np.interp(loss, curves.y_n[pair], np.log(curves.features["S"][pair]))))
    missed = f"{len(runs) - len(steps)} of {len(runs)} runs: their curves do not cross {loss:g}"
    if not steps:
        raise InputError(f"{curves.source}: {missed}")
    return LossPoints(
        {k: v[rows_reached] for k, v in curves.features.items() if k in ("N", "B", "U")},
        np.array(steps),
        curves.groups_n[rows_reached],
        curves.source,
        curves.sha256,
        f"steps to {curves.quantity} {loss:g}",
        curves.n_convention,
        curves.left_out if len(steps) == len(runs) else (*curves.left_out, missed),
    )


def _from_wide(table: reader.Cells, source: str, how: Reading) -> LossPoints:
    by_name = dict(zip(table.header, table.columns, strict=True))

    def column(name: str, argument: str) -> np.ndarray:
        if name not in by_name:
            raise InputError(
                f"{source}:1: no column {name!r} for {argument}; its columns: {', '.join(by_name)}", argument
            )
        values = reader.numbers(name, by_name[name], lambda i: table.places[i], required=True)
        bad = np.flatnonzero(values <= 0)
        if bad.size and argument in POSITIVE:
            raise InputError(f"{table.places[bad[0]]}: {name} is {values[bad[0]]:g}; it must be positive")
        return values

    features = {}
    for feature, name in (COLUMNS | how.columns).items():
        if name != FROM_N_AND_D and (feature in how.columns or name in by_name):
            features[feature] = column(name, feature)
    y = how.y or VALUE
    y_n = column(y, "y")
    features["L"] = y_n if y == VALUE or VALUE not in by_name else column(VALUE, "y")
    for argument, names in (("labels", how.labels), ("groups", (how.units,) if how.units else ())):
        absent = [name for name in names if name not in by_name]
        if absent:
            raise InputError(f"{source}:1: no column {absent[0]!r}; its columns: {', '.join(by_name)}", argument)
    unit = how.units or next((u for u in UNITS if u in by_name), None)
    units = map(_text, by_name[unit]) if unit else [""] * len(y_n)
    points = LossPoints(
        features,
        y_n,
        np.array([u or f"row {i}" for i, u in enumerate(units)]),
        source,
        table.sha256,
        y,
        how.columns.get("N", COLUMNS["N"]),
        weights_n=column(how.weights, "weights") if how.weights else None,
        labels={name: np.array([_text(c).strip() for c in by_name[name]]) for name in how.labels},
    )
    if EXCLUDED in by_name and not how.keep_excluded:
        keep_n = np.array([_text(c).strip().lower() in NO for c in by_name[EXCLUDED]])
        points = points.select(keep_n, f"marked in column {EXCLUDED!r}")
    return points


def _text(cell) -> str:
    return "" if cell is None else str(cell)


def _from_runs(table: runs_table.Table, how: Reading) -> LossPoints:
    if how.y or set(how.columns) - {"N"}:
        raise InputError(
            f"{table.source}: a runs table; task and metric say what is fitted, N how parameters are counted", "y"
        )
    task, metric, against = how.task, how.metric, how.against
    for argument, name in (("task", task), ("against", against)):
        if name and name not in table["task"]:
            raise InputError(f"{table.source}: no task {name!r}; it has {', '.join(table.unique('task'))}", argument)
    convention = how.columns.get("N", "n_params")
    ends = ladder_points(table, [task, against or task], convention, metric)
    if how.curves or how.reach is not None:
        rows = table.select(split="train", task=task, metric=metric)
        features = {"N": rows[convention], "D": rows["tokens"], "S": rows["step"]}
        features |= {"C": rows["flops"]} if "flops" in rows else {}
        y_n, runs, groups_n = rows["value"], rows["run"], rows["run"].astype(str)
    else:
        features = {{"flops": "C"}.get(k, k): v for k, v in ends.features.items()}
        y_n, runs, groups_n = ends.bpb_Tn[0], ends.runs, ends.groups_n
    if "batch_tokens" in table:
        batch_tokens = dict(zip(table["run"], table["batch_tokens"], strict=True))
        features["B"] = np.array([batch_tokens[run] for run in runs])
    features["L"] = ends.bpb_Tn[1] if against else y_n
    points = LossPoints(
        features, y_n, groups_n, table.source, table.sha256, f"{metric} of {task}", convention, table.left_out
    )
    return points.select(~np.isnan(y_n + features["L"]), f"no {metric} of {task}")


def _completed(points: LossPoints, critical: dict) -> LossPoints:
    """With the features that follow from others, first rule first."""
    scale, alpha = critical["B_star"], critical["alpha_B"]
    at_critical = f"B_crit = {scale:.4g} / L^(1/{alpha:.4g})"
    rules = (
        ("D", "D = S B", ("S", "B"), lambda s, b: s * b),
        ("C", "C = 6 N D", ("N", "D"), lambda n, d: 6 * n * d),
        ("D", "D = C / (6 N)", ("C", "N"), lambda c, n: c / (6 * n)),
        ("N", "N = C / (6 D)", ("C", "D"), lambda c, d: c / (6 * d)),
        ("S", "S = D / B", ("D", "B"), lambda d, b: d / b),
        (
            "S_min",
            f"S_min = S / (1 + B_crit / B), {at_critical}",
            ("S", "B", "L"),
            lambda s, b, loss: kaplan.fewest_steps(s, b, loss, critical),
        ),
        (
            "C_min",
            f"C_min = C / (1 + B / B_crit), {at_critical}",
            ("C", "B", "L"),
            lambda c, b, loss: kaplan.least_compute(c, b, loss, critical),
        ),
    )
    features, derived = dict(points.features), {}
    for name, formula, needs, rule in rules:
        if name not in features and set(needs) <= set(features):
            features[name] = rule(*(features[k] for k in needs))
            derived[name] = formula
    return replace(points, features=features, derived=derived)
