"""Step 2 of the task law: accuracy as a sigmoid of bpb, where accuracy is above chance."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fitting.inference import bootstrap
from fitting.laws.sigmoid import SIGMOID
from fitting.tables.points import last_rows_of
from fitting.tables.runs_table import Table, smoothed

ACCURACY_METRICS = ("len_norm", "acc")  # length-normalised where a task has both, as published
# Step 2 reads this many evenly spaced checkpoints of a run. More points of the same run add little information.
CHECKPOINTS_PER_RUN = 8
# As published: the first tenth of a run is left out, and each value is a trailing mean over five rows.
SKIP_SHARE, WINDOW = 0.1, 5
# Weight of the anchor (accuracy 1 at bpb 0), relative to all checkpoints: the paper adds it to about 1,400 checkpoints.
ANCHOR_SHARE = 1 / 1400
# A task is above chance if this many runs are, each at this level of significance after Bonferroni's correction.
MIN_RUNS_ABOVE_CHANCE, SIGNIFICANCE = 3, 0.05
MIN_RUNS = 3
WEAK_CORRELATION = 0.7


@dataclass(frozen=True)
class Chance:
    """Whether a task's accuracy is above chance (level: accuracy by guessing), and why, as a sentence."""

    level: float | None
    above: bool
    why: str


@dataclass(frozen=True)
class Checkpoints:
    """bpb and accuracy of T tasks at n = runs x CHECKPOINTS_PER_RUN checkpoints, by run.

    metrics: of the accuracy of each task. groups_n: run of each checkpoint. weights_Tn: 0 where a task was not
    measured. last_n: whether a checkpoint is the last of its run.
    """

    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    groups_n: np.ndarray
    bpb_Tn: np.ndarray
    acc_Tn: np.ndarray
    weights_Tn: np.ndarray
    last_n: np.ndarray


@dataclass(frozen=True)
class AccuracyFit:
    """Step 2 of one task.

    metric: which accuracy. bpb_n, acc_n: its checkpoints. correlation: of bpb and accuracy at the ends of the runs.
    fit: the sigmoids of all tasks, of which this task has index `row`; None where accuracy is not above chance.
    rows: those that its checkpoints are made of.
    """

    metric: str
    bpb_n: np.ndarray
    acc_n: np.ndarray
    chance: Chance
    correlation: float
    fit: bootstrap.Fit | None
    row: int
    rows: Table

    def predict(self, bpb_m) -> np.ndarray:
        """[1 + R, m]: accuracy at bpb [m] by the sigmoid (row 0) and its resamples."""
        bpb_Tm = np.broadcast_to(np.asarray(bpb_m, float), (len(self.fit.points_T), len(np.atleast_1d(bpb_m))))
        return self.fit.predict({"bpb": bpb_Tm})[self.row]

    def draws(self, bpb_Rm: np.ndarray, seed: int) -> np.ndarray:
        """[R, m] of the accuracy measured at draws of bpb: parameters and scatter of a measurement."""
        noise_R = self.fit.noise_TR[self.row]
        rng = np.random.default_rng([seed, 2])
        resample_r = rng.integers(len(noise_R), size=len(bpb_Rm))
        p = {k: v_R[resample_r, None] for k, v_R in self.fit.resampled(self.row).items()}
        acc_Rm = p["b"] + p["a"] / (1 + np.exp(p["k"] * (p["L0"] - bpb_Rm)))
        return np.clip(acc_Rm + (noise_R[resample_r] * rng.standard_normal(len(bpb_Rm)))[:, None], 0.0, 1.0)


def fit_all(table: Table, tasks, n_resamples: int, seed: int) -> dict[str, AccuracyFit]:
    """Step 2 of every task that has an accuracy; fitted together where it is above chance."""
    rows = table.select(split="train")
    grid = checkpoints(rows, tasks)
    if grid is None:
        return {}
    chances, fitted = [], []
    for i, (task, metric) in enumerate(zip(grid.tasks, grid.metrics, strict=True)):
        chances.append(chance_of(rows, task, metric))
        runs_n = grid.groups_n[grid.weights_Tn[i] > 0]
        if chances[i].above and len(set(runs_n)) >= MIN_RUNS and len(runs_n) > len(SIGMOID.params):
            fitted.append(i)
    sigmoids = None
    if fitted:  # each resample has two more starts: with the ceiling on its bound 1, where most fits end, and below it
        sigmoids = fit_sigmoids(grid, fitted, grid.weights_Tn[fitted], n_resamples, seed, resample_starts=2)
    by_task = {}
    for i, (task, metric) in enumerate(zip(grid.tasks, grid.metrics, strict=True)):
        measured_n, is_fitted = grid.weights_Tn[i] > 0, i in fitted
        ends_n = measured_n & grid.last_n
        correlation = _correlation(grid.bpb_Tn[i, ends_n], grid.acc_Tn[i, ends_n])
        shown_n = measured_n if is_fitted else ends_n
        by_task[task] = AccuracyFit(
            metric, grid.bpb_Tn[i, shown_n], grid.acc_Tn[i, shown_n], chances[i], correlation,
            sigmoids if is_fitted else None, fitted.index(i) if is_fitted else -1, rows_read(rows, task, metric),
        )  # fmt: skip
    return by_task


