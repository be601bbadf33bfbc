"""The two-step task law: (N, D) -> bpb of a task's answers -> accuracy (Bhagia et al. 2024).

Step 1 fits bpb = E + A/N^alpha + B/D^beta to the last row of each decayed run, all tasks in one
vmapped solve; a ladder whose sizes span less than a factor WIDE has one exponent for both. Step 2
fits accuracy as a sigmoid of bpb to checkpoints of all runs, and only for tasks whose accuracy is
above chance. Rows of split "target" enter neither.
"""

from dataclasses import dataclass

import numpy as np

from fitting import accuracy, bootstrap
from fitting.errors import InputError
from fitting.laws import CHINCHILLA, LAWS, SIGMOID, TIED, Law
from fitting.table import SCHEMA_VERSION, Table

# ln bpb. At 1e-3, as published, the fit is nearly least absolute deviations; run noise is 0.3-1 %,
# and a threshold above it makes the prediction's standard deviation 10-15 % smaller (simulated).
HUBER_STEP1 = 1e-2
NOISE_FLOOR_STEP1 = 2e-3
MIN_SIZES = 3
# Sizes within this factor leave alpha to the noise; published alpha and beta lie within a factor of 1.4 of each other
# (Kaplan 0.076 and 0.103, Hoffmann 0.34 and 0.28, Besiroglu 0.348 and 0.366), so there one exponent serves both.
WIDE = 5.0
FEW_RUNS = 12
SCATTER_TO_FLAG = 0.03
SAME = 0.005
CONVENTIONS = ("n_params", "n_non_embedding", "n_total")


@dataclass(frozen=True)
class Prediction:
    """All that `predict` found. `json()` is what goes into pred.json.

    fitted: names of the tasks that step1 holds, in its order. step2: by task. entries: as in
    pred.json. draws_bpb: {(target, task): [R]} and draws_acc likewise.
    """

    points: Points
    targets: tuple[Target, ...]
    fitted: tuple[str, ...]
    step1: bootstrap.Fit | None
    step2: dict[str, accuracy.AccuracyFit]
    entries: tuple[dict, ...]
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
            "targets": [vars(t) for t in self.targets],
            "predictions": list(self.entries),
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
    usable_T = _usable(points)
    fitted = tuple(t for t, reason in zip(points.tasks, usable_T, strict=True) if not reason)
    step1 = None
    if fitted:
        bpb_Tn = points.bpb_Tn[[not reason for reason in usable_T]]
        law = step1_law(points)
        step1 = _fit_step1(bpb_Tn, points, HUBER_STEP1, n_resamples, seed, law=law, noise_floor=NOISE_FLOOR_STEP1)
    step2 = {t: a for t in points.tasks if (a := accuracy.fit_accuracy(table, t, n_resamples, seed))}
    entries, draws_bpb, draws_acc = [], {}, {}
    for target in targets:
        draws_TR = _bpb_draws(step1, points, target, seed)
        for task, reason in zip(points.tasks, usable_T, strict=True):
            entry = {"target": target.name, "task": task, "bpb": None, "bpb_pi80": None}
            entry |= {"acc": None, "acc_pi80": None, "flags": [reason] if reason else []}
            if task in fitted:
                t, key = fitted.index(task), (target.name, task)
                draws_bpb[key] = draws_TR[t]
                entry["bpb"] = float(step1.predict(_at(target))[t, 0, 0])
                entry["bpb_pi80"] = bootstrap.point_interval(draws_bpb[key], entry["bpb"])
                entry["flags"] += _flags_step1(step1, t, points, target)
            if task in step2:
                draws = accuracy.predict_accuracy(entry, step2[task], draws_bpb.get((target.name, task)))
                if draws is not None:
                    draws_acc[target.name, task] = draws
            entries.append(entry)
    settings = _settings(table, points, step1, n_convention, n_resamples, seed)
    return Prediction(
        points, tuple(targets), fitted, step1, step2, tuple(entries), draws_bpb, draws_acc,
        settings, table.sha256,
    )  # fmt: skip


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


