"""The methods that the default forecast is compared with. Each gives ln loss at a target."""

import numpy as np

from fitting.bhagia2024 import methods as published
from fitting.errors import InputError
from fitting.forecasting import penalised, posterior
from fitting.forecasting.measurements import Measurements
from fitting.forecasting.posterior import Posterior
from fitting.inference import bootstrap
from fitting.laws.base import Law
from fitting.laws.power_sum import CHINCHILLA, POWERS
from fitting.tables.points import SAME, Points, Target, ladder_points
from fitting.tables.runs_table import Table

PENALISED = "penalised"
# Starts of a single law's fit: enough that it finds its optimum, few enough for many cases.
STARTS, HUBER = 8, 1e-2
BY_COMPUTE, BY_TOKENS = (next(law for law in POWERS if law.features == (feature,)) for feature in ("C", "D"))
# A learning curve is extrapolated from at least this many checkpoints, the last at no more than this share of the end.
MIN_CHECKPOINTS, LATEST = 5, 0.5


def others(table: Table, read: Measurements, laws: dict[tuple[str, str], Posterior], targets: list[Target]) -> dict:
    """{(target, task): {method: ln loss}} for every law of the default.

    penalised: the optimum of each form by jaxopt, averaged with the posterior's weights. chinchilla, law of C: single
    fits. last value: of the run with the largest compute. paper: the task-ladder paper's step 1. one checkpoint: the
    default, of runs' last evaluations alone instead of means of the last few. learning curve: the target's own curve
    (or that of its size), extrapolated in tokens.
    """
    if not laws:
        return {}
    points, at = read.points, {target.name: target for target in targets}
    loss_of = {task: points.bpb_Tn[points.tasks.index(task)] for _, task in laws}
    best = _penalised(points, laws, loss_of, at)
    singles = {
        (name, task): _fitted(law, points.features["N"], points.features["D"], loss_of[task])
        for task in loss_of
        for name, law in (("chinchilla", CHINCHILLA), ("law of C", BY_COMPUTE))
    }
    paper, last = _paper(table, read, targets, list(loss_of)), _last_rows(table, read, list(loss_of))
    values = {}
    for i, ((name, task), law) in enumerate(laws.items()):
        target = at[name]
        found = {PENALISED: best[i], "last value": law.best_run, "paper": paper.get((name, task))}
        found |= {single: singles[single, task](target) for single in ("chinchilla", "law of C")}
        found["one checkpoint"] = _one_checkpoint(last, loss_of[task], points, task, target)
        found["learning curve"] = _learning_curve(table, read, task, target)
        values[name, task] = {method: value for method, value in found.items() if value is not None}
    return values


def _penalised(points: Points, laws: dict, loss_of: dict, at: dict[str, Target]) -> list[float]:
    loss_Tn = np.array([loss_of[task] for _, task in laws])
    n, d = points.features["N"], points.features["D"]
    fitted = penalised.fit(n, d, loss_Tn, list(laws.values()), points.groups_n, 0, 0)
    weights_TF = [list(law.form_weights.values()) for law in laws.values()]
    by_target = {name: fitted.log_loss(target.N, target.D)[:, :, 0] for name, target in at.items()}
    return [float(weights_TF[i] @ by_target[name][:, i]) for i, (name, _) in enumerate(laws)]


def _fitted(law: Law, n, d, loss_n: np.ndarray):
    """A function target -> ln loss, by one law fitted to the runs."""
    has_n = ~np.isnan(loss_n)

    def features(n, d) -> dict:
        return {name: {"N": n, "D": d, "C": 6 * n * d}[name] for name in law.features}

    solver, resampling = bootstrap.Solver(HUBER, starts=STARTS), bootstrap.Resampling(2, method="residuals")
    fitted = bootstrap.fit(law, features(n[has_n], d[has_n]), loss_n[has_n][None], solver=solver, resampling=resampling)

    def predict(target: Target) -> float | None:
        loss = fitted.predict(features(np.array([[target.N]]), np.array([[target.D]])))[0, 0, 0]
        return float(np.log(loss)) if loss > 0 else None

    return predict


def _paper(table: Table, read: Measurements, targets: list[Target], tasks: list[str]) -> dict:
    try:
        entries = published.predict(table.select(metric=read.metric), targets, tasks, "paper")
    except InputError:  # it needs more runs than some tables have
        return {}
    return {(e.target, e.task): float(np.log(e.bpb)) for e in entries if e.bpb and e.bpb > 0}


def _last_rows(table: Table, read: Measurements, tasks: list[str]) -> Points:
    return ladder_points(table, tasks, "n_params", read.metric, last_rows=1)


def _one_checkpoint(last: Points, loss_n: np.ndarray, points: Points, task: str, target: Target) -> float | None:
    """The default forecast from each run's last evaluation alone; None where every run has only one."""
    last_n = last.bpb_Tn[last.tasks.index(task)]
    has_n = ~np.isnan(last_n) & ~np.isnan(loss_n) if last.runs == points.runs else np.zeros(0, bool)
    if not has_n.any() or np.array_equal(last_n[has_n], loss_n[has_n]):
        return None
    n, d = last.features["N"][has_n], last.features["D"][has_n]
    return posterior.fit(n, d, last_n[has_n], target.N, target.D).forecast(target.N, target.D).log_loss


def _learning_curve(table: Table, read: Measurements, task: str, target: Target) -> float | None:
    """A power of tokens with a floor through the early checkpoints of the target's size; None where too few."""
    rows = table.select(task=task, metric=read.metric)
    early = (np.abs(rows["n_params"] / target.N - 1) < SAME) & (rows["tokens"] <= LATEST * target.D)
    early &= (rows["split"] != "extra") & (rows["value"] > 0)
    tokens, loss = rows["tokens"][early], rows["value"][early]
    if len(np.unique(tokens)) < MIN_CHECKPOINTS:
        return None
    late = tokens >= 0.1 * tokens.max()  # the first steps follow no power law
    if len(np.unique(tokens[late])) < MIN_CHECKPOINTS:
        return None
    return _fitted(BY_TOKENS, np.full(late.sum(), target.N), tokens[late], loss[late])(target)