def fit_sigmoids(
    grid: Checkpoints, task_X, weights_Xn, n_resamples: int, seed: int,
    starts: int = bootstrap.N_STARTS, resample_starts: int = 0,
) -> bootstrap.Fit:  # fmt: skip
    """Fit X sigmoids by least squares, each to the checkpoints of one task.

    task_X: index of the task in the grid. weights_Xn: of the checkpoints.
    """
    one_X1 = np.ones((len(task_X), 1))
    features = {"bpb": np.hstack([grid.bpb_Tn[task_X], 0 * one_X1])}
    weights_Xn = np.hstack([weights_Xn, ANCHOR_SHARE * weights_Xn.sum(axis=1, keepdims=True)])
    groups_n = np.append(grid.groups_n, "anchor")
    least_squares = 1.0  # a Huber threshold above any residual
    return bootstrap.fit(
        SIGMOID, features, np.hstack([grid.acc_Tn[task_X], one_X1]), weights_Tn=weights_Xn,
        groups_n=groups_n, always_n=np.arange(len(groups_n)) == len(grid.groups_n),
        solver=bootstrap.Solver(least_squares, starts=starts, resample_starts=resample_starts),
        resampling=bootstrap.Resampling(n_resamples, seed, "pairs"),
    )  # fmt: skip


def checkpoints(rows: Table, tasks) -> Checkpoints | None:
    """The checkpoints that step 2 reads; None where no task has an accuracy."""
    by_task = {}
    for task in tasks:
        metric = metric_of(rows, task)
        if metric is not None:
            by_task[task] = metric, pairs_by_run(rows.select(task=task), metric)
    if not by_task:
        return None
    runs = list(dict.fromkeys(run for _, by_run in by_task.values() for run in by_run))
    shape = len(by_task), len(runs), CHECKPOINTS_PER_RUN
    bpb, acc, weights = np.ones(shape), np.ones(shape), np.zeros(shape)
    for i, (_, by_run) in enumerate(by_task.values()):
        for run, pairs in by_run.items():
            pairs = smoothed(pairs[int(np.ceil(SKIP_SHARE * len(pairs))) if len(pairs) > 1 else 0 :], WINDOW)
            keep = np.unique(np.linspace(0, len(pairs) - 1, CHECKPOINTS_PER_RUN).round().astype(int))
            cells = i, runs.index(run), slice(CHECKPOINTS_PER_RUN - len(keep), None)
            bpb[cells], acc[cells] = pairs[keep].T
            weights[cells] = 1 / len(keep)
    flat = (arrays.reshape(len(by_task), -1) for arrays in (bpb, acc, weights))
    last_n = np.tile(np.arange(CHECKPOINTS_PER_RUN) == CHECKPOINTS_PER_RUN - 1, len(runs))
    groups_n = np.repeat(np.array(runs, object).astype(str), CHECKPOINTS_PER_RUN)
    return Checkpoints(tuple(by_task), tuple(m for m, _ in by_task.values()), groups_n, *flat, last_n)


def metric_of(rows: Table, task: str) -> str | None:
    """The accuracy that step 2 reads: one of ACCURACY_METRICS; None where the task has none."""
    metrics = rows.select(task=task).unique("metric")
    return next((m for m in ACCURACY_METRICS if m in metrics), None)


def rows_read(rows: Table, task: str, metric: str) -> Table:
    """The rows of a task that step 2 reads."""
    return rows.select(task=task, metric=["bpb", metric])


def pairs_by_run(rows: Table, metric: str) -> dict[str, np.ndarray]:
    """{run: [k, 2]}: bpb and accuracy of one task at the k steps that have both, in the order of the steps."""
    bpb, acc = rows.select(metric="bpb"), rows.select(metric=metric)
    bpb_of = dict(zip(zip(bpb["run"], bpb["step"], strict=True), bpb["value"], strict=True))
    triples = {}
    for run, step, value in zip(acc["run"], acc["step"], acc["value"], strict=True):
        if (run, step) in bpb_of:
            triples.setdefault(run, []).append((step, bpb_of[run, step], value))
    return {run: np.array(sorted(steps))[:, 1:] for run, steps in triples.items()}


def _correlation(bpb_n: np.ndarray, acc_n: np.ndarray) -> float:
    if len(bpb_n) < 3 or np.ptp(bpb_n) == 0 or np.ptp(acc_n) == 0:
        return 0.0
    return float(np.corrcoef(bpb_n, acc_n)[0, 1])


def chance_of(rows: Table, task: str, metric: str) -> Chance:
    """Whether the accuracy of a task is above chance in these runs: a binomial test of that of every decayed run
    against the larger of chance level and majority class."""
    ends = last_rows_of(rows, task, metric)
    if "n_docs" not in ends or "chance" not in ends or not len(ends):
        return Chance(None, True, "chance not tested: the table has no n_docs and chance")
    chance, n_docs, acc = ends["chance"], ends["n_docs"], ends["value"]
    floor = np.fmax(chance, ends["majority"]) if "majority" in ends else chance
    if np.isnan(floor).any() or np.isnan(n_docs).any():
        return Chance(None, True, "chance not tested: n_docs or chance is missing in some rows")
    p_n = stats.binom.sf(np.round(acc * n_docs) - 1, n_docs, floor)  # P(as many correct answers or more)
    above, best = int((p_n < SIGNIFICANCE / len(p_n)).sum()), int(acc.argmax())
    is_above = above >= min(MIN_RUNS_ABOVE_CHANCE, len(p_n))
    why = (
        f"{above} of {len(p_n)} runs above chance; the best has {acc[best]:.3f} on"
        f" {n_docs[best]:.0f} docs against {floor[best]:.3f} (binomial p = {p_n[best]:.2g})"
    )
    return Chance(float(chance[0]), is_above, why if is_above else f"at chance: {why}")