def fit_law(
    table: Table,
    law: str = "chinchilla",
    *,
    task: str = "validation",
    metric: str = "bpb",
    n_convention: str = "n_params",
    delta: float = 1e-3,
    n_resamples: int = 4000,
    seed: int = 0,
) -> dict:
    """Fit one law to one task's metric over the ladder's decayed runs -> fit.json."""
    if law not in LAWS or LAWS[law].features != ("N", "D"):
        raise InputError(
            f"--law {law!r}: no such law of N and D; there are: {', '.join(law.name for law in (CHINCHILLA, TIED))}"
        )
    if not delta > 0:
        raise InputError(f"--huber {delta:g}: must be positive")
    points = ladder_points(table, [task], n_convention, metric)
    if reason := _usable(points)[0]:
        raise InputError(f"{table.source}: {task}: {reason}")
    fitted = _fit_step1(points.bpb_Tn, points, delta, n_resamples, seed, law=LAWS[law])
    resampled = fitted.resampled(0)
    settings = _settings(table, points, fitted, n_convention, n_resamples, seed)
    return {
        "schema_version": SCHEMA_VERSION,
        "table_sha256": table.sha256,
        "law": law,
        "task": task,
        "metric": metric,
        "params": fitted.params(0),
        "se": {k: float(np.std(v, ddof=1)) for k, v in resampled.items()},
        "ci95": {k: [float(q) for q in bootstrap.interval(v, 0.95)] for k, v in resampled.items()},
        "objective": float(fitted.objective_T[0]),
        "n_points": int(fitted.points_T[0]),
        "n_resamples": n_resamples,
        "converged": float(fitted.resamples_converged_T[0]),
        "at_bound": fitted.at_bound(0),
        "seconds": fitted.seconds,
        "settings": settings | {"huber_delta": delta},
    }


# Step 1 -----------------------------------------------------------------------------------------


def step1_law(points: Points) -> Law:
    """The law that these sizes can identify; decided by the ladder alone, never by a target."""
    n = points.features["N"]
    return CHINCHILLA if n.max() / n.min() >= WIDE else TIED


def _usable(points: Points) -> list[str]:
    """For each task "" or the reason why no law can be fitted to it."""
    needed = len(CHINCHILLA.params) + 1
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


def _fit_step1(y_Tn, points: Points, delta: float, n_resamples: int, seed: int, *, law: Law, noise_floor=0.0):
    has_Tn = ~np.isnan(y_Tn)
    return bootstrap.fit(
        law,
        points.features,
        np.where(has_Tn, y_Tn, 1.0),
        weights_Tn=has_Tn,
        delta=delta,
        groups_n=points.groups_n,
        n_resamples=n_resamples,
        seed=seed,
        noise_floor=noise_floor,
    )


def _at(target: Target) -> dict:
    return {k: [v] for k, v in target.features.items()}


def _bpb_draws(step1, points: Points, target: Target, seed: int):
    if step1 is None:
        return None
    form_sd = bootstrap.extrapolation_sd(points.features, target.features)
    return bootstrap.predictive(step1, target.features, form_sd, seed)


def _flags_step1(step1: bootstrap.Fit, t: int, points: Points, target: Target) -> list[str]:
    flags = []
    if step1.points_T[t] < FEW_RUNS:
        flags.append(f"few runs: {step1.points_T[t]} for a law of {len(step1.law.params)} parameters")
    if not step1.converged_T[t]:
        flags.append("the fit did not converge")
    flags += [f"parameter at its bound: {name}" for name in step1.at_bound(t)]
    if step1.noise_T[t] > SCATTER_TO_FLAG:
        flags.append(f"large scatter: runs lie {step1.noise_T[t]:.1%} off the law (one sd)")
    for name, key in (("N", "parameters"), ("D", "tokens")):
        ratio = target.features[name] / points.features[name].max()
        if ratio > 10:
            flags.append(f"far extrapolation: {ratio:.0f} times the largest run's {key}")
    return flags


# What a prediction must say about itself --------------------------------------------------------


def _settings(table, points: Points, step1, n_convention: str, n_resamples: int, seed: int):
    """The items that a report of a scaling law must state (Li et al. 2025, "(Mis)fitting")."""
    law = step1.law if step1 else step1_law(points)
    return {
        "method": "default",
        "law": law.formula,
        "objective": "sum of Huber(ln measured - ln law)",
        "huber_delta": HUBER_STEP1,
        "solver": "jaxopt LevenbergMarquardt, float64, bounds by reparametrisation",
        "starts": bootstrap.N_STARTS,
        "bounds": {p.name: [*map(_finite, p.bounds)] for p in law.params},
        "runs_used": list(points.runs),
        "runs_left_out": list(table.left_out),
        "point": "last row of each decayed run, not smoothed",
        "n_convention": n_convention,
        "resampling": step1.method if step1 else None,
        "resamples": n_resamples,
        "seed": seed,
        "converged": float(step1.resamples_converged_T.mean()) if step1 else None,
        "noise_floor": NOISE_FLOOR_STEP1,
        "trunk_share": bootstrap.TRUNK_SHARE,
        "form_sd_per_e_fold": bootstrap.FORM_SD,
        "interval": "80 %: parameters, run noise, allowance for the form",
        "step2": f"{SIGMOID.formula}, least squares, runs weighted equally",
    }


def _finite(bound: float) -> float | None:
    return bound if np.isfinite(bound) else None
