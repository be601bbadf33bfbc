"""Kaplan et al. 2020, "Scaling Laws for Neural Language Models": closed forms that follow from their laws.

Units: N parameters without embeddings; D, B tokens; S steps; C FLOPs; L nats per token. Equation numbers are the
paper's. The constants are the published ones unless others are given.
"""

from dataclasses import dataclass

import numpy as np

from fitting.laws.published import PF_DAY, PUBLISHED

ND = PUBLISHED["kaplan", "kaplan-nd"].params
NS = PUBLISHED["kaplan", "kaplan-ns"].params
BATCH = PUBLISHED["kaplan", "kaplan-bcrit"].params
LR = PUBLISHED["kaplan", "kaplan-lr"].params
# Table 6, fitted by eye: (coefficient, exponent) of power laws of C_min in PF-days. D_opt: the tokens that training at
# B << B_crit reads (half of equation 6.7, which is for training at B_crit).
TABLE_6 = {"N_opt": (1.3e9, 0.73), "B": (2.0e6, 0.24), "S_min": (5.4e3, 0.03), "D_opt": (2e10, 0.27)}


def critical_batch(loss, batch: dict = BATCH):
    """B_crit in tokens (1.4, 5.3): the batch size at which training to a loss takes twice as many steps, and twice as
    many tokens, as the fewest that any batch size needs."""
    return batch["B_star"] / np.asarray(loss) ** (1 / batch["alpha_B"])


def fewest_steps(steps, batch_tokens, loss, batch: dict = BATCH):
    """S_min (5.4): steps to the same loss at a batch far above B_crit."""
    return steps / (1 + critical_batch(loss, batch) / batch_tokens)


def least_compute(flops, batch_tokens, loss, batch: dict = BATCH):
    """C_min (5.5): FLOPs to the same loss at a batch far below B_crit."""
    return flops / (1 + batch_tokens / critical_batch(loss, batch))


def overfitting(n, d, nd: dict = ND):
    """L(N, D) / L(N, infinity) - 1 (4.3): the relative increase of the loss because the data set is finite."""
    ratio = (n / nd["N_c"]) ** (nd["alpha_N"] / nd["alpha_D"]) * nd["D_c"] / d
    return (1 + ratio) ** nd["alpha_D"] - 1


def enough_tokens(n, share: float = 0.02, nd: dict = ND):
    """D at which `overfitting` is `share` (4.4; the paper's 0.02 is the spread between seeds): about 5e3 N^0.74."""
    ratio = (1 + share) ** (1 / nd["alpha_D"]) - 1
    return nd["D_c"] * (n / nd["N_c"]) ** (nd["alpha_N"] / nd["alpha_D"]) / ratio


def steps_to(loss, n, ns: dict = NS):
    """S_min after which N parameters reach a loss (1.6; figures 2 and 19); nan if they never do."""
    left = loss - (ns["N_c"] / np.asarray(n, float)) ** ns["alpha_N"]
    return ns["S_c"] / np.where(left > 0, left, np.nan) ** (1 / ns["alpha_S"])


def earliest_stop(n, d, nd: dict = ND, ns: dict = NS):
    """Lower bound of the step at which training on D tokens should stop (5.7)."""
    loss_of_infinite_data = (nd["N_c"] / n) ** nd["alpha_N"]
    return ns["S_c"] / (loss_of_infinite_data * overfitting(n, d, nd)) ** (1 / ns["alpha_S"])


def learning_rate(n):
    """Peak learning rate (D.1), for N below 1e10; at about 1e10 it reaches 0."""
    return LR["a"] - LR["c"] * np.log(n)


