"""Which rungs to train for a budget, so that the standard deviation of the target's prediction is smallest.

J is the law's Jacobian at a set of runs and g its gradient at the target, so J'J is the Fisher information and the
prediction has standard deviation sigma sqrt(g' (J'J)^-1 g), in ln bpb. The search starts from the cheapest runs that
determine the law, and adds, drops and exchanges runs within the budget while this falls.
"""

from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError, check_positive
from fitting.inference.measured import SeedNoise

# ln bpb; run noise is 0.3 to 1 %.
HUBER = 1e-2
MIN_SPARE, MIN_SIZES, MIN_LENGTHS = 3, 3, 3
SAME_LENGTH = 1.2
SHARES = (0.1, 0.2, 0.4, 1.0)  # default budgets, as shares of the FLOPs of all runs


@dataclass(frozen=True)
class Candidates:
    """Runs that may be trained: FLOPs of each, jacobian_TnP of ln bpb, gradient_TP at the target.

    scale_T: run noise of each task (sd of ln bpb). size_n, length_n: labels that say which runs share a size or length.
    """

    flops_n: np.ndarray
    size_n: np.ndarray
    length_n: np.ndarray
    jacobian_TnP: np.ndarray
    gradient_TP: np.ndarray
    scale_T: np.ndarray

    def sd(self, chosen_Sn: np.ndarray) -> np.ndarray:
        """[S]: sd of the target's ln bpb (root mean square over tasks) for S sets of runs, bool[S, n].

        inf where a set does not determine the law.
        """
        chosen_Sn = np.atleast_2d(chosen_Sn).astype(float)
        total_S = np.zeros(len(chosen_Sn))
        for jacobian_nP, gradient_P, scale in zip(self.jacobian_TnP, self.gradient_TP, self.scale_T, strict=True):
            information_SPP = np.einsum("sn,np,nq->spq", chosen_Sn, jacobian_nP, jacobian_nP)
            ridge_PP = 1e-9 * np.eye(len(gradient_P)) * np.trace(jacobian_nP.T @ jacobian_nP) / len(gradient_P)
            right = np.broadcast_to(gradient_P[:, None], (len(chosen_Sn), len(gradient_P), 1))
            solved_SP = np.linalg.solve(information_SPP + ridge_PP, right)[..., 0]
            total_S += scale**2 * (solved_SP @ gradient_P)
        sd_S = np.sqrt(total_S / len(self.scale_T))
        return np.where(self.allowed(chosen_Sn > 0), sd_S, np.inf)

    def allowed(self, chosen_Sn: np.ndarray) -> np.ndarray:
        """bool[S]: enough runs, sizes and lengths to determine and to check the law."""
        enough_S = chosen_Sn.sum(axis=1) >= self.gradient_TP.shape[1] + MIN_SPARE
        for labels_n, least in ((self.size_n, MIN_SIZES), (self.length_n, MIN_LENGTHS)):
            present = [(chosen_Sn & (labels_n == label)).any(axis=1) for label in np.unique(labels_n)]
            enough_S &= np.sum(present, axis=0) >= least
        return enough_S


def candidates_of(points, target, noise: SeedNoise | None = None) -> Candidates:
    """The runs of a ladder (points.Points) as candidates for a target, by Chinchilla's law fitted to its tasks. noise:
    measured between seeds; without it, and for tasks that it lacks, the noise is that of the runs around the law."""
    from fitting.inference import bootstrap
    from fitting.laws.power_sum import CHINCHILLA

    n, d = points.features["N"], points.features["D"]
    measured_Tn = ~np.isnan(points.bpb_Tn)
    bpb_Tn, resampling = np.where(measured_Tn, points.bpb_Tn, 1.0), bootstrap.Resampling(2, method="residuals")
    features, solver = {"N": n, "D": d}, bootstrap.Solver(HUBER)
    fitted = bootstrap.fit(CHINCHILLA, features, bpb_Tn, weights_Tn=measured_Tn, solver=solver, resampling=resampling)
    runs = candidates(fitted, features, target.features, points.features.get("flops", 6 * n * d))
    return runs if noise is None else with_noise(runs, points.tasks, n, noise)


