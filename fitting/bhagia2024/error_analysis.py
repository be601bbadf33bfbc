"""The paper's error analysis: the noise of each task, and the error as a function of the ladder's compute."""

from collections.abc import Iterator

import numpy as np

from fitting.bhagia2024 import methods
from fitting.tables import accuracies
from fitting.tables.points import Target, measured
from fitting.tables.runs_table import Table

VARIANCE_ROWS = 10
# Where a ladder does not determine step 1: number of further fits, and the relative change of the losses for these.
PERTURBED, CHANGE = 10, 1e-10


def variance(table: Table, run: str) -> list[dict]:
    """Standard deviation (population) and coefficient of variation of a run's last evaluations, for every task."""
    rows = []
    for task in table.select(run=run, metric="bpb").unique("task"):
        row = {"run": run, "task": task}
        for name, metric in (("bpb", "bpb"), ("acc", accuracies.metric_of(table, task))):
            series = table.select(run=run, task=task, metric=metric)
            values = series["value"][np.argsort(series["step"])][-VARIANCE_ROWS:]
            if len(values):
                row |= {f"{name}_sd": float(values.std()), f"{name}_cv": float(values.std() / values.mean())}
        rows.append(row)
    return rows


def ladders(table: Table) -> list[tuple]:
    """Every ladder of the smaller sizes, of the shorter runs, and of the runs of fewer FLOPs.

    Each is (name, runs, whether they determine step 1, FLOPs of the largest run, FLOPs of all runs).
    """
    ends = methods.points(table, None)
    runs, n, d = np.array(ends.runs), ends.features["N"], ends.features["D"]
    length = np.round(2 * d / n / 20) / 2  # the multiple, to the nearest half
    flops = ends.features.get("C", 6 * n * d)
    subsets = [(f"N <= {v:.4g}", n <= v) for v in np.unique(n)]
    subsets += [(f"xC <= {v:g}", length <= v) for v in np.unique(length)]
    subsets += [(f"FLOPs <= {v:.3e}", flops <= v) for v in np.sort(flops)]
    return [
        (name, runs[keep].tolist(), _determined(n[keep], length[keep]), flops[keep].max(), flops[keep].sum())
        for name, keep in subsets
    ]


def _determined(n: np.ndarray, length: np.ndarray) -> bool:
    """Five parameters need more than five runs, of three sizes and two lengths."""
    return len(n) > 5 and len(set(n)) >= 3 and len(set(length)) >= 2


def compute_versus_error(table: Table, target: Target, smaller: list[tuple]) -> Iterator[dict]:
    """For each smaller ladder: relative error of step 1, step 2 and the chain, and "points", the chain's absolute error
    in percentage points; means over tasks.

    smaller: from `ladders`. points_range, where the runs do not determine step 1: (lowest, highest) "points" of fits to
    losses that are changed in their tenth digit. Yields nothing where the target's own run is not in the table (split
    target). Tasks at chance are left out, as `forecast` leaves them out.
    """
    tasks = [t for t in methods.points(table, None).tasks if accuracies.metric_of(table, t)]
    tasks = [t for t in tasks if measured(table, target, t, accuracies.metric_of(table, t)) is not None]
    tasks = [t for t in tasks if t not in at_chance(table)]
    for name, runs, determined, largest, total in smaller if tasks else ():
        part, perturbed = table.select(run=runs), 0 if determined else PERTURBED
        error_T4R = np.abs([_errors(part, table, target, task, perturbed) for task in tasks])
        step1, step2, chained, points = map(float, error_T4R[:, :, 0].mean(axis=0))
        low, high = (100 * float(end(error_T4R[:, 3], axis=1).mean()) for end in (np.min, np.max))
        yield {"ladder": name, "runs": len(runs), "determined": determined, "largest_flops": float(largest),
               "sum_flops": float(total), "step1": step1, "step2": step2, "chained": chained,
               "points": 100 * points, "points_range": None if determined else [low, high]}  # fmt: skip


def at_chance(table: Table) -> dict[str, str]:
    """{task: why its accuracy in the ladder's runs is no better than guessing}; sigmoids of such tasks say nothing."""
    rows = table.select(split="train")
    metrics = {t: metric for t in rows.unique("task") if (metric := accuracies.metric_of(rows, t))}
    chances = {t: accuracies.chance_of(rows, t, metric) for t, metric in metrics.items()}
    return {t: chance.why for t, chance in chances.items() if not chance.above}


def _errors(part: Table, table: Table, target: Target, task: str, perturbed: int) -> np.ndarray:
    """[4, 1 + perturbed] of a task: relative error of step 1, step 2 and the chain, and absolute error of the chain.

    Column 0 is the fit; in the others the losses are changed in their tenth digit.
    """
    ends, acc_metric = methods.points(part, [task]), accuracies.metric_of(table, task)
    bpb, acc = (measured(table, target, task, m) for m in ("bpb", acc_metric))
    noise_Rn = np.random.default_rng(0).uniform(-CHANGE, CHANGE, (1 + perturbed, len(ends.runs)))
    noise_Rn[0] = 0
    fits = [methods.step1(ends.features, ends.bpb_Tn[0] * (1 + noise_n)) for noise_n in noise_Rn]
    step2 = methods.step2(*methods.checkpoints(part, task, ends.runs, acc_metric), methods.guess(task))
    predicted_R = np.array([fit.predict(target.features) for fit in fits])
    chained_R, alone = step2.predict({"bpb": predicted_R}), float(step2.predict({"bpb": bpb}))
    alone_R = np.full(len(fits), alone / acc - 1)
    return np.array([predicted_R / bpb - 1, alone_R, chained_R / acc - 1, chained_R - acc])
