"""A whole forecast, and its resamples beside a SciPy loop over a sample of the same problems.

python tests/bench/bench_predict.py TABLE [SAMPLE]
"""

import sys
import time

import numpy as np
from scipy import optimize

from fitting.forecasting import measurements, penalised, predict
from fitting.tables import runs_table
from fitting.tables.points import Target, targets_of

RESAMPLES = 200


def main(path: str, sample: int = 30) -> None:
    table = runs_table.read(path)
    targets = targets_of(table) or [Target("7B-4T", 6887575552, 3945065873408)]
    for again in ("with compilation", "compiled"):
        began = time.perf_counter()
        result = predict.predict(table, targets, n_resamples=RESAMPLES)
        print(f"forecast of {len(result.tasks)} tasks and targets, {again}: {time.perf_counter() - began:.2f} s")
    read = measurements.read(table, None, "n_params").points
    laws = [result.laws[targets[0].name, task] for task in result.fitted]
    loss_Tn = np.array([read.bpb_Tn[read.tasks.index(task)] for task in result.fitted])
    arguments = read.features["N"], read.features["D"], loss_Tn, laws, read.groups_n, RESAMPLES, 0
    began = time.perf_counter()
    ours = penalised.fit(*arguments)
    seconds = time.perf_counter() - began
    problems = ours.theta_FTRP[..., 0].size
    rng, theirs, good = np.random.default_rng(0), 0.0, 0
    for _ in range(sample):
        f, t, r = (int(rng.integers(size)) for size in ours.theta_FTRP.shape[:3])
        residuals = penalised.residuals_of(*arguments, f, t, r)
        began = time.perf_counter()
        solution = optimize.least_squares(residuals, laws[t].best_FP[f])
        theirs += time.perf_counter() - began
        mine = 0.5 * np.sum(residuals(ours.theta_FTRP[f, t, r]) ** 2)
        good += mine <= solution.cost * (1 + 1e-6) + 1e-12
    print(
        f"{problems} penalised fits: {seconds:.2f} s, a SciPy loop {theirs / sample * problems:.0f} s;"
        f" {good / sample:.0%} of {sample} within 1e-6 of SciPy's"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
