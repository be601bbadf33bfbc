"""The two-step task law: (N, D) -> bpb of a task's answers -> accuracy (after Bhagia et al. 2024).

Step 1 is an average of forms through the ends of the decayed runs (`model_average`), weighted by backtests on the
ladder (`backtest`). Step 2 is a sigmoid through checkpoints of all runs, for tasks whose accuracy is above chance
(`accuracy`). Rows of split "target" enter neither. The published method, to the letter, is in fitting/bhagia2024.
"""

from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap, noise
from fitting.laws.forms import FAMILY
from fitting.laws.sigmoid import SIGMOID
from fitting.tables.points import Points, Target, ladder_points, measured, measured_rows, targets_of
from fitting.tables.runs_table import SCHEMA_VERSION, Table
from fitting.task_laws import accuracy, backtest, diagnostics, model_average
from fitting.task_laws.forecasts import SuiteForecast, TaskForecast
from fitting.task_laws.model_average import Average

MIN_SIZES = 3
# A draw uses one of up to twelve forms, so each form gets only this fraction of the resamples, and at least 20.
RESAMPLES_SHARED, MIN_RESAMPLES = 8, 20


@dataclass(frozen=True)
class Prediction:
    """The result of `predict`; `json()` is pred.json.

    fitted: names of the tasks that step1 holds, in its order. step2: by task. tested: None where no backtest is
    possible. draws_bpb, draws_acc: {(target, task): [R]}, scaled by the factors of the backtests.
    """

    points: Points
    targets: tuple[Target, ...]
    fitted: tuple[str, ...]
    step1: Average | None
    step2: dict[str, accuracy.AccuracyFit]
    tested: backtest.Report | None
    tasks: tuple[TaskForecast, ...]
    suite: tuple[SuiteForecast, ...]
    draws_bpb: dict
    draws_acc: dict
    settings: dict
    table_sha256: str

    @property
    def factor_bpb(self) -> float:
        """The interval scale factor of bpb."""
        return self.tested.factor_bpb if self.tested else backtest.NO_FACTOR

    def entry(self, target: Target, task: str) -> TaskForecast:
        return next(e for e in self.tasks if (e.target, e.task) == (target.name, task))

    def json(self) -> dict:
        return {
            "schema_version": SCHEMA_VERSION,
            "table_sha256": self.table_sha256,
            "method": self.settings["method"],
            "n_convention": self.settings["n_convention"],
            "targets": [target.json() for target in self.targets],
            "predictions": [entry.json() for entry in self.tasks],
            "suite": [row.json() for row in self.suite],
            "settings": self.settings,
        }


