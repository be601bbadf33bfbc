"""The task-ladder paper's methods to the letter (Bhagia et al. 2024): step 1, step 2, the chain, C-based, single-step.

Objective, start, bounds and optimiser are the published ones (SciPy's L-BFGS-B and curve_fit from one start), because
the answer depends on them where there are fewer runs than parameters. As published, final losses are means of the last
5 evaluations and step 2 reads all checkpoints. Rows of split "extra" and "target" enter no fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fitting.errors import InputError
from fitting.forecasting.results import TaskForecast
from fitting.tables import accuracies
from fitting.tables.points import Points, Target, ladder_points
from fitting.tables.runs_table import Table, smoothed

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

METHODS = ("paper", "paper-c", "paper-single")
DELTA, LAST_ROWS, WINDOW, SKIP_SHARE = 1e-3, 5, 5, 0.1
OTHER_GUESS = 0.25  # accuracy by guessing, which step 2 starts from, of tasks that are not well known
# Further starts of the single step, near the published one: their number, their relative distance (sd), and the number
# of iterations after which they are compared.
N_NEAR, NEAR, SHORT_RUN = 11, 0.1, 200
FREE, POSITIVE = (None, None), (0.0, None)
# Parameters that the paper bounds by 0 from below, in the order in which flags name them.
NON_NEGATIVE = ("logA", "logB", "alpha", "beta", "E")


@dataclass(frozen=True)
class Fit:
    """A fitted curve: parameters as the paper names them, and predict(features) at {"N", "D", "C"} or {"bpb"}."""

    params: dict[str, float]
    predict: Callable[[dict], np.ndarray]


def guess(task: str) -> float:
    level = accuracies.known_chance(task)
    return OTHER_GUESS if level is None else level


def step1(features: dict, y_n: np.ndarray) -> Fit:
    """L = A/N^alpha + B/D^beta + E (equation 1)."""
    p = _fit_log_huber(_power_law, features, y_n, (3.0, 6.0, 0.1, 0.2, 1.0), [POSITIVE] * 5).x
    return _fit(("logA", "logB", "alpha", "beta", "E"), p, _power_law)


def _power_law(p, x: dict) -> tuple[np.ndarray, np.ndarray]:
    """(A/N^alpha + B/D^beta + E, its gradient [5, n]) for p = (ln A, ln B, alpha, beta, E)."""
    a, b = np.exp(p[0] - p[2] * np.log(x["N"])), np.exp(p[1] - p[3] * np.log(x["D"]))
    return a + b + p[4], np.array([a, b, -a * np.log(x["N"]), -b * np.log(x["D"]), np.ones_like(a)])


def _fit(names: tuple[str, ...], p, value_and_gradient) -> Fit:
    return Fit(dict(zip(names, p, strict=True)), lambda x: value_and_gradient(p, x)[0])


def step1_c(features: dict, y_n: np.ndarray) -> Fit:
    """L = A/C^alpha + E (the C-based variant); C are the table's FLOPs."""

    def power_law(p, x):
        a = np.exp(p[0] - p[1] * np.log(x["C"]))
        return a + p[2], np.array([a, -a * np.log(x["C"]), np.ones_like(a)])

    p = _fit_log_huber(power_law, features, y_n, (3.0, 0.1, 1.0), [POSITIVE, (0.0, 1.0), POSITIVE]).x
    return _fit(("logA", "alpha", "E"), p, power_law)


def single_step(features: dict, acc_n: np.ndarray, chance: float) -> Fit:
    """Acc = p sigmoid(A/N^alpha + B/D^beta + E) + q, straight from N and D."""

    def sigmoid(p, x):
        inner_n, gradient_5n = _power_law(p, x)
        s = 1 / (1 + np.exp(-inner_n))
        gradient_7n = np.array([*(p[5] * s * (1 - s) * gradient_5n), s, np.ones_like(s)])
        return np.maximum(p[5] * s + p[6], 1e-6), gradient_7n

    bounds = [POSITIVE] * 4 + [FREE, (-1.0, 0.0), (0.0, 1.0)]
    published = np.array([3.0, 5.0, 0.2, 0.3, 0.0, chance - 1, 1.0])
    # On some tasks rounding, and so the machine, decides which local minimum the published start leads to. Two in three
    # of the nearby starts lead to the better one, which is the paper's.
    near = published * (1 + NEAR * np.random.default_rng(0).standard_normal((N_NEAR, 7)))
    short_runs = [_fit_log_huber(sigmoid, features, acc_n, p, bounds, SHORT_RUN) for p in (published, *near)]
    p = _fit_log_huber(sigmoid, features, acc_n, min(short_runs, key=lambda result: result.fun).x, bounds).x
    return _fit(("logA", "logB", "alpha", "beta", "E", "p", "q"), p, sigmoid)


def _fit_log_huber(value_and_gradient, features: dict, y_n, start, bounds, max_iterations=10**6) -> "OptimizeResult":
    """Minimise the sum of Huber(ln fitted - ln measured) as published."""

    from scipy import optimize  # takes half a second to import, and only these methods need it

    def objective(p):
        fitted, gradient_Pn = value_and_gradient(p, features)
        u = np.log(fitted) - np.log(y_n)
        near = np.abs(u) < DELTA
        value = np.where(near, u**2 / 2, DELTA * (np.abs(u) - DELTA / 2)).sum()
        slope_n = np.where(near, u, DELTA * np.sign(u)) / fitted
        return value, (gradient_Pn * slope_n).sum(axis=1)

    options = {"method": "L-BFGS-B", "options": {"ftol": 0.0, "gtol": 1e-10, "maxiter": max_iterations}}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return optimize.minimize(objective, start, jac=True, bounds=bounds, tol=0.0, **options)


