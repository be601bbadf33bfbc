"""Which rungs to train for a budget, so that the target's prediction varies least.

The law's Jacobian at each candidate run gives the Fisher information of any set of runs; the target's
prediction then has standard deviation sigma sqrt(g' (J'J)^-1 g), in ln bpb. A set is built greedily
(the run that lowers it most for its FLOPs) from the best small set that determines the law, then
improved by exchanging, dropping and adding runs while the budget allows.
"""

from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.inference import noise
from fitting.inference.bootstrap import Fit

MIN_SPARE, MIN_SIZES, MIN_LENGTHS = 3, 3, 3
SAME_LENGTH = 1.2


@dataclass(frozen=True)
class Candidates:
    """Runs that may be trained: N, D and FLOPs of each, jacobian_TnP of ln bpb, gradient_TP at the target.

    scale_T: run noise of each task (sd of ln bpb). size_n, length_n: labels that say which runs share a size or length.
    """

    flops_n: np.ndarray
    size_n: np.ndarray
    length_n: np.ndarray
    jacobian_TnP: np.ndarray
    gradient_TP: np.ndarray
    scale_T: np.ndarray

    def sd(self, chosen_Sn: np.ndarray) -> np.ndarray:
        """[S]: the target's sd in ln bpb (root mean square over tasks) by sets bool[S, n]; inf: undetermined."""
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


def candidates(fitted: Fit, features: dict, target: dict, flops_n: np.ndarray) -> Candidates:
    """Candidates from a law of N and D fitted to T tasks: at features {"N": [n], "D": [n]}."""
    n, d = np.asarray(features["N"], float), np.asarray(features["D"], float)
    every = {"N": np.append(n, target["N"]), "D": np.append(d, target["D"])}
    lanes = fitted.law.coordinates(every, fitted.centre)
    jacobian_TnP = noise.jacobian(fitted.law, fitted.params_TRP[:, 0], lanes)
    size_n = np.unique(n.round(-3), return_inverse=True)[1]
    length_n = np.round(np.log(d / n) / np.log(SAME_LENGTH)).astype(int)
    return Candidates(np.asarray(flops_n), size_n, length_n, jacobian_TnP[:, :-1], jacobian_TnP[:, -1], fitted.noise_T)


def best(made: Candidates, budget: float) -> tuple[np.ndarray, float]:
    """(bool[n], sd): the set of runs within `budget` FLOPs that predicts the target best.

    Raises InputError where no set within the budget determines the law.
    """
    found = [_improved(made, start, budget) for start in _starts(made, budget)]
    if not found:
        raise InputError(f"{budget:.3g} FLOPs: no set of runs within it determines the law; allow more")
    return min(found, key=lambda pair: pair[1])


def _starts(made: Candidates, budget: float):
    """Sets that determine the law: cheapest first, and cheapest after each run taken beforehand."""
    order = np.argsort(made.flops_n)
    for first in [None, *order]:
        chosen = np.zeros(len(order), bool)
        if first is not None:
            chosen[first] = True
        for i in order:
            if made.allowed(chosen[None])[0]:
                break
            chosen[i] = True
        if made.allowed(chosen[None])[0] and made.flops_n[chosen].sum() <= budget:
            yield chosen


def _improved(made: Candidates, chosen: np.ndarray, budget: float) -> tuple[np.ndarray, float]:
    """Add, drop or exchange up to two runs for up to two others, while the standard deviation falls."""
    sd = made.sd(chosen)[0]
    while True:
        moves = np.unique(_neighbours(chosen), axis=0)
        moves = moves[(moves @ made.flops_n <= budget) & made.allowed(moves)]
        if not len(moves):
            return chosen, float(sd)
        sds = made.sd(moves)
        if sds.min() >= sd * (1 - 1e-9):
            return chosen, float(sd)
        chosen, sd = moves[sds.argmin()], sds.min()


def _neighbours(chosen: np.ndarray) -> np.ndarray:
    eye = np.eye(len(chosen), dtype=bool)
    one = chosen ^ eye
    return np.concatenate([one, (one[:, None] ^ eye).reshape(-1, len(chosen))])


def frontier(made: Candidates, budgets) -> list[dict]:
    """For each budget (FLOPs) the best set: runs, FLOPs, sd in ln bpb and the 80 % interval's half-width."""
    rows = []
    for budget in budgets:
        chosen, sd = best(made, budget)
        rows.append(
            {"budget": float(budget), "runs": np.flatnonzero(chosen).tolist(), "sd": sd, "half_width": 1.2816 * sd,
             "flops": float(made.flops_n[chosen].sum())}
        )  # fmt: skip
    return rows
