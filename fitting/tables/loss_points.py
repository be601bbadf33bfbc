"""Points for a loss law: from a wide table (one row per run), or from the ends or curves of a runs table's runs."""

from dataclasses import dataclass, field, replace

import numpy as np

from fitting.errors import InputError
from fitting.laws import kaplan_relations as kaplan
from fitting.tables import comparable, reader, runs_table, spreadsheet, units
from fitting.tables.points import ladder_points

# The column of a wide table that holds each feature, unless the user names another.
COLUMNS = {"N": "params", "D": "tokens", "C": "flops", "S": "steps", "B": "batch_tokens", "U": "unique_tokens"}
COLUMNS |= {"T": "position"}
POSITIVE = (*COLUMNS, "y", "weights")  # other features, of a user's own law, may have any sign
VALUE = "loss"
TASK, METRIC = "validation", "bpb"  # of a runs table, unless others are named
FROM_N_AND_D = "6ND"  # given as the column of C: C = 6 N D even if the table has a column of FLOPs
EXCLUDED = "excluded"
NO = ("", "0", "0.0", "false", "no")


@dataclass(frozen=True)
class LossPoints:
    """Points that a law of the loss is fitted to.

    features: {"N": [n], "D": [n], ...}, those that are known. y_n: the fitted quantity, > 0. groups_n: points of the
    same group share noise and are resampled together. quantity: what y is. n_convention: how N is counted. left_out:
    reasons why points were dropped. derived: {feature that the table lacks: the formula it was computed by}. weights_n:
    how much each point counts. labels: {column of settings: str[n]}. flags: reasons why points do not compare.
    unit: the column of a wide table that groups_n are from, None where every row is a group. made_of: {feature that the
    table lacks: the features it was computed from}.
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
    flags: tuple[str, ...] = ()
    unit: str | None = None
    made_of: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def behind(self, *features: str) -> set[str]:
        """These features, and those that they were computed from."""
        return set(features).union(*(self.behind(*self.made_of.get(name, ())) for name in features))

    @property
    def described(self) -> str:
        """How many points there are, and how many of them are independent."""
        n_units, by = len(np.unique(self.groups_n)), f" (by column {self.unit})" if self.unit else ""
        return f"{len(self)} points of {self.quantity}, {n_units} independent units{by}"

    def __len__(self) -> int:
        return len(self.y_n)

    def select(self, keep_n: np.ndarray, why: str) -> "LossPoints":
        """The points where keep_n; left_out counts the others. Raises InputError if no point remains."""
        if keep_n.all():
            return self
        if not keep_n.any():
            raise InputError(f"{self.source}: no point is left: {why}")
        return replace(
            self,
            features={name: values_n[keep_n] for name, values_n in self.features.items()},
            y_n=self.y_n[keep_n],
            groups_n=self.groups_n[keep_n],
            left_out=(*self.left_out, f"{np.sum(~keep_n)} of {len(self)} points: {why}"),
            weights_n=None if self.weights_n is None else self.weights_n[keep_n],
            labels={name: labels_n[keep_n] for name, labels_n in self.labels.items()},
        )


@dataclass(frozen=True)
class Reading:
    """How a table of losses is read.

    Both kinds of table: columns, {feature: column} that differ from COLUMNS (of a runs table only "N", the count of
    parameters). drop_above: leave out points with a larger y. critical: constants of B_crit(L), from which S_min and
    C_min are computed (by default Kaplan's).

    Wide tables: y, the column of the fitted quantity. keep_excluded: also use rows marked in a column "excluded".
    weights: the column of how much each row counts. labels: columns of settings. units: the column that says which rows
    share noise (see tables/units.py for the default), or units.EACH_ROW.

    Runs tables: task and metric of the fitted quantity ("validation" and "bpb" where they are None). curves: use every
    row of every run, not only the ends of the decayed runs. reach: fit the steps to this loss (see `reached`). against:
    the task whose loss is the feature L.
    """

    columns: dict[str, str] = field(default_factory=dict)
    y: str | None = None
    task: str | None = None
    metric: str | None = None
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
    """Points of a wide table or of a runs table (or of a folder of run directories, which is one).

    settings: fields of Reading, if `how` is not given. Raises InputError with file and line.
    """
    how, path = how or Reading(**settings), reader.as_path(path)
    if path.is_dir():
        return of_runs(runs_table.read(path), how)
    table = reader.read(path, numeric=runs_table.numeric)
    if set(runs_table.REQUIRED) <= set(table.header):
        return of_runs(runs_table.of_cells(table, str(path)), how)
    return of_cells(table, str(path), how)


def of_runs(table: runs_table.Table, how: Reading | None = None, **settings) -> LossPoints:
    """Points of a runs table. settings: fields of Reading, if `how` is not given."""
    how = how or Reading(**settings)
    return _finished(_from_runs(table, how), how)


def of_cells(table: reader.Cells, source: str, how: Reading) -> LossPoints:
    """Points of a wide table."""
    return _finished(_from_wide(table, source, how), how)


def _finished(points: LossPoints, how: Reading) -> LossPoints:
    if how.drop_above is not None:
        points = points.select(points.y_n <= how.drop_above, f"{points.quantity} above {how.drop_above:g}")
    points = _completed(points, how.critical or kaplan.BATCH)
    return points if how.reach is None else reached(points, how.reach)


def reached(curves: LossPoints, loss: float) -> LossPoints:
    """Points whose y is the steps after which a run's curve first reaches `loss`, interpolated in ln S.

    This is the sample efficiency of Kaplan et al. 2020: figure 2 (against N), section 5.1 (against the batch size).
    Runs that start below the loss or never reach it are left out; raises InputError if all are.
    """
    if curves.weights_n is not None:
        raise InputError(f"{curves.source}: steps to a loss have no weights; leave them out", "weights")
    if "S" not in curves.features:
        raise InputError(f"{curves.source}: steps to a loss need steps, or tokens and tokens of a batch")
    runs, rows_reached, steps = np.unique(curves.groups_n), [], []
    for run in runs:
        rows = np.flatnonzero(curves.groups_n == run)
        rows = rows[np.argsort(curves.features["S"][rows])]
        below = np.flatnonzero(curves.y_n[rows] <= loss)
        if below.size and below[0] > 0:
            pair = rows[[below[0], below[0] - 1]]  # after and before the crossing: np.interp needs rising losses
            rows_reached.append(pair[0])
            steps.append(np.exp(np.interp(loss, curves.y_n[pair], np.log(curves.features["S"][pair]))))
    missed = f"{len(runs) - len(steps)} of {len(runs)} runs: their curves do not cross {loss:g}"
    if not steps:
        raise InputError(f"{curves.source}: {missed}")
    return LossPoints(
        {name: curves.features[name][rows_reached] for name in ("N", "B", "U") if name in curves.features},
        np.array(steps),
        curves.groups_n[rows_reached],
        curves.source,
        curves.sha256,
        f"steps to {curves.quantity} {loss:g}",
        curves.n_convention,
        curves.left_out if len(steps) == len(runs) else (*curves.left_out, missed),
        flags=curves.flags,
        unit=curves.unit,
    )


def _with_values(table: reader.Cells, y: str) -> tuple[reader.Cells, tuple[str, ...]]:
    """The rows that have a value of y, and a line that counts the others. A nan is no missing value, but a run that
    diverged: `reader.numbers` refuses it."""
    cells = table.columns[table.header.index(y)] if y in table.header else ()
    texts = ["nan" if cell is None else str(cell).strip().lower() for cell in cells]  # None: nan of a data frame
    missing = [i for i, text in enumerate(texts) if spreadsheet.is_missing(text) and text != "nan"]
    if not missing or len(missing) == len(cells):
        return table, ()
    keep = [i for i in range(len(cells)) if i not in set(missing)]
    columns = [[column[i] for i in keep] for column in table.columns]
    line = f"{len(missing)} of {len(cells)} points: no value of {y} (first at {table.places[missing[0]]})"
    return replace(table, columns=columns, places=[table.places[i] for i in keep]), (line,)


def _from_wide(table: reader.Cells, source: str, how: Reading) -> LossPoints:
    for argument in ("task", "metric", "against"):
        if getattr(how, argument) is not None:
            raise InputError(f"{source}: a wide table; {argument} is for runs tables, y names its column", argument)
    y = how.y or VALUE
    if how.weights == y:
        raise InputError(f"{source}: column {y!r} is given for both y and weights; name two columns", "weights")
    table, left_out = _with_values(table, y)
    cells_of = dict(zip(table.header, table.columns, strict=True))

    def cells(name: str, argument: str, purpose: str = ""):
        if name not in cells_of:
            known = ", ".join(cells_of)
            raise InputError(f"{source}:1: no column {name!r}{purpose}; its columns: {known}", argument)
        return cells_of[name]

    def numbers(name: str, argument: str) -> np.ndarray:
        values = reader.numbers(name, cells(name, argument, f" for {argument}"), table.places, required=True)
        bad = np.flatnonzero(values <= 0)
        if bad.size and argument in POSITIVE:
            raise InputError(f"{table.places[bad[0]]}: {name} is {values[bad[0]]:g}; it must be positive")
        return values

    def texts(name: str, argument: str) -> list[str]:
        return ["" if cell is None else str(cell) for cell in cells(name, argument)]

    features, roles = {}, {y: "y"}  # {column: what it is read for}
    for feature, name in (COLUMNS | how.columns).items():
        if name != FROM_N_AND_D and (feature in how.columns or name in cells_of):
            if name in roles:
                other = roles[name]
                raise InputError(
                    f"{source}: column {name!r} is given for both {other} and {feature}; name two columns", feature
                )
            roles[name] = feature
            features[feature] = numbers(name, feature)
    y_n = numbers(y, "y")
    features["L"] = y_n if y == VALUE or VALUE not in cells_of else numbers(VALUE, "y")
    other_units = comparable.other_units(features["N"], features["D"]) if {"N", "D"} <= set(features) else []
    unit, groups = units.units(cells_of, features, how.units, f"{source}:1")
    points = LossPoints(
        features,
        y_n,
        np.array(groups),
        source,
        table.sha256,
        y,
        how.columns.get("N", COLUMNS["N"]),
        left_out,
        weights_n=numbers(how.weights, "weights") if how.weights else None,
        labels={name: np.array([text.strip() for text in texts(name, "labels")]) for name in how.labels},
        flags=(*units.flags(cells_of, features, unit or how.units, table.places), *other_units),
        unit=unit,
    )
    if EXCLUDED in cells_of and not how.keep_excluded:
        keep_n = np.array([text.strip().lower() in NO for text in texts(EXCLUDED, "")])
        points = points.select(keep_n, f"marked in column {EXCLUDED!r}")
    return points


def _from_runs(table: runs_table.Table, how: Reading) -> LossPoints:
    if how.units:
        raise InputError(f"{table.source}: a runs table; its column run says which rows are of one run", "groups")
    if how.weights or how.labels:
        raise InputError(f"{table.source}: a runs table; weights and labels are columns of a wide table", "weights")
    if how.against and how.against == (how.task or TASK):
        raise InputError(f"against: {how.against} is the fitted task itself; name another", "against")
    if how.keep_excluded:
        raise InputError(f"{table.source}: a runs table; a column 'excluded' is of wide tables", "keep_excluded")
    if how.against and (how.curves or how.reach):
        raise InputError("against: is for the ends of runs, not for curves; leave one of them out", "against")
    if how.y or set(how.columns) - {"N"}:
        raise InputError(
            f"{table.source}: a runs table; task and metric say what is fitted, N how parameters are counted", "y"
        )
    task, metric, against = how.task or TASK, how.metric or METRIC, how.against
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
        flags = [f"{task}: {line}" for line in comparable.lines(rows)]
    else:
        features = {"C" if name == "flops" else name: values for name, values in ends.features.items()}
        y_n, runs, groups_n = ends.bpb_Tn[0], ends.runs, ends.groups_n
        flags = [f"{name}: {line}" for name in dict.fromkeys(ends.tasks) for line in ends.flags(name)]
    if "batch_tokens" in table:
        batch_tokens = dict(zip(table["run"], table["batch_tokens"], strict=True))
        features["B"] = np.array([batch_tokens[run] for run in runs])
    features["L"] = ends.bpb_Tn[1] if against else y_n
    points = LossPoints(
        features, y_n, groups_n, table.source, table.sha256, f"{metric} of {task}", convention, table.left_out,
        flags=tuple(flags),
    )  # fmt: skip
    return points.select(~np.isnan(y_n + features["L"]), f"no {metric} of {task}")


def _completed(points: LossPoints, critical: dict) -> LossPoints:
    """With the features that can be computed from others; of two rules for a feature, the first that applies."""
    b_crit = f"B_crit = {critical['B_star']:.4g} / L^(1/{critical['alpha_B']:.4g})"
    steps_formula, compute_formula = f"S / (1 + B_crit / B), {b_crit}", f"C / (1 + B / B_crit), {b_crit}"
    rules = (
        ("D", "S B", ("S", "B"), lambda s, b: s * b),
        ("C", "6 N D", ("N", "D"), lambda n, d: 6 * n * d),
        ("D", "C / (6 N)", ("C", "N"), lambda c, n: c / (6 * n)),
        ("N", "C / (6 D)", ("C", "D"), lambda c, d: c / (6 * d)),
        ("S", "D / B", ("D", "B"), lambda d, b: d / b),
        ("S_min", steps_formula, ("S", "B", "L"), lambda s, b, loss: kaplan.fewest_steps(s, b, loss, critical)),
        ("C_min", compute_formula, ("C", "B", "L"), lambda c, b, loss: kaplan.least_compute(c, b, loss, critical)),
    )
    features, derived, made_of = dict(points.features), {}, {}
    if {"N", "D", "C"} <= set(features) and points.n_convention != "n_non_embedding":
        far_n = comparable.far_from_6nd(*(features[name] for name in "NDC"))
        if far_n.any() and not any(comparable.FAR_FLOPS in flag for flag in points.flags):
            points = replace(
                points, flags=(*points.flags, f"{far_n.sum()} of {len(far_n)} points: {comparable.FAR_FLOPS}")
            )
    for name, formula, needed, compute in rules:
        if name not in features and set(needed) <= set(features):
            features[name] = compute(*(features[other] for other in needed))
            derived[name], made_of[name] = f"{name} = {formula}", needed
    return replace(points, features=features, derived=derived, made_of=made_of)
