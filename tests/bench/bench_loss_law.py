"""4,000 resamples of Chinchilla's law on its points, ours beside SciPy: `python tests/bench/bench_loss_law.py`.

Besiroglu et al. 2024 refit 240 points (shared/data/chinchilla_points.csv) to 4,000 resamples with SciPy's BFGS, one
start each. Measured in one run, in CPU seconds: our two solvers (damped Newton, which `ladder fit` takes, and jaxopt's
Levenberg-Marquardt) with their compilation and without, their loop as published (gradients by the package autograd;
`pip install autograd` where it is missing) and the same loop with a hand-written gradient in centred coordinates. The
loops run on the first --sample resamples and are scaled up to all.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy import optimize

from fitting.inference import bootstrap
from fitting.laws.power_sum import CHINCHILLA
from fitting.loss_laws import loss_fit
from fitting.solvers import batch
from fitting.tables import loss_points

POINTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "chinchilla_points.csv"
DELTA, N_RESAMPLES = 1e-3, 4000
# ln A, ln B, ln E, alpha, beta of Hoffmann et al. 2022, as in their TeX source. Every resample starts here.
HOFFMANN = np.array([6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="resamples for each SciPy loop")
    args = parser.parse_args()
    points = loss_points.read(str(POINTS))
    draws_Rn = epochs_draws(len(points))
    data = np.log([points.features["N"], points.features["D"], points.y_n])

    counts_Rn = np.stack([np.bincount(d, minlength=len(points)) for d in draws_Rn])
    ours, fits = {}, {}
    for name in (batch.NEWTON, batch.LEVENBERG_MARQUARDT):
        ours[name], fits[name] = timed(points, counts_Rn, name)
    newton = fits[batch.NEWTON]
    natural = newton.resampled(0)
    for name, values in natural.items():
        low, high = np.quantile(values, (0.025, 0.975))
        print(f"  {name:6}{newton.params(0)[name]:.8g}, se {np.std(values):.6g}, 95 % {low:.6g} to {high:.6g}")

    in_logs = {name: logs(of.resampled(0)) for name, of in fits.items()}
    all_of = {name: sums(p_R5, data, draws_Rn) for name, p_R5 in in_logs.items()}
    report(all_of)
    sample_Rn = draws_Rn[: args.sample]
    mine_R5 = in_logs[batch.NEWTON][: args.sample]
    found = {name: values[: args.sample] for name, values in all_of.items()}
    for name, loop in (("BFGS, analytic gradient", analytic), ("BFGS, autograd, as published", published)):
        try:
            cpu = time.process_time()
            found[name] = np.array([loop(data[:, d]) for d in sample_Rn])
            seconds = (time.process_time() - cpu) / len(sample_Rn) * N_RESAMPLES
            ratios = "; ".join(
                f"{solver} {seconds / first:.1f}, compiled {seconds / then:.1f}"
                for solver, (first, then) in ours.items()
            )
            print(f"{name}: {seconds:.1f} CPU s for {N_RESAMPLES}, times that of {ratios}")
        except ImportError as error:
            print(f"{name}: not measured ({error})")
    exact = [min(analytic(data[:, d], s, 1e-9) for s in (p, HOFFMANN)) for p, d in zip(mine_R5, sample_Rn, strict=True)]
    report(found, exact)


def timed(points, counts_Rn: np.ndarray, method: str) -> tuple[list[float], bootstrap.Fit]:
    """CPU seconds with compilation and without, and the fit; as `loss_fit.fit` does it, by the solver `method`."""
    solver = bootstrap.Solver(DELTA, method, loss_fit.ITERATIONS, resample_starts=0)
    settings = {"solver": solver, "resampling": bootstrap.Resampling(given_Rn=counts_Rn)}
    features, seconds = {k: points.features[k] for k in CHINCHILLA.features}, []
    for again in ("with compilation", "compiled"):
        begun, cpu = time.perf_counter(), time.process_time()
        fitted = bootstrap.fit(CHINCHILLA, features, points.y_n, **settings)
        seconds.append(time.process_time() - cpu)
        wall, compiling = time.perf_counter() - begun, fitted.seconds["compile"]
        print(f"{method}, {again}: {seconds[-1]:.2f} CPU s, {wall:.2f} s wall; compiling {compiling:.2f} s")
    return seconds, fitted


def report(found: dict[str, np.ndarray], *others: np.ndarray) -> None:
    """Share of lanes whose objective is within 1e-6 of the best of all."""
    best = np.min([*found.values(), *others], axis=0)
    for name, values in found.items():
        print(f"{name}: {np.mean(values <= best * (1 + 1e-6)):.3%} of {len(best)} within 1e-6 of the best found by any")


def logs(natural: dict) -> np.ndarray:
    """[R, 5]: (ln A, ln B, ln E, alpha, beta)."""
    return np.column_stack([*(np.log(natural[k]) for k in "ABE"), natural["alpha"], natural["beta"]])


def sums(p_R5: np.ndarray, data: np.ndarray, draws_Rn: np.ndarray) -> np.ndarray:
    """[R]: each resample's objective."""
    return np.array([objective(p, data[:, d])[0] for p, d in zip(p_R5, draws_Rn, strict=True)])


def epochs_draws(n_points: int) -> np.ndarray:
    """[R, n] indices as in their notebook: np.random.seed(42), then np.random.choice for each resample."""
    rng = np.random.RandomState(42)
    return np.stack([rng.choice(np.arange(n_points), n_points, replace=True) for _ in range(N_RESAMPLES)])


def objective(p, data, centre=(0.0, 0.0)) -> tuple[float, np.ndarray]:
    """Sum of Huber(u / delta) and its gradient at p = (ln A, ln B, ln E, alpha, beta); data: ln N, ln D, ln L."""
    x, z = data[0] - centre[0], data[1] - centre[1]
    terms = np.stack([p[0] - p[3] * x, p[1] - p[4] * z, np.full_like(x, p[2])])
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    u = (top + np.log(total) - data[2]) / DELTA
    slope = shares / total * np.clip(u, -1, 1) / DELTA
    gradient = np.array([*slope.sum(axis=1), -slope[0] @ x, -slope[1] @ z])
    return np.sum(np.where(np.abs(u) < 1, u**2 / 2, np.abs(u) - 0.5)), gradient


def analytic(data, start=HOFFMANN, gtol=1e-5) -> float:
    """Optimum by BFGS in centred coordinates, the objective divided by the number of points."""
    centre, size = data[:2].mean(axis=1), data.shape[1]

    def scaled(p):
        value, gradient = objective(p, data, centre)
        return value / size, gradient / size

    start = start - np.array([*(start[3:] * centre), 0, 0, 0])
    return optimize.minimize(scaled, start, jac=True, method="BFGS", options={"gtol": gtol}).fun * size


def published(data) -> float:
    """Optimum by BFGS from the sum of Huber losses of ln L, differentiated by autograd."""
    import autograd
    import autograd.numpy as anp

    def huber_sum(p):
        terms = anp.stack([p[0] - p[3] * data[0], p[1] - p[4] * data[1], p[2] + 0 * data[0]])
        top = anp.max(terms, axis=0)
        off = data[2] - top - anp.log(anp.sum(anp.exp(terms - top), axis=0))
        quadratic, linear = off**2 / 2, DELTA * (anp.abs(off) - DELTA / 2)
        return anp.sum(anp.where(anp.abs(off) < DELTA, quadratic, linear))

    found = optimize.minimize(huber_sum, HOFFMANN, jac=autograd.grad(huber_sum), method="BFGS")
    return found.fun / DELTA**2


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
