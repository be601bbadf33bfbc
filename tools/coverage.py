"""How often the 95 % intervals of `ladder fit` contain the true parameters: `python tools/coverage.py [LAW ...]`.

Every law that can be simulated from published constants, with few runs (resampled residuals) and with more (resampled
runs). Simulations have the same runs and different noise. All are fitted at once, as tasks of one `bootstrap.fit`, with
the solver and the resampling of `ladder fit`, but fewer starts (the optimum is near) and fewer resamples. One row for
each parameter: coverage of the default interval and of the percentile interval.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from fitting.inference import bootstrap, intervals
from fitting.laws import kaplan_relations as kaplan
from fitting.laws.catalogue import LAWS
from fitting.laws.published import PUBLISHED
from fitting.loss_laws import allocation, loss_fit

# From the smallest to the largest run, evenly in logarithms, each feature in an order of its own.
RANGES = {"N": (1e6, 1e10), "D": (1e8, 1e11), "C": (1e17, 1e23), "C_min": (1e17, 1e23), "S_min": (2e3, 2e5)}
RANGES |= {"L": (2.5, 5.0), "B": (1e4, 1e8), "U": (1e8, 1e10)}
EPOCHS = (1.0, 64.0)  # of repeated data, D / U
NOISE = 0.003  # from run to run, as a share of y
N_STARTS = 6
BUDGET = 1e22  # FLOPs, for N_opt
GOOD = 0.92, 0.98
# A parameter is determined weakly if the standard error of its logarithm is above the first, or if a larger share of
# its fits than the second end on a bound.
WEAK, OFTEN = 0.5, 0.01


def truths() -> dict[str, tuple[str, dict[str, float]]]:
    """{law: (whose constants, its parameters)} for every law that can be simulated.

    Where nobody published constants of a law, they follow from a published law in which one feature is unlimited.
    """
    constants = {law: (who, p.params) for (who, law), p in PUBLISHED.items()}
    e, a, alpha, b, beta = (PUBLISHED["besiroglu", "chinchilla"].params[k] for k in ("E", "A", "alpha", "B", "beta"))
    tied = PUBLISHED["muennighoff", "chinchilla-tied"].params
    # On the compute-optimal frontier both terms of a law with one exponent are equal.
    of_c = 2 * np.sqrt(tied["A"] * tied["B"]) * 6 ** (tied["alpha"] / 2)
    steps = kaplan.NS["S_c"] / (3.0 - (kaplan.NS["N_c"] / 1e8) ** kaplan.NS["alpha_N"]) ** (1 / kaplan.NS["alpha_S"])
    return constants | {
        "power-n": ("besiroglu, endless data", {"E": e, "A": a, "alpha": alpha}),
        "power-d": ("besiroglu, endless size", {"E": e, "A": b, "alpha": beta}),
        "power-c": ("muennighoff, optimal", {"E": tied["E"], "A": of_c, "alpha": tied["alpha"] / 2}),
        "batch": ("kaplan, 1e8 to loss 3", {"S_min": steps, "B_crit": float(kaplan.critical_batch(3.0))}),
    }


@dataclass(frozen=True)
class Coverage:
    """default, percentile: {parameter: share of the simulations whose interval contains the true value}.

    weak: {parameter: why the runs hardly determine it}. Where the law has an optimum, N_opt ~ C^a, the parameters
    include a and ln N_opt at BUDGET.
    """

    law: str
    who: str
    runs: int
    method: str
    default: dict[str, float]
    percentile: dict[str, float]
    weak: dict[str, str]
    converged: float


def runs(law: str, n: int, seed: int) -> dict[str, np.ndarray]:
    """Features of n runs."""
    rng = np.random.default_rng(seed)

    def spread(lo, hi):
        return np.exp(np.log(lo) + np.log(hi / lo) * (rng.permutation(n) + 0.5) / n)

    features = {k: spread(*RANGES[k]) for k in LAWS[law].features}
    return features | ({"D": features["U"] * spread(*EPOCHS)} if "U" in features else {})


def study(
    law: str, n: int, simulations: int = 2000, resamples: int = 100, seed: int = 0, method: str = "auto"
) -> Coverage:
    """Coverage of both intervals for n runs that follow the published constants of a law, with NOISE."""
    (who, true), form, rng = truths()[law], LAWS[law], np.random.default_rng(seed + 1)
    features = runs(law, n, seed)
    exact = form.at(true, features)
    deviates = NOISE * rng.standard_normal((simulations, n))
    y = exact * np.exp(deviates) if form.log_space else exact + np.mean(exact) * deviates
    solver = bootstrap.Solver(loss_fit.HUBER, loss_fit.SOLVER, loss_fit.ITERATIONS, N_STARTS, resample_starts=0)
    resampling = bootstrap.Resampling(resamples, seed, method)
    fitted = bootstrap.fit(form, features, y, solver=solver, resampling=resampling)
    quantities = true | _optimum(law, true)
    held = {name: {"default": [], "percentile": []} for name in quantities}
    at_bound = dict.fromkeys(true, 0)
    for task in range(simulations):
        optimum = _optimum(law, fitted.natural(task))
        student = intervals.student(fitted, task, n, loss_fit.HUBER)
        for kind, ends, interval in (
            ("default", intervals.wald(fitted, task, n, loss_fit.HUBER), student),
            ("percentile", intervals.percentile(fitted, task), allocation.percentile),
        ):
            ends = ends | {name: interval(value_R, False) for name, value_R in optimum.items()}
            for name, (lo, hi) in ends.items():
                held[name][kind].append(lo <= quantities[name] <= hi)
        for name in fitted.at_bound(task):
            at_bound[name] += 1 / simulations
    kinds = {kind: {name: float(np.mean(h[kind])) for name, h in held.items()} for kind in ("default", "percentile")}
    weak = {name: _weakness(fitted, name, at_bound[name]) for name in true}
    weak = {name: why for name, why in weak.items() if why}
    return Coverage(law, who, n, fitted.method, **kinds, weak=weak, converged=float(fitted.converged_T.mean()))


def _optimum(law: str, params: dict) -> dict:
    """What `ladder allocate` computes from natural parameters (numbers or [1 + R]) of a law that has an optimum."""
    if LAWS[law].optimum is None:
        return {}
    k, a = LAWS[law].optimum(params, kaplan.BATCH)
    log_n = {"ln N_opt": k + a * np.log(BUDGET)}
    # With one exponent for both terms a is 1/2, whatever the runs are.
    return log_n if law == "chinchilla-tied" else {"a": a} | log_n


def _weakness(fitted: bootstrap.Fit, name: str, at_bound: float) -> str | None:
    if at_bound > OFTEN:
        return f"at its bound in {at_bound:.0%} of fits"
    values = np.array([fitted.natural(task)[name][0] for task in range(len(fitted.points_T))])
    with np.errstate(divide="ignore"):
        spread = np.std(np.log(np.abs(values)))
    return f"known to a factor of {np.exp(spread):.2g}" if spread > WEAK else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("laws", nargs="*", help="default: all")
    parser.add_argument("--runs", type=int, nargs="+", default=[12, 40])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="auto", choices=("auto", "residuals", "pairs"), help="how to resample")
    args = parser.parse_args()
    n_outside = 0
    for law in args.laws or truths():
        for n in args.runs:
            start = time.process_time()
            result = study(law, n, args.simulations, args.resamples, args.seed, args.method)
            seconds = time.process_time() - start
            converged = f"{result.converged:.2%} converged; {seconds:.0f} CPU s"
            print(f"{law} ({result.who}), {n} runs, {result.method}: {converged}")
            for name, coverage in result.default.items():
                outside = not GOOD[0] <= coverage <= GOOD[1]
                n_outside += outside
                notes = "  OUTSIDE" * outside + (f"  weak: {result.weak[name]}" if name in result.weak else "")
                print(f"  {name:8} default {coverage:.1%}, percentile {result.percentile[name]:.1%}{notes}", flush=True)
    print(f"{n_outside} parameters outside {GOOD[0]:.0%} to {GOOD[1]:.0%}")
    return n_outside > 0


if __name__ == "__main__":
    raise SystemExit(main())