def step2(bpb_n: np.ndarray, acc_n: np.ndarray, chance: float) -> Fit:
    """Acc = a / (1 + exp(-k (L - L0))) + b (equation 2), least squares, with the point (0, 1)."""

    from scipy import optimize

    def sigmoid(bpb, a, l0, k, b):
        return a / (1 + np.exp(-k * (bpb - l0))) + b

    with np.errstate(over="ignore"):
        p, _ = optimize.curve_fit(
            sigmoid, np.append(bpb_n, 0.0), np.append(acc_n, 1.0), p0=(chance - 1, 0.9, 3.0, 1.0),
            bounds=([-1, 0, 0, 0], [0, np.inf, np.inf, 1]), maxfev=500000,
        )  # fmt: skip
    return Fit(dict(zip(("a", "L0", "k", "b"), p, strict=True)), lambda x: sigmoid(np.asarray(x["bpb"]), *p))


def checkpoints(table: Table, task: str, runs, acc_metric: str) -> np.ndarray:
    """[2, n]: bpb and accuracy of step 2: every run without its first tenth, then a trailing mean over 5 rows."""
    pairs_by_run = accuracies.pairs_by_run(table.select(task=task, run=list(runs)), acc_metric)
    pairs = [pairs_by_run[run] for run in runs if run in pairs_by_run]
    return np.concatenate([smoothed(p[int(np.ceil(SKIP_SHARE * len(p))) :], WINDOW) for p in pairs]).T


def points(table: Table, tasks, metric: str = "bpb") -> Points:
    """The final losses of the ladder: split train, means of the last 5 evaluations. "C" is the table's FLOPs."""
    ends = ladder_points(table, tasks, "n_params", metric, last_rows=LAST_ROWS)
    if "flops" in ends.features:
        ends.features["C"] = ends.features["flops"]
    return ends


def predict(table: Table, targets: list[Target], tasks=None, method: str = "paper") -> list[TaskForecast]:
    """Predictions by one of METHODS, with the fitted parameters; the paper gives no prediction intervals.

    Raises InputError where there is no target, or paper-c lacks FLOPs.
    """
    if not targets:
        raise InputError(f'{table.source}: no target to predict: name one (or add rows with split "target")', "target")
    ends = points(table, tasks, _measured_metric(table) if method == "paper-single" else "bpb")
    entries = []
    for task, bpb_n in zip(ends.tasks, ends.bpb_Tn, strict=True):
        measured_n = ~np.isnan(bpb_n)
        features = {k: v[measured_n] for k, v in ends.features.items()}
        chain = _fits(table, method, task, features, bpb_n[measured_n], np.array(ends.runs)[measured_n])
        at_bound = [(name, p) for name, fit in chain.items() for p in NON_NEGATIVE if fit.params.get(p) == 0.0]
        flags = [f"{name}: parameter at its bound: {p}" for name, p in at_bound] + _mixed(table, ends, task, chain)
        fits = {k: {n: float(v) for n, v in f.params.items()} for k, f in chain.items()}
        for target in targets:
            x = _features(target, method)
            bpb = float(chain["step1"].predict(x)) if "step1" in chain else None
            x, last = (x, chain.get("single")) if method == "paper-single" else ({"bpb": bpb}, chain.get("step2"))
            acc = None if last is None else float(last.predict(x))
            entries.append(TaskForecast(target.name, task, bpb, accuracy=acc, flags=tuple(flags), fits=fits))
    return entries


def _measured_metric(table: Table) -> str:
    """bpb, or the accuracy of a table that has no bpb, which the method paper-single does without."""
    metrics = ("bpb", *accuracies.ACCURACY_METRICS)
    return next((metric for metric in metrics if metric in table["metric"]), "bpb")


def _fits(table: Table, method: str, task: str, features: dict, bpb_n, runs) -> dict[str, Fit]:
    """{"step1", "step2"}, or {"single"}; without what needs an accuracy where the task has none."""
    metric = accuracies.metric_of(table, task)
    if method == "paper-c" and "C" not in features:
        raise InputError(f"{table.source}: no column 'flops' (in every run), which the method paper-c needs", "method")
    if method == "paper-single":
        if metric is None:
            return {}
        ends = points(table, [task], metric)
        return {"single": single_step(ends.features, ends.bpb_Tn[0], guess(task))}
    fits = {"step1": (step1_c if method == "paper-c" else step1)(features, bpb_n)}
    if metric is not None:
        fits["step2"] = step2(*checkpoints(table, task, runs, metric), guess(task))
    return fits


def _mixed(table: Table, ends: Points, task: str, fits: dict[str, Fit]) -> list[str]:
    """Reasons why the points of a task do not compare."""
    read = table.select(run=list(ends.runs))
    others = [accuracies.rows_read(read, task, accuracies.metric_of(table, task))] if "step2" in fits else []
    return list(ends.flags(task, *others))


def _features(target: Target, method: str) -> dict:
    if method == "paper-c" and target.C is None:
        raise InputError(f"target {target.name}: the method paper-c needs its FLOPs: NAME=N,D,FLOPS", "target")
    return target.features | ({"C": float(target.C)} if target.C else {})  # np.log takes no int above 2**64