def predict(
    table: Table, targets: list[Target] | None = None, *, tasks: list[str] | None = None,
    n_convention: str = "n_params", n_resamples: int = 400, seed: int = 0,
) -> Prediction:  # fmt: skip
    """Predict bpb and accuracy of targets (default: those in the table) for tasks (default: all).

    Raises InputError where nothing can be predicted from the table, or where it counts parameters otherwise than a
    target. A single task that cannot be predicted has bpb None and a flag that says why.
    """
    targets = targets_of(table, n_convention) if targets is None else list(targets)
    _check_targets(table, targets, n_convention)
    points = ladder_points(table, tasks, n_convention)
    reasons = _unusable(points)
    usable_T = np.array([not reason for reason in reasons])
    fitted = tuple(np.array(points.tasks, object)[usable_T])
    step1 = tested = None
    step2 = accuracy.fit_all(table, points.tasks, n_resamples, seed)
    if fitted:
        used = replace(points, tasks=fitted, bpb_Tn=points.bpb_Tn[usable_T])
        tested = backtest.report(table, used, step2, n_convention)
        forms = model_average.forms_for(points)
        weights_FT = tested.weights_FT if tested else backtest.equal_weights(len(forms), len(fitted))
        n_each = max(n_resamples // RESAMPLES_SHARED, MIN_RESAMPLES)
        step1 = model_average.fit(used, weights_FT, n_each, seed, forms)
    factor_bpb, factor_acc = (tested.factor_bpb, tested.factor_acc) if tested else [backtest.NO_FACTOR] * 2
    rerun_noise = diagnostics.rerun_noise(table, points, n_convention)
    entries, draws_bpb, draws_acc = [], {}, {}
    for target in targets:
        features = {k: [v] for k, v in target.features.items()}
        center_T = step1.predict(features)[:, 0] if fitted else []
        draws_TR = step1.draws(features, n_resamples, seed)[:, :, 0] if fitted else []
        for task, reason in zip(points.tasks, reasons, strict=True):
            entry, draws_R = TaskForecast(target.name, task, flags=(reason,) if reason else ()), None
            if task in fitted:
                t = fitted.index(task)
                bpb, draws_R = float(center_T[t]), draws_TR[t]
                scaled_R = draws_bpb[target.name, task] = bpb * (draws_R / bpb) ** factor_bpb
                flags = tuple(diagnostics.step1(step1, t, points, target, rerun_noise.get(task)))
                entry = replace(entry, bpb=bpb, bpb_interval=bootstrap.point_interval(scaled_R, bpb), flags=flags)
            others = measured_rows(table, target, task, "bpb"), *diagnostics.rows_of(step2, task)
            entry = replace(entry, flags=(*entry.flags, *points.flags(task, *others)))
            if task in step2:
                entry = _with_accuracy(entry, step2[task], draws_R, factor_acc, draws_acc, seed)
            entries.append(entry)
    suite = [_suite(target, entries, draws_bpb, draws_acc) for target in targets]
    settings = _settings(table, points, step1, step2, tested, n_convention, n_resamples, seed)
    return Prediction(
        points, tuple(targets), fitted, step1, step2, tested, tuple(entries), tuple(suite), draws_bpb, draws_acc,
        settings, table.sha256,
    )  # fmt: skip


def _check_targets(table: Table, targets: list[Target], n_convention: str) -> None:
    if not targets:
        raise InputError(f'{table.source}: no target to predict: name one (or add rows with split "target")', "target")
    for target in targets:
        if target.n_is != n_convention:
            raise InputError(
                f"target {target.name}: its N is {target.n_is}, and the ladder's sizes are counted as {n_convention}",
                "target",
            )


def _with_accuracy(
    entry: TaskForecast, step2: accuracy.AccuracyFit, draws_R, factor: float, draws_acc: dict, seed: int
) -> TaskForecast:
    """The entry with its accuracy and flags, from draws of bpb (None: no step 1); adds scaled draws to draws_acc."""
    if step2.fit is None:
        entry = replace(entry, accuracy=step2.chance.level)
    elif draws_R is not None:
        acc = float(step2.predict([entry.bpb])[0, 0])
        scaled_R = np.clip(acc + factor * (step2.draws(draws_R[:, None], seed)[:, 0] - acc), 0.0, 1.0)
        draws_acc[entry.target, entry.task] = scaled_R
        entry = replace(entry, accuracy=acc, accuracy_interval=bootstrap.point_interval(scaled_R, acc))
    return replace(entry, flags=(*entry.flags, *diagnostics.step2(step2, entry)))


def _suite(target: Target, entries: list[TaskForecast], draws_bpb: dict, draws_acc: dict) -> SuiteForecast:
    """The mean over all predicted tasks."""
    means = {}
    for name, draws in (("bpb", draws_bpb), ("accuracy", draws_acc)):
        predicted = [e for e in entries if (e.target, e.task) in draws and e.target == target.name]
        if predicted:
            mean = float(np.mean([getattr(e, name) for e in predicted]))
            mean_R = np.mean([draws[e.target, e.task] for e in predicted], axis=0)
            means |= {name: mean, f"{name}_interval": bootstrap.point_interval(mean_R, mean)}
            means[f"{name}_tasks"] = tuple(e.task for e in predicted)
    return SuiteForecast(target.name, **means)


def with_measured(prediction: Prediction, table: Table) -> list[TaskForecast]:
    """The predictions with what the target's run in the table measured, where it has been trained."""
    entries = []
    for entry in prediction.tasks:
        target = next(t for t in prediction.targets if t.name == entry.target)
        acc = None
        if entry.task in prediction.step2:
            acc = measured(table, target, entry.task, prediction.step2[entry.task].metric)
        bpb = measured(table, target, entry.task, "bpb")
        entries.append(replace(entry, measured_bpb=bpb, measured_accuracy=acc))
    return entries


def _unusable(points: Points) -> list[str]:
    """For each task "" or the reason why no law can be fitted to it."""
    needed = len(FAMILY.params) + 1
    reasons = []
    for measured_n in ~np.isnan(points.bpb_Tn):
        runs, sizes = measured_n.sum(), len(set(points.features["N"][measured_n]))
        is_enough = runs >= needed and sizes >= MIN_SIZES and runs >= 1.5 * sizes
        reason = (
            f"too few runs: {runs} decayed runs of {sizes} sizes; the law needs"
            f" {needed} runs, {MIN_SIZES} sizes and more than one length for each"
        )
        reasons.append("" if is_enough else reason)
    return reasons


def _settings(table, points: Points, step1, step2, tested, n_convention: str, n_resamples: int, seed: int) -> dict:
    """The items that a report of a scaling law must state (Li et al. 2025, "(Mis)fitting")."""
    weights = dict(zip([f.name for f in step1.forms], step1.weights_FT.mean(axis=1), strict=True)) if step1 else {}
    sigmoids = next((fit.fit for fit in step2.values() if fit.fit), None)
    return {
        "method": "default",
        "law": f"average of {len(weights)} forms of {FAMILY.formula}",
        "form_weights": {name: round(float(w), 4) for name, w in weights.items()},
        "weights_from": tested.why if tested else "no backtest was possible: equal weights",
        "objective": "sum of Huber(ln measured - ln law)",
        "huber_delta": model_average.HUBER,
        "solver": "jaxopt LevenbergMarquardt, float64, bounds by reparametrisation",
        "starts": model_average.N_STARTS,
        "bounds": {p.name: [b if np.isfinite(b) else None for b in p.bounds] for p in FAMILY.params},
        "runs_used": list(points.runs),
        "runs_left_out": list(table.left_out),
        "point": "mean of a decayed run's last evaluations (at most 5, of its last 3 % of steps)",
        "n_convention": n_convention,
        "resampling": step1.fit.method if step1 else None,
        "resamples": step1.fit.noise_TR.shape[1] if step1 else None,  # of each form
        "draws": n_resamples,
        "seed": seed,
        "converged": float(step1.fit.resamples_converged_T.mean()) if step1 else None,
        "noise_floor": model_average.NOISE_FLOOR,
        "trunk_share": noise.TRUNK_SHARE,
        "interval": "80 %: form, parameters, run noise; scaled by a factor from the backtests",
        "factor_bpb": tested.factor_bpb if tested else None,
        "factor_acc": tested.factor_acc if tested else None,
        "step2": f"{SIGMOID.formula}, least squares, runs weighted equally",
        "step2_converged": float(sigmoids.resamples_converged_T.mean()) if sigmoids else None,
    }
