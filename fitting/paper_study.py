"""The paper's error analysis: how noisy each task is, and how the error falls with the ladder's compute."""

import numpy as np

from fitting import paper
from fitting.points import Target, measured
from fitting.table import Table

VARIANCE_ROWS = 10


def variance(table: Table, run: str, last: int = VARIANCE_ROWS) -> list[dict]:
    """Standard deviation (population) and coefficient of variation of a run's last evaluations, for every task."""
    rows = []
    for task in table.select(run=run, metric="bpb").unique("task"):
        row = {"run": run, "task": task}
        for name, metric in (("bpb", "bpb"), ("acc", paper.acc_metric(table, task))):
            of = table.select(run=run, task=task, metric=metric)
            values = of["value"][np.argsort(of["step"])][-last:]
            if len(values):
                row |= {f"{name}_sd": float(values.std()), f"{name}_cv": float(values.std() / values.mean())}
        rows.append(row)
    return rows


def ladders(table: Table) -> list[tuple]:
    """Every smaller ladder, by size, by length, by FLOPs.

    Each is (name, runs, whether they determine step 1, FLOPs of the largest run, of all runs).
    """
    at = paper.points(table, None)
    runs, n, d = np.array(at.runs), at.features["N"], at.features["D"]
    length = np.round(2 * d / n / 20) / 2
    flops = at.features.get("C", 6 * n * d)
    ways = [(f"N <= {v:.4g}", n <= v) for v in np.unique(n)]
    ways += [(f"xC <= {v:g}", length <= v) for v in np.unique(length)]
    ways += [(f"FLOPs <= {v:.3e}", flops <= v) for v in np.sort(flops)]
    return [
        (name, runs[keep].tolist(), _determined(n[keep], length[keep]), flops[keep].max(), flops[keep].sum())
        for name, keep in ways
    ]


def _determined(n: np.ndarray, length: np.ndarray) -> bool:
    """Five parameters want more than five runs, of three sizes and two lengths; with less, rounding decides."""
    return len(n) > 5 and len(set(n)) >= 3 and len(set(length)) >= 2


def compute_versus_error(table: Table, target: Target) -> list[dict]:
    """For each smaller ladder: mean relative error over tasks of step 1, step 2 and the chain, which also in points.

    Needs the target's own run in the table (split target).
    """
    tasks = [t for t in paper.points(table, None).tasks if paper.acc_metric(table, t)]
    tasks = [t for t in tasks if measured(table, target, t, paper.acc_metric(table, t)) is not None]
    if not tasks:
        return []
    rows = []
    for name, runs, determined, largest, total in ladders(table):
        smaller = table.select(run=runs)
        errors = []
        for task in tasks:
            at = paper.points(smaller, [task])
            acc_metric = paper.acc_metric(table, task)
            bpb, acc = (measured(table, target, task, m) for m in ("bpb", acc_metric))
            step1 = paper.step1(at.features, at.bpb_Tn[0])
            step2 = paper.step2(*paper.checkpoints(smaller, task, at.runs, acc_metric), paper.guess(task))
            predicted = float(step1.predict({"N": target.n_params, "D": target.tokens}))
            chained, alone = (float(step2.predict({"bpb": v})) for v in (predicted, bpb))
            errors.append([predicted / bpb - 1, alone / acc - 1, chained / acc - 1, chained - acc])
        step1_e, step2_e, chained_e, points_e = map(float, np.abs(errors).mean(axis=0))
        rows.append(
            {"ladder": name, "runs": len(runs), "determined": determined, "largest_flops": float(largest),
             "sum_flops": float(total), "step1": step1_e, "step2": step2_e, "chained": chained_e,
             "points": 100 * points_e}
        )  # fmt: skip
    return rows
