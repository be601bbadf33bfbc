"""Would another Huber threshold, or more weight on runs with more compute, predict hidden rungs better? By backtests.

python tests/bench/bench_candidates.py TABLE
"""

import sys
from dataclasses import replace

import numpy as np

from fitting.inference import bootstrap
from fitting.tables import points, runs_table
from fitting.task_laws import backtest

DELTAS = (1e-2, 3e-3, 1e-3)
POWERS = (0.0, 0.15, 0.3)


def main(path: str) -> None:
    runs = runs_table.read(path)
    at = points.ladder_points(runs.select(runs["metric"] != "loss"), None, "n_params")
    compute_n = at.features["N"] * at.features["D"]
    print("Huber threshold, weight ~ compute^power: mean error and interval score of hidden rungs, % of bpb")
    unchanged = bootstrap.fit
    for delta in DELTAS:
        for power in POWERS:
            weight_n = compute_n**power / np.mean(compute_n**power)

            def fit(*args, solver, weights_Tn, delta=delta, weight_n=weight_n, **settings):
                return unchanged(
                    *args, solver=replace(solver, delta=delta), weights_Tn=weights_Tn * weight_n, **settings
                )

            bootstrap.fit = fit
            rows = backtest.run(at).table()
            error, score = (100 * np.mean([row[name] for row in rows]) for name in ("error", "score"))
            print(f"{delta:g}  {power:g}  {error:.2f}  {score:.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
