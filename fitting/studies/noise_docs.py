"""Noise against the number of docs: which part of the noise between seeds would more docs of a task take away?

The seeds of a rung answer the same docs. Their scores of a task differ for two reasons: a seed is better or worse at
all docs (variance s^2, which no number of docs changes), and at single docs (variance v / n of n docs). The sampling
error of the docs, stderr^2 = (variance between docs + v) / n, is larger than the second part by an unknown factor,
because runs keep no results of single docs. So for one task V, the variance between seeds, only says
V - stderr^2 <= s^2 <= V. Tasks whose sampling errors differ say more: with one s and one share r of the sampling
variance for all of them, V = s^2 + r stderr^2.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy import optimize

from fitting.errors import InputError
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.report.style import MUTED, SIZES, TARGET, new_figure
from fitting.studies.ends import ends, groups
from fitting.studies.regression import jackknife, student
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

LEAST_SEEDS, ROUNDS = 4, 20
# The largest sampling variance must be at least this many times the smallest. Otherwise the slope of the line through
# the groups is not determined.
LEAST_RANGE = 4.0
NOTE = (
    "Seeds answer the same docs, and runs keep no results of single docs. So for one task only two limits are known of"
    " the noise that any number of docs would leave: the noise itself, and the noise less the whole sampling error."
)
ASSUMED = "One s and one share r for all tasks and sizes are assumed. Its intervals leave out one seed at a time."
CAPTION = (
    "Standard deviation between seeds of each task and size against the sampling error of its docs, in percent of its"
    " bpb, and the line V = s^2 + r stderr^2 through all of them. Dotted: the noise is the whole sampling error."
)


@dataclass(frozen=True)
class Group:
    """The seeds of a rung on a task. deviation_s: of ln bpb from their mean, by seed. sampling: stderr / bpb. docs: how
    many."""

    task: str
    n_params: float
    seed_s: tuple[float, ...]
    deviation_s: np.ndarray
    sampling: float
    docs: float

    @property
    def variance(self) -> float:
        return float(self.deviation_s.var(ddof=1))


def read(table: Table) -> list[Group]:
    """A Group for each task and each rung with two seeds or more; of branches, only the longest. [] if the table has no
    sampling errors."""
    if not {"stderr", "n_docs", "seed"} <= set(table.columns):
        return []
    found = []
    for task in [name for name in table.unique("task") if name not in (TASK, "train")]:
        try:
            rows = ends(table, task, METRIC)
        except InputError:
            continue
        for (_, n, _, kind), i in groups(rows, "size", "n_params", "tokens", "kind").items():
            of_kind = (rows["n_params"] == n) & (rows["kind"] == kind)
            is_longest = rows["tokens"][i[0]] == rows["tokens"][of_kind].max()
            sampling = float(np.mean(rows["stderr"][i] / rows["value"][i]))
            if len(i) > 1 and is_longest and np.isfinite(sampling) and sampling > 0:
                log_n = np.log(rows["value"][i])
                seeds = tuple(rows["seed"][i].tolist())
                found.append(Group(task, n, seeds, log_n - log_n.mean(), sampling, rows["n_docs"][i[0]]))
    return found


def separated(groups_: list[Group]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """((s, lo, hi), (r, lo, hi)) with 95 % intervals. s: sd of ln bpb that any number of docs leaves; r: share of the
    sampling variance that is noise between seeds. Raises InputError where the groups cannot tell."""
    seeds = sorted({seed for group in groups_ for seed in group.seed_s})
    x_g = np.array([group.sampling**2 for group in groups_])
    if len(seeds) < LEAST_SEEDS:
        raise InputError(f"{len(seeds)} seeds of tasks with a sampling error; it takes {LEAST_SEEDS}")
    if x_g.max() < LEAST_RANGE * x_g.min():
        raise InputError("the sampling errors of the tasks are too much alike; add tasks with more or with fewer docs")
    found = _fit(x_g, _variances(groups_, None))
    left_out = np.array([_fit(x_g, _variances(groups_, seed)) for seed in seeds])
    half = student(len(seeds) - 1) * np.sqrt(np.sum(jackknife(left_out) ** 2, axis=0))
    (s2, r), (low_s2, low_r), (high_s2, high_r) = found, found - half, found + half
    root = np.sqrt(np.maximum([s2, low_s2, high_s2], 0))
    return tuple(map(float, root)), tuple(map(float, np.clip([r, low_r, high_r], 0, 1)))


def _variances(groups_: list[Group], without: float | None) -> np.ndarray:
    """[2, groups]: variance between seeds and its degrees of freedom, without one seed."""
    rows = []
    for group in groups_:
        kept = group.deviation_s[np.array([seed != without for seed in group.seed_s])]
        rows.append((kept.var(ddof=1), len(kept) - 1) if len(kept) > 1 else (np.nan, 0))
    return np.array(rows).T


def _fit(x_g: np.ndarray, variance_dof: np.ndarray) -> np.ndarray:
    """(s^2, r) of V = s^2 + r x with s^2 >= 0 and 0 <= r <= 1, by least squares weighted with the variance of each V, 2
    V^2 / dof of the expected V, found by iteration."""
    variance_g, dof_g = variance_dof
    known = dof_g > 0
    x_g, variance_g, dof_g = x_g[known], variance_g[known], dof_g[known]
    basis_g2, expected_g = np.column_stack([np.ones_like(x_g), x_g]), np.full(len(x_g), variance_g.mean())
    scale_2 = np.array([variance_g.mean(), variance_g.mean() / x_g.mean()])
    for _ in range(ROUNDS):
        weight_g = np.sqrt(dof_g) / expected_g
        weighted_g2 = basis_g2 * weight_g[:, None] * scale_2
        q = scale_2 * optimize.lsq_linear(weighted_g2, variance_g * weight_g, ([0, 0], [np.inf, 1 / scale_2[1]])).x
        expected_g = np.maximum(basis_g2 @ q, variance_g.mean() / 100)
    return q


def grids(groups_: list[Group]) -> tuple[Grid, ...]:
    """Two tables: the limits for each task and rung; the fit to all of them, or a note that says why there is none."""
    if not groups_:
        return ()
    body = []
    for group in groups_:
        sd, least = np.sqrt(group.variance), np.sqrt(max(group.variance - group.sampling**2, 0.0))
        body.append([group.task, si(group.docs), si(group.n_params), str(len(group.seed_s)), f"{100 * sd:.2f}",
                     f"{100 * group.sampling:.2f}", f"{100 * least:.2f} to {100 * sd:.2f}"])  # fmt: skip
    head = ["task", "#docs", "#parameters", "#seeds", "#sd between seeds, %", "#sampling error, %",
            "#sd with unlimited docs, %"]  # fmt: skip
    notes = [NOTE]
    try:
        (s, s_low, s_high), (r, r_low, r_high) = separated(groups_)
    except InputError as error:
        return (Grid("Noise against the number of docs", head, body, [*notes, f"No fit to all tasks: {error}."]),)
    rows = [
        ["s: sd that any number of docs leaves, %", f"{100 * s:.2f}", f"{100 * s_low:.2f} to {100 * s_high:.2f}"],
        ["r: share of the sampling variance", f"{r:.2f}", f"{r_low:.2f} to {r_high:.2f}"],
    ]
    return (
        Grid("Noise against the number of docs", head, body, notes),
        Grid("V = s^2 + r stderr^2 through all tasks", ["", "#value", "#95 % interval"], rows, [ASSUMED]),
    )


def figures(groups_: list[Group]) -> tuple[tuple[str, Figure], ...]:
    """(caption, figure); () if there are no groups."""
    if not groups_:
        return ()
    with new_figure(5.6, 4.0) as figure:
        axes = figure.add_subplot()
        x_g = np.array([100 * group.sampling for group in groups_])
        tasks = list(dict.fromkeys(group.task for group in groups_))
        for k, task in enumerate(tasks):
            of_task = np.array([group.task == task for group in groups_])
            sd = [100 * np.sqrt(group.variance) for group in groups_ if group.task == task]
            axes.plot(x_g[of_task], sd, "o", color=SIZES(k / max(len(tasks) - 1, 1)), ms=5, label=task)
        x_m = np.linspace(0, 1.05 * x_g.max(), 60)
        axes.plot(x_m, x_m, color=MUTED, ls=":", lw=1)
        try:
            (s, *_), (r, *_) = separated(groups_)
            axes.plot(x_m, np.sqrt(np.maximum((100 * s) ** 2 + r * x_m**2, 0)), color=TARGET, label="s^2 + r stderr^2")
        except InputError:
            pass  # the table says why
        axes.set(xlabel="sampling error of the docs, %", ylabel="sd between seeds, %", xlim=(0, None), ylim=(0, None))
        axes.legend(fontsize=7)
    return ((CAPTION, figure),)
