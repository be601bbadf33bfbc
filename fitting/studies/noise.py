"""Noise: how much runs that differ only in their seed differ, by size, task, number of docs and checkpoints averaged.

Kaplan et al. 2020, section 4.2 and appendix D.6; the task-ladder paper's smoothing over the last checkpoints. The
intervals of this project assume that branches of one trunk share half of the variance (fitting/inference/noise.py).
"""

import numpy as np

from fitting.errors import InputError
from fitting.inference.measured import NOISE, SeedNoise
from fitting.inference.noise import TRUNK_SHARE
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.report.style import MUTED, SIZES, TARGET, few_ticks, new_figure
from fitting.studies import noise_docs, regression
from fitting.studies.ends import ends, groups, need
from fitting.studies.regression import Line
from fitting.studies.results import Claim, Study, corpora
from fitting.tables.loss_points import METRIC, TASK
from fitting.tables.runs_table import Table

PUBLISHED_PERCENT = 0.7  # 0.02 nats of a loss near 3 nats
AVERAGED = (1, 2, 4, 8)  # last evaluations
LEAST_SEEDS = 4  # for a correlation
OF_SEEDS = Claim(
    "Runs that differ only in their seed differ by about 0.02 nats of a loss near 3 (one standard deviation)",
    "Kaplan et al. 2020, section 4.2",
    "0.7 % of the loss",
    "{:.2f} %",
)
SHARED = Claim(
    "Branches of one trunk share half of the variance between seeds",
    "assumed by our intervals, fitting/inference/noise.py",
    f"{TRUNK_SHARE:g}",
    "{:.2f}",
)
LIMITS = (
    "Seeds change the initialisation and the order of the data, not the corpus or the machine.",
    "A standard deviation of so few seeds is known to within tens of percent only; the intervals show it.",
    "The published 0.02 nats are of a BPE of 50,257 tokens; as a share of the loss they compare with bits per byte.",
)
CAPTION = (
    "Left: standard deviation between seeds, with 95 % intervals, and its power law in the number of parameters;"
    " dotted: 0.7 %. Middle: the same after averaging the last evaluations. Right: two branches of each trunk, each as"
    " its deviation from the mean over the seeds."
)


def analyse(table: Table) -> Study:
    """Runs of the same size, tokens and kind with different seeds. Raises InputError where no two are finished."""
    need(table, "kind", "seed", "size")
    rows = ends(table)
    same = _same(rows)
    if not same:
        raise InputError(f"{table.source}: no two finished runs that differ only in their seed")
    pairs = branch_pairs(rows)
    averaged, of_docs = _averaged(table, rows, same), noise_docs.read(table)
    law, notes = None, []
    try:
        law = of_size(rows)
    except InputError as error:
        notes.append(f"no law of the noise in N: {error}")
    return Study(
        title="Noise: how much do runs differ that differ only in their seed?",
        lead=f"{sum(map(len, same.values()))} runs in {len(same)} groups of the same size, tokens and kind.",
        statements=(
            OF_SEEDS.tried(lambda claim: claim.equals(PUBLISHED_PERCENT, *pooled(rows))),
            SHARED.tried(lambda claim: claim.equals(TRUNK_SHARE, *shared(pairs))),
        ),
        tables=(
            *([] if law is None else [_law_table(law)]),
            _by_size(rows, same),
            _by_task(table),
            *noise_docs.grids(of_docs),
            _by_average(averaged),
        ),
        figures=((CAPTION, _figure(rows, same, law, averaged, pairs)), *noise_docs.figures(of_docs)),
        limits=LIMITS,
        notes=tuple(notes),
        measured={NOISE: between_seeds(table, law).json()},
    )


def between_seeds(table: Table, law: Line | None) -> SeedNoise:
    """The noise of the validation loss and of every task, for designs and fits. law: `of_size`."""
    sd, dof = {}, {}
    for task in [name for name in table.unique("task") if name != "train"]:
        try:
            rows = ends(table, task, METRIC)
        except InputError:
            continue
        logs = [np.log(rows["value"][i]) for i in _independent(rows).values()]
        if logs and (value := _pooled(logs)[0]) > 0:
            sd[task], dof[task] = value, float(sum(len(v) - 1 for v in logs))
    keys = {key: len(i) - 1 for key, i in _independent(ends(table)).items()}
    n_k, dof_k = np.array([key[1] for key in keys]), np.array(list(keys.values()))
    exponent, (low, high) = law.of(np.array([0.0, 1.0])) if law is not None else (0.0, (0.0, 0.0))
    centre = float(np.exp(np.average(np.log(n_k), weights=dof_k)))
    is_told = low > 0 or high < 0
    sizes = float(n_k.min()), float(n_k.max())
    return SeedNoise(sd, dof, sizes, centre, exponent if is_told else 0.0, tuple(corpora(table)))