def with_noise(runs: Candidates, tasks, n: np.ndarray, noise: SeedNoise) -> Candidates:
    """The candidates with the measured noise of their tasks. n: parameters of each run.

    A run whose noise is larger than its task's `scale_T` counts less: its derivatives are divided by the ratio of the
    two.
    """
    known_T = np.array([task in noise.sd for task in tasks])
    scale_T = np.array([noise.sd.get(task, scale) for task, scale in zip(tasks, runs.scale_T, strict=True)])
    relative_Tn = np.where(known_T[:, None], noise.relative(n), 1.0)
    return replace(runs, scale_T=scale_T, jacobian_TnP=runs.jacobian_TnP / relative_Tn[..., None])


def candidates(fitted, features: dict, target: dict, flops_n: np.ndarray) -> Candidates:
    """Candidates with features {"N": [n], "D": [n]}, from a law of N and D fitted to T tasks (bootstrap.Fit)."""
    from fitting.inference.noise import linearised

    n, d = np.asarray(features["N"], float), np.asarray(features["D"], float)
    runs_and_target = {"N": np.append(n, target["N"]), "D": np.append(d, target["D"])}
    lanes = fitted.law.coordinates(runs_and_target, fitted.centre)
    _, jacobian_TnP = linearised(fitted.law, fitted.params_TRP[:, 0], lanes)
    size_n = np.unique(n.round(-3), return_inverse=True)[1]
    length_n = np.round(np.log(d / n) / np.log(SAME_LENGTH)).astype(int)
    return Candidates(np.asarray(flops_n), size_n, length_n, jacobian_TnP[:, :-1], jacobian_TnP[:, -1], fitted.noise_T)


def best(runs: Candidates, budget: float) -> tuple[np.ndarray, float]:
    """(bool[n], sd): the set of runs within `budget` FLOPs that predicts the target best, and sd of its ln bpb.

    Raises InputError where no set within the budget determines the law.
    """
    improved = [_improved(runs, start, budget) for start in _starts(runs, budget)]
    if not improved:
        raise InputError(f"{budget:.3g} FLOPs: no set of runs within it determines the law; allow more", "budget")
    return min(improved, key=lambda pair: pair[1])


def _starts(runs: Candidates, budget: float):
    """Sets that determine the law: the cheapest runs, and each single run with the cheapest others."""
    order = np.argsort(runs.flops_n)
    for chosen in np.vstack([np.zeros(len(order), bool), np.eye(len(order), dtype=bool)[order]]):
        for i in order:
            if runs.allowed(chosen[None])[0]:
                break
            chosen[i] = True
        if runs.allowed(chosen[None])[0] and runs.flops_n[chosen].sum() <= budget:
            yield chosen


def _improved(runs: Candidates, chosen: np.ndarray, budget: float) -> tuple[np.ndarray, float]:
    """Add, drop or exchange up to two runs for up to two others, while the standard deviation falls."""
    sd = runs.sd(chosen)[0]
    while True:
        moves = np.unique(_neighbours(chosen), axis=0)
        moves = moves[(moves @ runs.flops_n <= budget) & runs.allowed(moves)]
        if not len(moves):
            return chosen, float(sd)
        sds = runs.sd(moves)
        if sds.min() >= sd * (1 - 1e-9):
            return chosen, float(sd)
        chosen, sd = moves[sds.argmin()], sds.min()


def _neighbours(chosen: np.ndarray) -> np.ndarray:
    """All sets that differ from this one by one or two runs."""
    eye = np.eye(len(chosen), dtype=bool)
    one = chosen ^ eye
    return np.concatenate([one, (one[:, None] ^ eye).reshape(-1, len(chosen))])


def frontier(runs: Candidates, budgets=()) -> list[dict]:
    """The best set for each budget in FLOPs (default: SHARES): budget, runs (indices), flops, sd and half_width of the
    target's ln bpb (half of its 80 % interval)."""
    rows = []
    check_positive("budget", *budgets)
    for budget in budgets if len(budgets) else np.multiply(SHARES, runs.flops_n.sum()):
        chosen, sd = best(runs, budget)
        row = {"budget": float(budget), "runs": np.flatnonzero(chosen).tolist(), "sd": sd, "half_width": 1.2816 * sd}
        rows.append(row | {"flops": float(runs.flops_n[chosen].sum())})
    return rows
