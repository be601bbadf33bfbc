"""Points for a loss law: from a wide table (a row per run) or from the ends of the runs of a runs table."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fitting.errors import InputError
from fitting.laws import kaplan_relations as kaplan
from fitting.tables import reader, runs_table
from fitting.tables.points import ladder_points

# Where a wide table has a law's features, unless the user names other columns.
COLUMNS = {
    "N": "params",
    "D": "tokens",
    "C": "flops",
    "S": "steps",
    "B": "batch_tokens",
    "U": "unique_tokens",
    "T": "position",
}
VALUE = "loss"
FROM_N_AND_D = "6ND"  # as a column of C: count it so, whatever columns there are
# Columns that say which runs share noise, first found: branches of a trunk, points of a run.
UNITS = ("trunk", "parent", "run")
EXCLUDED = "excluded"
NO = ("", "0", "0.0", "false", "no")


@dataclass(frozen=True)
class LossPoints:
    """One point a run: features {"N": [n], "D": [n], ...} as far as known, y_n > 0, and the unit it is drawn by.

    derived: {feature that the table did not have: the formula it comes from}. weights_n: how much each point counts.
    labels: {column of settings: str[n]}.
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
        """The points where keep_n; the others are counted in left_out."""
        if keep_n.all():
            return self
        if not keep_n.any():
            raise InputError(f"{self.source}: no point is left: {why}")
        left = *self.left_out, f"{np.sum(~keep_n)} of {len(self)} points: {why}"
        features = {k: v[keep_n] for k, v in self.features.items()}
        kept = {"y_n": self.y_n[keep_n], "groups_n": self.groups_n[keep_n], "left_out": left}
        weights_n = None if self.weights_n is None else self.weights_n[keep_n]
        labels = {k: v[keep_n] for k, v in self.labels.items()}
        return replace(self, features=features, weights_n=weights_n, labels=labels, **kept)


def read(
    path: str,
    columns: dict[str, str] | None = None,
    y: str | None = None,
    *,
    task: str = "validation",
    metric: str = "bpb",
    keep_excluded: bool = False,
    drop_above: float | None = None,
    critical: dict | None = None,
    curves: bool = False,
    reach: float | None = None,
    weights: str | None = None,
    against: str | None = None,
    labels: tuple[str, ...] = (),
) -> LossPoints:
    """Points of a wide table, or of a runs table's decayed runs (a folder of run directories is one).

    columns: {feature: column} where it is not COLUMNS's; y: the fitted column. For a runs table columns["N"] is
    the count of parameters, and task and metric say what is fitted. A wide table's rows marked in a column
    "excluded" are left out unless keep_excluded; drop_above: points with a larger y are, too. critical: constants of
    B_crit(L) by which S_min and C_min follow from S, B and C (Kaplan's). curves: every row of a runs table's runs
    instead of the ends of the decayed ones. reach: of those curves, the steps to this loss instead (`reached`).
    weights, labels: a wide table's column of how much each row counts, and its columns of settings. against: a runs
    table's task whose loss is L. Raises InputError.
    """
    if against and (curves or reach):
        raise InputError("--against: is of the ends of runs, not of curves")
    columns = {k: v for k, v in (columns or {}).items() if v}
    path = Path(path)
    found = None if path.is_dir() else reader.read(path)
    if found is None or set(runs_table.REQUIRED) <= set(found.header):
        if weights or labels:
            raise InputError(f"{path}: a runs table; --weights and --vary name columns of a wide table")
        points = _from_runs(runs_table.read(path), columns, y, task, metric, curves or reach is not None, against)
    else:
        points = _from_wide(found, str(path), columns, y, keep_excluded, weights, labels)
    if drop_above is not None:
        points = points.select(points.y_n <= drop_above, f"{points.quantity} above {drop_above:g}")
    points = _completed(points, critical or kaplan.BATCH)
    return points if reach is None else reached(points, reach)