def _same(rows: Table) -> dict[tuple, np.ndarray]:
    """{(size, n_params, tokens, kind): the rows of its seeds}, two at least; ordered by n_params and tokens."""
    found = {key: i for key, i in groups(rows, "size", "n_params", "tokens", "kind").items() if len(i) > 1}
    return dict(sorted(found.items(), key=lambda item: item[0][1:3]))


def _independent(rows: Table) -> dict[tuple, np.ndarray]:
    """`_same`, of branches only the longest of each size: those of one trunk share their noise."""
    same = _same(rows)
    longest = {(size, kind): tokens for size, _, tokens, kind in same}  # ordered by tokens: the last one stays
    return {key: i for key, i in same.items() if longest[key[0], key[3]] == key[2]}


def pooled(rows: Table) -> tuple[float, tuple[float, float]]:
    """The standard deviation between seeds in percent of the loss, over all sizes, and its 95 % interval."""
    return _pooled([100 * np.log(rows["value"][i]) for i in _independent(rows).values()])


def _pooled(values: list[np.ndarray]) -> tuple[float, tuple[float, float]]:
    dof = sum(len(v) - 1 for v in values)
    sd = float(np.sqrt(sum(np.sum((v - v.mean()) ** 2) for v in values) / dof))
    return sd, regression.spread(sd, dof)


def of_size(rows: Table) -> Line:
    """ln of the standard deviation = q0 + q1 ln N. Raises InputError for fewer than two sizes.

    The logarithm of a standard deviation that was estimated from n values has a standard error of 1 / sqrt(2 (n - 1)).
    """
    same = _independent(rows)
    n_k = np.array([key[1] for key in same])
    if len(np.unique(n_k)) < 2:
        raise InputError(f"{len(np.unique(n_k))} size with several seeds; a law needs two")
    sd_k = np.array([np.std(np.log(rows["value"][i]), ddof=1) for i in same.values()])
    error_k = np.array([1 / np.sqrt(2 * (len(i) - 1)) for i in same.values()])
    return regression.line(np.column_stack([np.ones(len(n_k)), np.log(n_k)]), np.log(sd_k), error_k)


def branch_pairs(rows: Table) -> np.ndarray:
    """[trunks, 2]: deviations from the mean over seeds, in percent, of a trunk's shortest and longest branch. Of the
    size with the most trunks."""
    branches = rows.select(kind="branch")
    if not len(branches):
        return np.empty((0, 2))
    of_size = groups(branches, "n_params").values()
    branches = branches.select(
        np.isin(np.arange(len(branches)), max(of_size, key=lambda i: len(set(branches["parent"][i]))))
    )
    percent = np.full(len(branches), np.nan)
    for i in groups(branches, "tokens").values():
        percent[i] = 100 * (np.log(branches["value"][i]) - np.log(branches["value"][i]).mean())
    ordered = [i[np.argsort(branches["tokens"][i])] for i in groups(branches, "parent").values() if len(i) > 1]
    return np.array([[percent[i[0]], percent[i[-1]]] for i in ordered]).reshape(-1, 2)


def shared(pairs: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Correlation of two branches of a trunk over its seeds, and its 95 % interval by Fisher's transformation."""
    if len(pairs) < LEAST_SEEDS:
        raise InputError(f"{len(pairs)} trunks of one size with two finished branches each; it takes {LEAST_SEEDS}")
    r = float(np.corrcoef(pairs.T)[0, 1])
    half = 1.96 / np.sqrt(len(pairs) - 3)
    return r, (float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))


def _averaged(table: Table, rows: Table, same: dict) -> dict[int, tuple[float, tuple[float, float]]]:
    """{k: standard deviation between seeds of the mean of the last k evaluations, percent, with its interval}."""
    curves = table.select(task=TASK, metric=METRIC, run=rows.unique("run"))
    values = {run[0]: curves["value"][i[np.argsort(curves["step"][i])]] for run, i in groups(curves, "run").items()}
    shortest = min(len(values[run]) for i in same.values() for run in rows["run"][i])
    return {
        k: _pooled([100 * np.log([values[run][-k:].mean() for run in rows["run"][i]]) for i in same.values()])
        for k in AVERAGED
        if k <= shortest
    }


def _law_table(law: Line) -> Grid:
    exponent, ends_ = law.of(np.array([0.0, 1.0]))
    row = ["exponent of N", f"{exponent:.3g}", f"{ends_[0]:.3g} to {ends_[1]:.3g}"]
    return Grid(
        "Standard deviation between seeds as a power of the number of parameters",
        ["", "#value", "#95 % interval"],
        [row],
    )


