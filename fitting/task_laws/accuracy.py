"""Step 2 of the task law: accuracy as a sigmoid of bpb, where accuracy is above chance."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fitting.inference import bootstrap
from fitting.laws.sigmoid import SIGMOID
from fitting.tables.runs_table import Table, smoothed

ACCURACY_METRICS = ("len_norm", "acc")
# Step 2 reads this many evenly spaced checkpoints of a run. More points of the same run add little information.
CHECKPOINTS_PER_RUN = 8
# As published: the first tenth of a run is left out, and each value is a trailing mean over five rows.
SKIP_SHARE, WINDOW = 0.1, 5
# Weight of the published anchor (accuracy 1 at bpb 0): there it is one point beside 1,400 checkpoints.
ANCHOR_SHARE = 1 / 1400
# A task is above chance if this many runs are, each at this level of significance after Bonferroni's correction.
MIN_RUNS_ABOVE_CHANCE, SIGNIFICANCE = 3, 0.05
MIN_RUNS = 3
WEAK_CORRELATION = 0.7


@dataclass(frozen=True)
class Chance:
    """Whether a task's accuracy is above chance, and the sentence that says why (or why not)."""

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
    """

    metric: str
    bpb_n: np.ndarray
    acc_n: np.ndarray
    chance: Chance
    correlation: float
    fit: bootstrap.Fit | None
    row: int

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
    chances = [
        _chance(rows.select(task=t, metric=m, final=True)) for t, m in zip(grid.tasks, grid.metrics, strict=True)
    ]
    enough_T = [
        len(set(grid.groups_n[w > 0])) >= MIN_RUNS and (w > 0).sum() > len(SIGMOID.params) for w in grid.weights_Tn
    ]
    fitted = [i for i, c in enumerate(chances) if c.above and enough_T[i]]
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
            sigmoids if is_fitted else None, fitted.index(i) if is_fitted else -1,
        )  # fmt: skip
    return by_task


def fit_sigmoids(
    grid: Checkpoints,
    task_X,
    weights_Xn,
    n_resamples: int,
    seed: int,
    starts: int = bootstrap.N_STARTS,
    resample_starts: int = 0,
) -> bootstrap.Fit:
    """Fit X sigmoids by least squares, each to the checkpoints of one task.

    task_X: index of the task in the grid. weights_Xn: of the checkpoints.
    """
    one_X1 = np.ones((len(task_X), 1))
    anchor_X1 = ANCHOR_SHARE * weights_Xn.sum(axis=1, keepdims=True)
    least_squares = 1.0  # a Huber threshold above any residual
    return bootstrap.fit(
        SIGMOID,
        {"bpb": np.hstack([grid.bpb_Tn[task_X], 0 * one_X1])},
        np.hstack([grid.acc_Tn[task_X], one_X1]),
        weights_Tn=np.hstack([weights_Xn, anchor_X1]),
        groups_n=np.append(grid.groups_n, "anchor"),
        always_n=np.arange(len(grid.groups_n) + 1) == len(grid.groups_n),
        solver=bootstrap.Solver(least_squares, starts=starts, resample_starts=resample_starts),
        resampling=bootstrap.Resampling(n_resamples, seed, "pairs"),
    )


def checkpoints(rows: Table, tasks) -> Checkpoints | None:
    """The checkpoints that step 2 reads; None where no task has an accuracy."""
    by_task = {}
    for task in tasks:
        task_rows = rows.select(task=task)
        metric = next((m for m in ACCURACY_METRICS if m in task_rows["metric"]), None)
        if metric is not None:
            by_task[task] = metric, pairs_by_run(task_rows, metric)
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


def _chance(final: Table) -> Chance:
    """Binomial test of every decayed run's accuracy against the larger of chance level and majority class."""
    if "n_docs" not in final or "chance" not in final or not len(final):
        return Chance(None, True, "chance not tested: the table has no n_docs and chance")
    chance = float(final["chance"][0])
    floor = np.array(final["chance"])
    if "majority" in final:
        floor = np.fmax(floor, final["majority"])
    n_docs, acc = final["n_docs"], final["value"]
    if np.isnan(floor).any() or np.isnan(n_docs).any():
        return Chance(None, True, "chance not tested: n_docs or chance is missing in some rows")
    p_n = _binomial_tail(np.round(acc * n_docs), n_docs, floor)
    above = int((p_n < SIGNIFICANCE / len(p_n)).sum())
    best = int(acc.argmax())
    needed = min(MIN_RUNS_ABOVE_CHANCE, len(p_n))
    why = (
        f"{above} of {len(p_n)} runs above chance; the best has {acc[best]:.3f} on"
        f" {n_docs[best]:.0f} docs against {floor[best]:.3f} (binomial p = {p_n[best]:.2g})"
    )
    return Chance(chance, above >= needed, why if above >= needed else f"at chance: {why}")


def _binomial_tail(k, n, p) -> np.ndarray:
    """P(X >= k) of a binomial distribution."""
    return stats.binom.sf(k - 1, n, p)