@dataclass(frozen=True)
class Frontier:
    """Compute-optimal training at B_crit, from L(N, S_min) (1.6) and B_crit(L) (1.4). c: training FLOPs."""

    n_c: float = NS["N_c"]
    alpha_n: float = NS["alpha_N"]
    s_c: float = NS["S_c"]
    alpha_s: float = NS["alpha_S"]
    b_star: float = BATCH["B_star"]
    alpha_b: float = BATCH["alpha_B"]

    @classmethod
    def of(cls, ns: dict, batch: dict) -> "Frontier":
        """From parameters of the laws kaplan-ns and kaplan-bcrit."""
        return cls(ns["N_c"], ns["alpha_N"], ns["S_c"], ns["alpha_S"], batch["B_star"], batch["alpha_B"])

    @property
    def excess(self) -> float:
        """Where to stop: the loss over the converged loss, minus 1 (B.5)."""
        return self.alpha_n / self.alpha_s

    @property
    def alpha_c(self) -> float:
        """Exponent of L(C) (B.7)."""
        return 1 / (1 / self.alpha_s + 1 / self.alpha_b + 1 / self.alpha_n)

    @property
    def c_c(self) -> float:
        """Scale of L(C) in FLOPs (B.8)."""
        powers = (1 + self.excess) ** (1 / self.alpha_s + 1 / self.alpha_n) * (1 / self.excess) ** (1 / self.alpha_s)
        return 6 * self.n_c * self.b_star * self.s_c * powers

    def exponents(self) -> dict[str, float]:
        """Exponents of C in N(C), B(C) and S(C) (1.8); they sum to 1."""
        return {name: self.alpha_c / getattr(self, f"alpha_{name.lower()}") for name in ("N", "B", "S")}

    def loss(self, c):
        """L(C) (B.6)."""
        return (self.c_c / c) ** self.alpha_c

    def n(self, c):
        """N(C) (B.9)."""
        return self.n_c * (c / self.c_c) ** (self.alpha_c / self.alpha_n) * (1 + self.excess) ** (1 / self.alpha_n)

    def steps(self, c):
        """S(C) (B.10)."""
        scale = self.c_c / (6 * self.n_c * self.b_star) * (1 + self.excess) ** (-1 / self.alpha_n)
        return scale * (c / self.c_c) ** (self.alpha_c / self.alpha_s)

    def batch_tokens(self, c):
        """B(C): the critical batch size at L(C) (B.2)."""
        return self.b_star / self.loss(c) ** (1 / self.alpha_b)

    def tokens(self, c):
        """D(C) = B(C) S(C)."""
        return self.batch_tokens(c) * self.steps(c)

    def against(self, share: float = 0.02) -> dict[str, float]:
        """Ratios of N, S and C to those of a model that is trained to within `share` of convergence and reaches the
        same loss (B.12 to B.14)."""
        n = ((1 + self.excess) / (1 + share)) ** (1 / self.alpha_n)
        s = ((1 + 1 / self.excess) / (1 + 1 / share)) ** (1 / self.alpha_s)
        return {"N": n, "S": s, "C": n * s}

    def compute(self, n, loss):
        """FLOPs after which N parameters reach a loss at B_crit (B.15); nan if they never do."""
        left = loss - (self.n_c / np.asarray(n, float)) ** self.alpha_n
        power = np.where(left > 0, left, np.nan) ** (-1 / self.alpha_s)
        return 6 * self.b_star * self.s_c * n / loss ** (1 / self.alpha_b) * power

    def extra_compute(self, times):
        """Ratio of compute to the optimal model's, for a model `times` as large and the same loss (B.16)."""
        times = np.asarray(times, float)
        left = 1 + (1 - times**-self.alpha_n) / self.excess
        return times * np.where(left > 0, left, np.nan) ** (-1 / self.alpha_s)

    def fewer_steps(self, times):
        """Ratio of steps to the optimal model's, for a model `times` as large and the same loss."""
        return self.extra_compute(times) / times


def by_table_6(c) -> dict:
    """{"N_opt", "B", "S_min", "D_opt"} of compute-efficient training at C_min = c FLOPs, by the fits of table 6."""
    return {name: scale * (np.asarray(c) / PF_DAY) ** power for name, (scale, power) in TABLE_6.items()}


def contradiction(tokens: tuple[float, float] = TABLE_6["D_opt"]) -> dict[str, float]:
    """{"C", "N", "D", "L"} at the compute where L(C_min) = L(D(C_min)) (section 6.3).

    tokens: (coefficient, exponent) of D in C_min / PF-day. At larger compute L(C_min) is below the loss that these
    tokens allow, so the laws must fail before. The paper calls this compute uncertain by an order of magnitude.
    """
    of_c, of_d = (PUBLISHED["kaplan", law].params for law in ("kaplan-cmin", "kaplan-d"))
    scale, power = tokens
    # alpha_C (ln C_c - c) = alpha_D (ln D_c - ln scale - power c), c = ln(C / PF-day)
    top = of_c["alpha_C"] * np.log(of_c["C_c"] / PF_DAY) - of_d["alpha_D"] * np.log(of_d["D_c"] / scale)
    c = np.exp(top / (of_c["alpha_C"] - of_d["alpha_D"] * power)) * PF_DAY
    at = {"C": c, "N": by_table_6(c)["N_opt"], "D": scale * (c / PF_DAY) ** power}
    return {k: float(v) for k, v in at.items()} | {"L": float((of_c["C_c"] / c) ** of_c["alpha_C"])}
