"""All tasks, both steps, 1,000 resamples each: our vmapped solver beside SciPy on a sample of the same problems.

python tests/bench/bench_predict.py TABLE [SAMPLE]
"""

import sys
import time

import numpy as np
from scipy import optimize

from fitting.inference import bootstrap
from fitting.inference.bootstrap import Resampling, Solver
from fitting.laws.power_sum import CHINCHILLA
from fitting.tables import points, runs_table
from fitting.task_laws import accuracy

RESAMPLES = 1000


def huber(u, delta):
    a = np.abs(u)
    return np.where(a < delta, u * u / 2, delta * (a - delta / 2)).sum()


def scipy_step1(n, d, y, start):
    """One fit as a loop would do it: L-BFGS-B on the same objective from the law's optimum."""
    log_n, log_d, log_y = np.log(n), np.log(d), np.log(y)

    def objective(p):
        a, b = np.exp(p[0] - p[2] * log_n), np.exp(p[1] - p[3] * log_d)
        u = np.log(a + b + p[4]) - log_y
        slope = np.clip(u, -1e-2, 1e-2) / (a + b + p[4])
        rows = np.array([a, b, -a * log_n, -b * log_d, np.ones_like(a)])
        return 1e6 * huber(u, 1e-2), 1e6 * rows @ slope

    bounds = [(None, None), (None, None), (0, 2), (0, 2), (0, None)]
    return optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)


def step1(at, sample):
    """(our seconds, SciPy's seconds for as many, share of our sampled lanes within 1e-6 of the better of the two)."""
    features = {k: at.features[k] for k in ("N", "D")}
    settings = {"solver": Solver(1e-2), "resampling": Resampling(RESAMPLES, method="pairs")}
    began = time.perf_counter()
    fit = bootstrap.fit(CHINCHILLA, features, at.bpb_Tn, groups_n=np.array(at.runs), **settings)
    ours = time.perf_counter() - began
    counts_Rn = bootstrap.resample_weights(np.array(at.runs), RESAMPLES, 0)
    rng, theirs, good, tried = np.random.default_rng(0), 0.0, 0, 0
    for _ in range(sample):
        t, r = rng.integers(len(at.tasks)), rng.integers(RESAMPLES)
        p = {k: float(v[0]) for k, v in fit.natural(t).items()}
        rows = np.repeat(np.arange(len(at.runs)), counts_Rn[r])
        n, d, y = features["N"][rows], features["D"][rows], at.bpb_Tn[t][rows]
        start = [np.log(p["A"]), np.log(p["B"]), p["alpha"], p["beta"], p["E"]]
        began = time.perf_counter()
        scipy_step1(n, d, y, start)
        theirs += time.perf_counter() - began
        mine = {k: v[r] for k, v in fit.resampled(t).items()}
        predicted = mine["E"] + mine["A"] / n ** mine["alpha"] + mine["B"] / d ** mine["beta"]
        value = 1e6 * huber(np.log(predicted) - np.log(y), 1e-2)
        starts = [start, [np.log(mine["A"]), np.log(mine["B"]), mine["alpha"], mine["beta"], mine["E"]]]
        starts += [np.array(start) * rng.uniform(0.7, 1.3, 5) for _ in range(4)]
        best = min(scipy_step1(n, d, y, s).fun for s in starts)
        good += value <= max(best, 0) * (1 + 1e-6) + 1e-9
        tried += 1
    return ours, theirs / tried * RESAMPLES * len(at.tasks), good / tried


def step2(runs, at, sample):
    """As step1, for the sigmoids; SciPy's least squares (TRF) from three starts."""
    checkpoints = accuracy.checkpoints(runs.select(split="train"), at.tasks)
    began = time.perf_counter()
    fits = accuracy.fit_all(runs, at.tasks, RESAMPLES, 0)
    ours = time.perf_counter() - began
    groups_n = np.append(checkpoints.groups_n, "anchor")  # the anchor is in every resample, once
    counts_Rn = bootstrap.resample_weights(groups_n, RESAMPLES, 0, always_n=groups_n == "anchor")
    rng, theirs, good = np.random.default_rng(0), 0.0, 0
    for _ in range(sample):
        t, r = rng.integers(len(at.tasks)), rng.integers(RESAMPLES)
        task_weights = checkpoints.weights_Tn[t]
        weights_n = np.append(task_weights, accuracy.ANCHOR_SHARE * task_weights.sum())
        root_n = np.sqrt(weights_n * counts_Rn[r])
        x, y = np.append(checkpoints.bpb_Tn[t], 0.0), np.append(checkpoints.acc_Tn[t], 1.0)

        def residuals(p, root_n=root_n, x=x, y=y):
            return root_n * (p[3] + p[0] / (1 + np.exp(-p[2] * (x - p[1]))) - y)

        sigmoid = fits[at.tasks[t]]
        mine = [float(sigmoid.fit.resampled(sigmoid.row)[k][r]) for k in ("a", "L0", "k", "b")]
        began = time.perf_counter()
        values = [_trf(residuals, (-0.7, 0.8, 3.0, 0.98))]
        theirs += time.perf_counter() - began
        values += [_trf(residuals, start) for start in ((-0.5, 1.0, 6.0, 0.9), np.clip(mine, LOW + 1e-6, HIGH - 1e-6))]
        good += 0.5 * np.sum(residuals(mine) ** 2) <= min(values) * (1 + 1e-6) + 1e-12
    return ours, theirs / sample * RESAMPLES * len(at.tasks), good / sample


LOW, HIGH = np.array([-1.0, 0.0, 0.0, 0.0]), np.array([0.0, 10.0, 50.0, 1.0])


def _trf(residuals, start) -> float:
    tight = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
    return optimize.least_squares(residuals, start, bounds=(LOW, HIGH), x_scale="jac", max_nfev=2000, **tight).cost


def main(path: str, sample: int = 100) -> None:
    runs = runs_table.read(path)
    runs = runs.select(runs["metric"] != "loss")
    at = points.ladder_points(runs, None, "n_params")
    for again in ("with compilation", "compiled"):
        for name, (ours, theirs, good) in (("1", step1(at, sample)), ("2", step2(runs, at, sample))):
            print(
                f"step {name}, {again}: {ours:.2f} s, a SciPy loop {theirs:.1f} s, {theirs / ours:.1f}x;"
                f" {good:.1%} of {sample} lanes within 1e-6 of SciPy's best"
            )


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main(sys.argv[1], *map(int, sys.argv[2:]))
