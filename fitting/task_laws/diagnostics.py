"""Reasons not to trust a prediction, in words, each with the number behind it."""

import numpy as np

from fitting.errors import InputError
from fitting.tables.points import SAME, Points, Target, ladder_points
from fitting.tables.runs_table import Table
from fitting.task_laws.accuracy import WEAK_CORRELATION, AccuracyFit
from fitting.task_laws.model_average import Average

FEW_RUNS = 12
FAR = 10
SCATTER = 0.03
LACK_OF_FIT = 3.0
SURE_SHARE = 0.5
EVERY = "every task"


def step1(step1: Average, t: int, points: Points, target: Target, rerun_noise: float | None) -> list[str]:
    """Flags of one task's bpb. rerun_noise: sd of ln bpb between runs of one configuration, where there are such."""
    flags = []
    if step1.points_T[t] < FEW_RUNS:
        flags.append(f"few runs: {step1.points_T[t]} for a law of {len(step1.fit.law.params)} parameters")
    rows = np.arange(len(step1.fit.points_T)).reshape(len(step1.forms), -1)[:, t]
    lost_share = step1.weights_FT[~step1.fit.converged_T[rows], t].sum()
    if lost_share > 0:
        flags.append(f"forms with {lost_share:.0%} of the weight did not converge")
    for name in ("E", "alpha", "beta"):
        share = sum(
            step1.weights_FT[f, t]
            for f, row in enumerate(rows)
            if name in step1.fit.at_bound(row) and step1.forms[f].has(name)
        )
        has = sum(step1.weights_FT[f, t] for f in range(len(rows)) if step1.forms[f].has(name))
        if has > 0 and share / has > SURE_SHARE:
            flags.append(f"parameter at its bound: {name}, in forms with {share / has:.0%} of the weight")
    noise = step1.noise_T[t]
    if noise > SCATTER:
        flags.append(f"large scatter: runs lie {noise:.1%} off the law (one sd)")
    if rerun_noise is not None and noise > LACK_OF_FIT * rerun_noise:
        flags.append(f"lack of fit: runs lie {noise:.2%} off the law, reruns {rerun_noise:.2%} apart (one sd)")
    beyond = {
        "parameters": target.n_params / points.features["N"].max(),
        "tokens": target.tokens / points.features["D"].max(),
        "compute (N D)": target.n_params * target.tokens / (points.features["N"] * points.features["D"]).max(),
    }
    return flags + [f"far extrapolation: {r:.0f} times the largest run's {k}" for k, r in beyond.items() if r > FAR]


def step2(of: AccuracyFit, entry: dict) -> list[str]:
    """Flags of one task's accuracy."""
    flags = []
    if of.fit is None or of.chance.level is None:
        flags.append(of.chance.why)
    if of.fit is None:
        return flags
    if of.correlation > -WEAK_CORRELATION:
        flags.append(f"weak link: bpb and accuracy of the runs correlate by {of.correlation:.2f}")
    bpb = entry["bpb"]
    if bpb is not None and not of.bpb_n.min() <= bpb <= of.bpb_n.max():
        flags.append(
            f"step 2 extrapolates: bpb {bpb:.3f} is outside the {of.bpb_n.min():.3f} to {of.bpb_n.max():.3f}"
            " it was fitted on"
        )
    # b on 1 is the published anchor doing its work; the others say that the data do not bend enough.
    return flags + [f"step-2 parameter at its bound: {n}" for n in of.fit.at_bound(of.row) if n != "b"]


def said_once(entries: list[dict]) -> list[tuple[str, str, str]]:
    """(target, task, flag) of all entries of pred.json; a flag that several tasks all carry is one of EVERY task."""
    said = []
    for target in dict.fromkeys(e["target"] for e in entries):
        of = [e for e in entries if e["target"] == target]
        common = [flag for flag in of[0]["flags"] if len(of) > 1 and all(flag in e["flags"] for e in of)]
        said += [(target, EVERY, flag) for flag in common]
        said += [(target, e["task"], flag) for e in of for flag in e["flags"] if flag not in common]
    return said


def lines(entries: list[dict]) -> list[tuple[str, str]]:
    """(whose, flag) as people read them; the target is named where there are several."""
    several = len({e["target"] for e in entries}) > 1
    return [(f"{target}, {task}" if several else task, flag) for target, task, flag in said_once(entries)]


def rerun_noise(table: Table, points: Points, n_convention: str) -> dict[str, float]:
    """{task: sd of ln bpb between runs of the same N and D}, of splits train and extra, where there are such pairs."""
    try:
        every = ladder_points(table, list(points.tasks), n_convention, splits=("train", "extra"))
    except InputError:
        return {}
    n, d = every.features["N"], every.features["D"]
    near = (np.abs(n[:, None] / n - 1) < SAME) & (np.abs(d[:, None] / d - 1) < SAME)
    # Neighbours in the order of the points: a group of k reruns gives k - 1 differences.
    pairs = [(i, i + 1) for i in range(len(n) - 1) if near[i, i + 1] and every.groups_n[i] != every.groups_n[i + 1]]
    noise = {}
    for task, log_n in zip(every.tasks, np.log(every.bpb_Tn), strict=True):
        differences = np.array([log_n[j] - log_n[i] for i, j in pairs])
        differences = differences[~np.isnan(differences)]
        if len(differences) >= 2:
            noise[task] = float(np.sqrt(np.mean(differences**2) / 2))
    return noise