def _by_size(rows: Table, same: dict) -> Grid:
    body = []
    for (size, n, tokens, kind), i in same.items():
        sd, (lo, hi) = regression.deviation(100 * np.log(rows["value"][i]))
        body.append(
            [
                size,
                kind,
                si(n),
                si(tokens),
                str(len(i)),
                f"{rows['value'][i].mean():.4f}",
                f"{sd:.3f}",
                f"{lo:.3f} to {hi:.3f}",
            ]
        )
    head = ["size", "kind", "#parameters", "#tokens", "#seeds", "#mean bpb", "#sd, %", "#95 % interval"]
    return Grid("Validation loss, by size", head, body)


def _by_task(table: Table) -> Grid:
    """For each task: noise between seeds beside the sampling error of its docs."""
    body = []
    for task in [name for name in table.unique("task") if name not in (TASK, "train")]:
        bpb, acc = _of_task(table, task, METRIC), _of_task(table, task, "acc")
        if bpb is not None:
            body.append(
                [task, bpb[3], f"{100 * bpb[0] / bpb[1]:.2f}", f"{100 * bpb[2] / bpb[1]:.2f}", *_accuracy_cells(acc)]
            )
    head = [
        "task",
        "#docs",
        "#bpb: sd of seeds, %",
        "#sampling error of docs, %",
        "#accuracy: sd of seeds, points",
        "#sampling error, points",
    ]
    return Grid("Tasks: noise between seeds, and the sampling error of the docs", head, body)


def _accuracy_cells(acc) -> list[str]:
    return ["", ""] if acc is None else [f"{100 * acc[0]:.2f}", f"{100 * acc[2]:.2f}"]


def _of_task(table: Table, task: str, metric: str) -> tuple[float, float, float, str] | None:
    """(pooled sd between seeds, mean, mean sampling error, docs) of a metric; None where it was not measured."""
    try:
        rows = ends(table, task, metric)
    except InputError:
        return None
    same = _same(rows)
    if not same:
        return None
    dof = sum(len(i) - 1 for i in same.values())
    sd = np.sqrt(sum(np.sum((rows["value"][i] - rows["value"][i].mean()) ** 2) for i in same.values()) / dof)
    stderr = float(np.nanmean(rows["stderr"])) if "stderr" in rows else np.nan
    docs = si(rows["n_docs"][0]) if "n_docs" in rows and np.isfinite(rows["n_docs"][0]) else ""
    return float(sd), float(rows["value"].mean()), stderr, docs


def _by_average(averaged: dict) -> Grid:
    first = averaged[1][0]
    body = [
        [str(k), f"{sd:.3f}", f"{lo:.3f} to {hi:.3f}", f"{sd / first:.2f}"] for k, (sd, (lo, hi)) in averaged.items()
    ]
    head = ["last evaluations averaged", "#sd between seeds, %", "#95 % interval", "#of that of the last alone"]
    return Grid("Averaging the last evaluations of a run", head, body)


def _figure(rows: Table, same: dict, law: Line | None, averaged: dict, pairs: np.ndarray):
    with new_figure(12.0, 3.8) as figure:
        left, middle, right = figure.subplots(1, 3)
        for (_, n, _, _), i in same.items():
            sd, (lo, hi) = regression.deviation(100 * np.log(rows["value"][i]))
            left.errorbar(n, sd, [[sd - lo], [hi - sd]], fmt="o", color=SIZES(0.6), ms=5, capsize=3)
        if law is not None:
            n_m = np.geomspace(*np.quantile([key[1] for key in same], [0, 1]), 50)
            value, lo, hi = (100 * np.exp(v) for v in law.band(np.column_stack([np.ones(50), np.log(n_m)])))
            left.fill_between(n_m, lo, hi, color=TARGET, alpha=0.18, lw=0)
            left.plot(n_m, value, color=TARGET)
        left.axhline(PUBLISHED_PERCENT, color=MUTED, lw=1, ls=":")
        left.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="sd between seeds, % of the loss")
        few_ticks(left.xaxis)
        left.yaxis.set_major_formatter("{x:.2g}")
        left.yaxis.set_minor_formatter("{x:.2g}")
        for k, (sd, (lo, hi)) in averaged.items():
            middle.errorbar(k, sd, [[sd - lo], [hi - sd]], fmt="o", color=SIZES(0.6), ms=5, capsize=3)
        middle.set(xlabel="last evaluations averaged", ylabel="sd between seeds, % of the loss", ylim=(0, None))
        right.plot(pairs[:, 0], pairs[:, 1], "o", color=SIZES(0.6), ms=5)
        right.set(xlabel="shorter branch: deviation, %", ylabel="longer branch: deviation, %")
    return figure
