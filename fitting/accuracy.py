"""Step 2 of the task law: accuracy as a sigmoid of bpb, where accuracy is above chance."""

from dataclasses import dataclass

import jax
import numpy as np
from jax.scipy.special import betainc

from fitting import bootstrap
from fitting.laws import SIGMOID
from fitting.table import Table

ACCURACY_METRICS = ("len_norm", "acc")
# Step 2 reads this many checkpoints of a run, evenly spaced, none from its first tenth.
CHECKPOINTS_PER_RUN = 8
SKIP_SHARE = 0.1
# A task is above chance if so many runs are, each at this level after Bonferroni's correction.
MIN_RUNS_ABOVE_CHANCE = 3
SIGNIFICANCE = 0.05
MIN_RUNS = 3


@dataclass(frozen=True)
class Chance:
    """Whether a task's accuracy is above chance, and the sentence that says why (or why not)."""

    level: float | None
    above: bool
    why: str


@dataclass(frozen=True)
class AccuracyFit:
    """Step 2 of one task: which accuracy, the checkpoints it was fitted to, and the fit."""

    metric: str
    bpb_n: np.ndarray
    acc_n: np.ndarray
    chance: Chance
    fit: bootstrap.Fit | None


def fit_accuracy(table: Table, task: str, n_resamples: int, seed: int) -> AccuracyFit | None:
    rows = table.select(split="train", task=task)
    metric = next((m for m in ACCURACY_METRICS if m in rows["metric"]), None)
    if metric is None:
        return None
    bpb_n, acc_n, runs_n, last_n = _checkpoints(rows, metric)
    chance = _chance(rows.select(metric=metric, final=True))
    few = len(bpb_n) < len(SIGMOID.params) + 1 or len(set(runs_n)) < MIN_RUNS
    if not chance.above or few:
        return AccuracyFit(metric, bpb_n[last_n], acc_n[last_n], chance, None)
    # Each run weighs the same; the paper's anchor (nothing left to predict: accuracy 1) as one row.
    weights_n = np.array([1.0 / np.sum(runs_n == r) for r in runs_n])
    fitted = bootstrap.fit(
        SIGMOID,
        {"bpb": np.append(bpb_n, 0.0)},
        np.append(acc_n, 1.0),
        weights_Tn=np.append(weights_n, weights_n.min())[None],
        delta=1.0,  # beyond any residual: least squares
        groups_n=np.append(runs_n, "anchor"),
        n_resamples=n_resamples,
        seed=seed,
        method="pairs",
    )
    return AccuracyFit(metric, bpb_n, acc_n, chance, fitted)


def _checkpoints(rows: Table, metric: str):
    """-> (bpb_n, acc_n, runs_n, last_n): rows where both were measured, thinned evenly by run."""
    bpb = rows.select(metric="bpb")
    acc = rows.select(metric=metric)
    measured = dict(zip(zip(bpb["run"], bpb["step"], strict=True), bpb["value"], strict=True))
    at = {}
    for run, step, value in zip(acc["run"], acc["step"], acc["value"], strict=True):
        if (run, step) in measured:
            at.setdefault(run, []).append((step, measured[run, step], value))
    out = []
    for run, steps in at.items():
        steps = sorted(steps)
        steps = steps[int(np.ceil(SKIP_SHARE * len(steps))) if len(steps) > 1 else 0 :]
        keep = np.unique(np.linspace(0, len(steps) - 1, CHECKPOINTS_PER_RUN).round().astype(int))
        out += [(steps[i][1], steps[i][2], run, i == keep[-1]) for i in keep]
    bpb_n, acc_n, runs_n, last_n = zip(*out, strict=True) if out else ((), (), (), ())
    return np.array(bpb_n), np.array(acc_n), np.array(runs_n), np.array(last_n, bool)


def _chance(final: Table) -> Chance:
    """Binomial test of every final run against max(chance, majority)."""
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
    with jax.enable_x64(True):
        tail = np.asarray(betainc(np.maximum(k, 1.0), n - np.maximum(k, 1.0) + 1, p))
    return np.where(k <= 0, 1.0, tail)


def predict_accuracy(entry: dict, accuracy: AccuracyFit, draws_bpb) -> np.ndarray | None:
    """Fill an entry's acc, acc_pi80 and flags; -> draws of the accuracy."""
    if accuracy.fit is None:
        entry["acc"] = accuracy.chance.level
        entry["flags"].append(accuracy.chance.why)
        return None
    if accuracy.chance.level is None:
        entry["flags"].append(accuracy.chance.why)
    if draws_bpb is None:
        return None
    fitted, bpb_n = accuracy.fit, accuracy.bpb_n
    rng = np.random.default_rng(len(draws_bpb))
    acc_R = _sigmoid_at(fitted, draws_bpb) + fitted.noise_TR[0] * rng.standard_normal(len(draws_bpb))
    acc_R = np.clip(acc_R, 0.0, 1.0)
    entry["acc"] = float(fitted.predict({"bpb": [entry["bpb"]]})[0, 0, 0])
    entry["acc_pi80"] = bootstrap.point_interval(acc_R, entry["acc"])
    if not bpb_n.min() <= entry["bpb"] <= bpb_n.max():
        entry["flags"].append(
            f"step 2 extrapolates: bpb {entry['bpb']:.3f} is outside the"
            f" {bpb_n.min():.3f} to {bpb_n.max():.3f} it was fitted on"
        )
    entry["flags"] += [f"step-2 parameter at its bound: {n}" for n in fitted.at_bound(0)]
    return acc_R


def _sigmoid_at(fitted: bootstrap.Fit, bpb_R: np.ndarray) -> np.ndarray:
    """Each resample's sigmoid at its own bpb."""
    p = fitted.resampled(0)
    return p["b"] + p["a"] / (1 + np.exp(p["k"] * (p["L0"] - bpb_R)))