def reached(curves: LossPoints, loss: float) -> LossPoints:
    """The steps after which each run's curve first is at `loss`, in ln S between its points: sample efficiency.

    Kaplan et al. 2020, figure 2 (against N) and section 5.1 (against the batch size). Runs that start below it or
    never come to it are left out; raises InputError where all are.
    """
    if "S" not in curves.features:
        raise InputError(f"{curves.source}: steps to a loss need steps, or tokens and tokens of a batch")
    runs, at, steps = np.unique(curves.groups_n), [], []
    for run in runs:
        rows = np.flatnonzero(curves.groups_n == run)
        rows = rows[np.argsort(curves.features["S"][rows])]
        below = np.flatnonzero(curves.y_n[rows] <= loss)
        if below.size and below[0] > 0:
            pair = rows[[below[0], below[0] - 1]]  # by rising loss, as np.interp wants it
            at.append(pair[0])
            steps.append(np.exp(np.interp(loss, curves.y_n[pair], np.log(curves.features["S"][pair]))))
    left = f"{len(runs) - len(at)} of {len(runs)} runs: their curves do not cross {loss:g}"
    if not at:
        raise InputError(f"{curves.source}: {left}")
    features = {k: v[at] for k, v in curves.features.items() if k in ("N", "B", "U")}
    left_out = curves.left_out if len(at) == len(runs) else (*curves.left_out, left)
    quantity = f"steps to {curves.quantity} {loss:g}"
    return LossPoints(
        features, np.array(steps), curves.groups_n[at], curves.source, curves.sha256, quantity, curves.n_convention,
        left_out,
    )  # fmt: skip


def _from_wide(
    found: reader.Cells, source: str, columns: dict, y: str | None, keep_excluded: bool, weights: str | None, labels
) -> LossPoints:
    by_name = dict(zip(found.header, found.columns, strict=True))

    def column(name: str, flag: str) -> np.ndarray:
        if name not in by_name:
            there = ", ".join(found.header)
            raise InputError(f"{source}:1: no column {name!r}; name another with {flag}; there are: {there}")
        values = reader.numbers(name, by_name[name], lambda i: found.places[i], required=True)
        bad = np.flatnonzero(values <= 0)
        if bad.size:
            raise InputError(f"{found.places[bad[0]]}: {name} is {values[bad[0]]:g}; it must be positive")
        return values

    features = {}
    for feature, default in COLUMNS.items():
        name = columns.get(feature, default)
        if name == FROM_N_AND_D:
            continue
        if feature in columns or name in by_name:
            features[feature] = column(name, f"--{feature.lower()}")
    y = y or VALUE
    y_n = column(y, "--y")
    features["L"] = y_n if y == VALUE or VALUE not in by_name else column(VALUE, "--y")
    unit = next((u for u in UNITS if u in by_name), None)
    units = [str(c or "") for c in by_name[unit]] if unit else [""] * len(y_n)
    groups_n = np.array([u or f"row {i}" for i, u in enumerate(units)])
    convention = columns.get("N", COLUMNS["N"])
    weights_n = column(weights, "--weights") if weights else None
    absent = [name for name in labels if name not in by_name]
    if absent:
        raise InputError(f"{source}:1: no column {absent[0]!r} of settings; there are: {', '.join(by_name)}")
    texts = {name: np.array([str("" if c is None else c).strip() for c in by_name[name]]) for name in labels}
    points = LossPoints(
        features, y_n, groups_n, source, found.sha256, y, convention, weights_n=weights_n, labels=texts
    )  # fmt: skip
    if EXCLUDED in by_name and not keep_excluded:
        keep_n = np.array([str("" if c is None else c).strip().lower() in NO for c in by_name[EXCLUDED]])
        points = points.select(keep_n, f"marked in column {EXCLUDED!r}")
    return points


def _from_runs(
    table: runs_table.Table, columns: dict, y: str | None, task: str, metric: str, curves: bool, against: str | None
) -> LossPoints:
    if y or set(columns) - {"N"}:
        raise InputError(f"{table.source}: a runs table; --task and --metric say what is fitted, --n how N is counted")
    convention = columns.get("N", "n_params")
    ends = ladder_points(table, [task, against or task], convention, metric)
    if curves:
        rows = table.select(split="train", task=task, metric=metric)
        features = {"N": rows[convention], "D": rows["tokens"], "S": rows["step"]}
        features |= {"C": rows["flops"]} if "flops" in rows else {}
        y_n, runs, groups_n = rows["value"], rows["run"], rows["run"].astype(str)
    else:
        features = {{"flops": "C"}.get(k, k): v for k, v in ends.features.items()}
        y_n, runs, groups_n = ends.bpb_Tn[0], ends.runs, ends.groups_n
    if "batch_tokens" in table:
        of_run = dict(zip(table["run"], table["batch_tokens"], strict=True))
        features["B"] = np.array([of_run[run] for run in runs])
    features["L"] = ends.bpb_Tn[1] if against else y_n
    points = LossPoints(
        features, y_n, groups_n, table.source, table.sha256, f"{metric} of {task}", convention, table.left_out
    )
    return points.select(~np.isnan(y_n + features["L"]), f"no {metric} of {task}")


def _completed(points: LossPoints, critical: dict) -> LossPoints:
    """The features that follow from others, first rule first."""
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
