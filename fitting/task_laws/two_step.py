"""The two-step task law: (N, D) -> bpb of a task's answers -> accuracy (after Bhagia et al. 2024).

Step 1 is an average of forms over the ends of the decayed runs (`average`), weighted by backtests on
the ladder (`backtest`). Step 2 is a sigmoid through checkpoints of all runs, for tasks whose accuracy
is above chance (`accuracy`). Rows of split "target" enter neither. The published method, to the
letter, is in `paper`.
"""

from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap, noise
from fitting.laws.forms import FAMILY
from fitting.laws.sigmoid import SIGMOID
from fitting.tables.points import Points, Target, ladder_points, measured, targets_of
from fitting.tables.runs_table import SCHEMA_VERSION, Table
from fitting.task_laws import accuracy, backtest, diagnostics, model_average
from fitting.task_laws.model_average import Average

MIN_SIZES = 3
# A draw is one of twelve forms, so each form needs only a part of the resamples.
RESAMPLES_SHARED = 8
SUITE = "all tasks"


@dataclass(frozen=True)
class Prediction:
    """All that `predict` found. `json()` is what goes into pred.json.

    fitted: names of the tasks that step1 holds, in its order. step2: by task. entries: as in
    pred.json. draws_bpb: {(target, task): [R]} and draws_acc likewise, already stretched.
    """

    points: Points
    targets: tuple[Target, ...]
    fitted: tuple[str, ...]
    step1: Average | None
    step2: dict[str, accuracy.AccuracyFit]
    tested: backtest.Report | None
    entries: tuple[dict, ...]
    suite: tuple[dict, ...]
    draws_bpb: dict
    draws_acc: dict
    settings: dict
    table_sha256: str

    def json(self) -> dict:
        return {
            "schema_version": SCHEMA_VERSION,
            "table_sha256": self.table_sha256,
            "method": self.settings["method"],
            "n_convention": self.settings["n_convention"],
            "targets": [{k: v for k, v in vars(t).items() if v is not None} for t in self.targets],
            "predictions": list(self.entries),
            "suite": list(self.suite),
            "settings": self.settings,
        }


def predict(
    table: Table,
    targets: list[Target] | None = None,
    *,
    tasks: list[str] | None = None,
    n_convention: str = "n_params",
    n_resamples: int = 400,
    seed: int = 0,
) -> Prediction:
    """Predict bpb and accuracy of targets (default: those in the table) for tasks (default: all).

    Raises InputError where the table cannot support any prediction; a single task that cannot be
    predicted has bpb None and a flag that says why.
    """
    targets = targets_of(table, n_convention) if targets is None else list(targets)
    if not targets:
        raise InputError(f'{table.source}: no target to predict: add --target NAME=N,D (or rows with split "target")')
    points = ladder_points(table, tasks, n_convention)
    reasons = _unusable(points)
    usable_T = np.array([not reason for reason in reasons])
    fitted = tuple(t for t, usable in zip(points.tasks, usable_T, strict=True) if usable)
    step1 = tested = None
    step2 = accuracy.fit_all(table, points.tasks, n_resamples, seed)
    if fitted:
        used = replace(points, tasks=fitted, bpb_Tn=points.bpb_Tn[usable_T])
        tested = backtest.report(table, used, step2, n_convention)
        forms = model_average.forms_for(points)
        weights_FT = tested.weights_FT if tested else backtest.no_weights(len(forms), len(fitted))
        step1 = model_average.fit(used, weights_FT, max(n_resamples // RESAMPLES_SHARED, 20), seed, forms)
    runs_noise = diagnostics.rerun_noise(table, points, n_convention)
    entries, draws_bpb, draws_acc = [], {}, {}
    for target in targets:
        at = {k: [v] for k, v in target.features.items()}
        center_T = step1.predict(at)[:, 0] if fitted else []
        draws_TR = step1.draws(at, n_resamples, seed)[:, :, 0] if fitted else []
        for task, reason in zip(points.tasks, reasons, strict=True):
            entry = {"target": target.name, "task": task, "bpb": None, "bpb_pi80": None}
            entry |= {"acc": None, "acc_pi80": None, "flags": [reason] if reason else []}
            if task in fitted:
                t, key = fitted.index(task), (target.name, task)
                entry["bpb"] = float(center_T[t])
                factor = tested.factor_bpb if tested else 1.0
                draws_bpb[key] = entry["bpb"] * (draws_TR[t] / entry["bpb"]) ** factor
                entry["bpb_pi80"] = bootstrap.point_interval(draws_bpb[key], entry["bpb"])
                entry["flags"] += diagnostics.step1(step1, t, points, target, runs_noise.get(task))
            if task in step2:
                of = step2[task]
                raw = draws_TR[fitted.index(task)] if task in fitted else None
                _predict_accuracy(entry, of, raw, tested, draws_acc, seed)
                entry["flags"] += diagnostics.step2(of, entry)
            entries.append(entry)
    suite = [_suite(target, entries, draws_bpb, draws_acc) for target in targets]
    settings = _settings(table, points, step1, step2, tested, n_convention, n_resamples, seed)
    return Prediction(
        points, tuple(targets), fitted, step1, step2, tested, tuple(entries), tuple(suite), draws_bpb, draws_acc,
        settings, table.sha256,
    )  # fmt: skip


def _predict_accuracy(entry: dict, of: accuracy.AccuracyFit, draws_R, tested, draws_acc: dict, seed: int) -> None:
    """Fill an entry's acc and acc_pi80 from draws of bpb (None: no step 1)."""
    if of.fit is None:
        entry["acc"] = of.chance.level
        return
    if draws_R is None:
        return
    acc = float(of.predict([entry["bpb"]])[0, 0])
    factor = tested.factor_acc if tested else 1.0
    draws_R = np.clip(acc + factor * (of.draws(draws_R[:, None], seed)[:, 0] - acc), 0.0, 1.0)
    draws_acc[entry["target"], entry["task"]] = draws_R
    entry["acc"], entry["acc_pi80"] = acc, bootstrap.point_interval(draws_R, acc)


def _suite(target: Target, entries: list[dict], draws_bpb: dict, draws_acc: dict) -> dict:
    """The mean over all predicted tasks, with an interval of its own: tasks share runs, so errors do not cancel."""
    row = {"target": target.name, "task": SUITE, "bpb": None, "bpb_pi80": None, "acc": None, "acc_pi80": None}
    for name, draws in (("bpb", draws_bpb), ("acc", draws_acc)):
        mine = [e for e in entries if (e["target"], e["task"]) in draws and e["target"] == target.name]
        if mine:
            row[name] = float(np.mean([e[name] for e in mine]))
            mean_R = np.mean([draws[e["target"], e["task"]] for e in mine], axis=0)
            row[f"{name}_pi80"] = bootstrap.point_interval(mean_R, row[name])
            row[f"{name}_tasks"] = [e["task"] for e in mine]
    return row


def compare(prediction: Prediction, table: Table) -> list[dict]:
    """Predictions beside what the target's run in the table measured, where it has been trained.

    Each entry of pred.json plus "actual_bpb", "error" (relative, of bpb), "inside", "actual_acc",
    "acc_error" (points), "acc_inside"; None where there is nothing to compare.
    """
    convention, out = prediction.settings["n_convention"], []
    for entry in prediction.entries:
        task = entry["task"]
        target = next(t for t in prediction.targets if t.name == entry["target"])
        bpb, acc = measured(table, target, task, "bpb", convention), None
        if task in prediction.step2:
            acc = measured(table, target, task, prediction.step2[task].metric, convention)
        row = entry | {"actual_bpb": bpb, "error": None, "inside": None}
        row |= {"actual_acc": acc, "acc_error": None, "acc_inside": None}
        if bpb is not None and entry["bpb"] is not None:
            row["error"] = entry["bpb"] / bpb - 1
            row["inside"] = entry["bpb_pi80"][0] <= bpb <= entry["bpb_pi80"][1]
        if acc is not None and entry["acc_pi80"] is not None:
            row["acc_error"] = 100 * (entry["acc"] - acc)
            row["acc_inside"] = entry["acc_pi80"][0] <= acc <= entry["acc_pi80"][1]
        out.append(row)
    return out


# What a prediction must say about itself --------------------------------------------------------


def _unusable(points: Points) -> list[str]:
    """For each task "" or the reason why no law can be fitted to it."""
    needed = len(FAMILY.params) + 1
    reasons = []
    for bpb_n in points.bpb_Tn:
        has = ~np.isnan(bpb_n)
        sizes = len(set(points.features["N"][has]))
        tokens_per_size = has.sum() / max(sizes, 1)
        reason = ""
        if has.sum() < needed or sizes < MIN_SIZES or tokens_per_size < 1.5:
            reason = (
                f"too few runs: {has.sum()} decayed runs of {sizes} sizes; the law needs"
                f" {needed} runs, {MIN_SIZES} sizes and more than one length for each"
            )
        reasons.append(reason)
    return reasons


def _settings(table, points: Points, step1, step2, tested, n_convention: str, n_resamples: int, seed: int) -> dict:
    """The items that a report of a scaling law must state (Li et al. 2025, "(Mis)fitting")."""
    weights = dict(zip([f.name for f in step1.forms], step1.weights_FT.mean(axis=1), strict=True)) if step1 else {}
    sigmoids = next((of.fit for of in step2.values() if of.fit), None)
    return {
        "method": "default",
        "law": f"average of {len(weights)} forms of {FAMILY.formula}",
        "form_weights": {name: round(float(w), 4) for name, w in weights.items()},
        "weights_from": tested.why if tested else "no backtest was possible: equal weights",
        "objective": "sum of Huber(ln measured - ln law)",
        "huber_delta": model_average.HUBER,
        "solver": "jaxopt LevenbergMarquardt, float64, bounds by reparametrisation",
        "starts": bootstrap.N_STARTS,
        "bounds": {p.name: [*map(_finite, p.bounds)] for p in FAMILY.params},
        "runs_used": list(points.runs),
        "runs_left_out": list(table.left_out),
        "point": "mean of a decayed run's last evaluations (at most 5, of its last 3 % of steps)",
        "n_convention": n_convention,
        "resampling": step1.fit.method if step1 else None,
        "resamples": n_resamples,
        "seed": seed,
        "converged": float(step1.fit.resamples_converged_T.mean()) if step1 else None,
        "noise_floor": model_average.NOISE_FLOOR,
        "trunk_share": noise.TRUNK_SHARE,
        "interval": "80 %: form, parameters, run noise; stretched by a factor from the backtests",
        "factor_bpb": tested.factor_bpb if tested else None,
        "factor_acc": tested.factor_acc if tested else None,
        "step2": f"{SIGMOID.formula}, least squares, runs weighted equally",
        "step2_converged": float(sigmoids.resamples_converged_T.mean()) if sigmoids else None,
    }


def _finite(bound: float) -> float | None:
    return bound if np.isfinite(bound) else None
