"""What to train with a budget: compute-optimal N and D = C / (6 N), by the three approaches of Hoffmann et al. 2022.

1. *Envelope*: at each of many budgets the run with the least loss, of all learning curves (`envelope`).
2. *IsoFLOP*: at each budget the minimum of a parabola through loss against ln N (`isoflop`).
3. *Parametric*: the minimum of a fitted law at 6 N D = C, in closed form (`of_law`).

All end in a power law, ln N_opt = k + a ln C, with resamples; and all refuse where the data show no minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap, intervals
from fitting.laws import kaplan_relations as kaplan
from fitting.laws.published import PUBLISHED
from fitting.loss_laws.loss_fit import LEVEL, LossFit

FAR = 10.0
# Of a search by brute force: sizes tried, and how far from the optimum of unlimited data.
N_GRID, MOST_OFF = 800, 100.0
PARAMETRIC = "3: parametric"
WITH_OPTIMUM = ("chinchilla", "chinchilla-tied", "kaplan-nd", "kaplan-ns")
# What a name's allocation is taken from: Kaplan's own is his L(N, S_min), not L(N, D).
OF_PUBLISHED = ("chinchilla", "chinchilla-tied", "kaplan-ns")


def percentile(value_R: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """(lo, hi) between which 95 % of the resamples lie."""
    return bootstrap.interval(value_R[1:], LEVEL, axis=0)


@dataclass(frozen=True)
class Frontier:
    """ln N_opt = k + a ln C. k_R, a_R: row 0 is the fit, the others resamples. interval(value_R, log): what the
    resamples of a quantity (or of its logarithm) say of it, at 95 %.

    law: of approach 3, and loss_of(flops_m) -> [1 + R, m] what it says at each resample's optimum; batch: constants
    of B_crit(L), where it trains at that. minima: C, N and loss of each minimum found (1 and 2). largest: FLOPs of
    the largest run. notes: what was refused, and why. parabolas: isoflop.Parabola of each budget.
    """

    approach: str
    source: str
    k_R: np.ndarray
    a_R: np.ndarray
    largest: float = np.inf
    law: str | None = None
    loss_of: Callable | None = None
    batch: dict | None = None
    minima: tuple[dict, ...] = ()
    parabolas: tuple = ()
    notes: tuple[str, ...] = ()
    interval: Callable = percentile

    def n(self, flops) -> np.ndarray:
        """[1 + R, m]: compute-optimal parameters for budgets [m]."""
        return np.exp(self.k_R[:, None] + self.a_R[:, None] * np.log(np.asarray(flops, float)))

    def d(self, flops) -> np.ndarray:
        """[1 + R, m]: compute-optimal tokens."""
        return np.asarray(flops, float) / (6 * self.n(flops))

    def json(self, budgets) -> dict:
        """For programs: exponents and one allocation for each budget, with 95 % intervals."""
        n, d = self.n(budgets), self.d(budgets)
        loss = self.loss_of(budgets) if self.loss_of else None
        rows = []
        for m, c in enumerate(budgets):
            row = {"flops": float(c), "n_params": n[:, m], "tokens": d[:, m], "tokens_per_param": d[:, m] / n[:, m]}
            row |= {} if loss is None else {"loss": loss[:, m]}
            if self.law == "kaplan-ns":
                batch = kaplan.critical_batch(loss[:, m], self.batch)
                row |= {"batch_tokens": batch, "steps": d[:, m] / batch}
            rows.append(_with_intervals(row, self.interval) | {"flags": self._flags(c)})
        return {
            "approach": self.approach,
            "law": self.law,
            "source": self.source,
            "n_resamples": len(self.a_R) - 1,
            "interval": "percentiles of the resamples" if self.interval is percentile else "Wald, Student's t",
            "exponents": _with_intervals({"N": self.a_R, "D": 1 - self.a_R}, self.interval, log=False),
            "allocations": rows,
            "minima": list(self.minima),
            "notes": list(self.notes),
        }

    def _flags(self, c: float) -> list[str]:
        times = c / self.largest
        return [f"far extrapolation: {times:.0f} times the largest run's compute"] if times > FAR else []


def _with_intervals(values: dict, interval: Callable, log: bool = True) -> dict:
    out = {}
    for name, value in values.items():
        if np.ndim(value):
            out[name] = float(value[0])
            out[f"{name}_ci95"] = [float(end) for end in interval(value, log)] if len(value) > 1 else None
        else:
            out[name] = value
    return out


# Approach 3 --------------------------------------------------------------------------------------


def of_params(law: str, p: dict, batch: dict = kaplan.BATCH) -> tuple:
    """(k, a) of ln N_opt = k + a ln C from natural parameters of a law (numbers or arrays).

    With terms A/N^alpha + B/D^beta the optimum is N = G (C/6)^a, a = beta / (alpha + beta), G = (alpha A / beta B)
    ^ (1 / (alpha + beta)) (Hoffmann et al. 2022, equation 4); Kaplan's 1.5 has such a sum inside its power, and his
    1.6, at the critical batch, is in `kaplan.Frontier`.
    """
    if law == "kaplan-ns":
        frontier = _frontier_ns(p, batch)
        return np.log(frontier.n(1.0)), frontier.alpha_c / frontier.alpha_n
    if law == "chinchilla":
        log_a, alpha, log_b, beta = np.log(p["A"]), p["alpha"], np.log(p["B"]), p["beta"]
    elif law == "chinchilla-tied":
        log_a, alpha, log_b, beta = np.log(p["A"]), p["alpha"], np.log(p["B"]), p["alpha"]
    elif law == "kaplan-nd":
        alpha, beta = p["alpha_N"] / p["alpha_D"], np.ones_like(p["alpha_D"])
        log_a, log_b = alpha * np.log(p["N_c"]), np.log(p["D_c"])
    else:
        raise InputError(f"--law {law!r}: has no optimum in N and D; there are: {', '.join(WITH_OPTIMUM)}")
    a = beta / (alpha + beta)
    log_g = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)
    return log_g - a * np.log(6), a


def _frontier_ns(p: dict, batch: dict) -> kaplan.Frontier:
    return kaplan.Frontier(p["N_c"], p["alpha_N"], p["S_c"], p["alpha_S"], batch["B_star"], batch["alpha_B"])


def of_law(fitted: LossFit, batch: dict = kaplan.BATCH) -> Frontier:
    """Approach 3: from a fitted law; batch: constants of B_crit(L), for kaplan-ns. Raises InputError where it has no
    optimum."""
    natural, law, points = fitted.fit.natural(0), fitted.law.name, fitted.points
    k_R, a_R = of_params(law, natural, batch)
    stuck = [name for name in fitted.fit.at_bound(0) if name != "E"]
    if stuck:
        raise InputError(
            f"{points.source}: no interior minimum: the fit holds {', '.join(stuck)} at a bound; the runs do not tell"
            " the effect of size from that of data"
        )

    def loss_of(flops):
        flops = np.asarray(flops, float)
        if law == "kaplan-ns":
            return _frontier_ns({k: v[:, None] for k, v in natural.items()}, batch).loss(flops)
        n_Rm = np.exp(k_R[:, None] + a_R[:, None] * np.log(flops))
        return fitted.predict_each({"N": n_Rm, "D": flops / (6 * n_Rm)})

    largest, notes = float(points.features["C"].max()), tuple(fitted.flags())
    return Frontier(
        PARAMETRIC, points.source, k_R, a_R, largest, law, loss_of, batch, notes=notes, interval=_interval_of(fitted)
    )


def _interval_of(fitted: LossFit) -> Callable:
    """Of few runs Wald's with Student's t, as of the law's parameters, where percentiles may be too short."""
    simulated = fitted.fit.method == "residuals"
    return intervals.student(fitted.fit, 0, fitted.units, fitted.delta) if simulated else percentile


def of_published(name: str) -> Frontier:
    """What someone's constants say."""
    laws = [law for who, law in PUBLISHED if who == name and law in OF_PUBLISHED]
    if not laws:
        there = ", ".join(dict.fromkeys(who for who, law in PUBLISHED if law in OF_PUBLISHED))
        raise InputError(f"--published {name!r}: there are: {there}")
    said = PUBLISHED[name, laws[0]]
    k, a = of_params(said.law, said.params)

    def loss_of(flops):
        flops = np.asarray(flops, float)
        if said.law == "kaplan-ns":
            return _frontier_ns(said.params, kaplan.BATCH).loss(flops)[None]
        n = np.exp(k + a * np.log(flops))
        return said.at({"N": n, "D": flops / (6 * n)})[None]

    one = np.ones(1)
    return Frontier(
        PARAMETRIC,
        f"{name}: {said.where}",
        k * one,
        a * one,
        law=said.law,
        loss_of=loss_of,
        batch=kaplan.BATCH,
    )


# Approach 2 --------------------------------------------------------------------------------------


# Approach 1 --------------------------------------------------------------------------------------


# Limited data ------------------------------------------------------------------------------------


def repeated(fitted: LossFit, budgets, unique: float) -> list[dict]:
    """What to train with budgets [FLOPs] when there are only `unique` tokens, by a fit of the law "muennighoff".

    One row for each budget: n_params, tokens, epochs, loss, with 95 % intervals. By brute force over N, since the
    optimum is no power law once data repeat (Muennighoff et al. 2023, section 5).
    """
    k_R, a_R = of_params("chinchilla-tied", fitted.fit.natural(0))
    rows, interval = [], _interval_of(fitted)
    for c in budgets:
        once_R = k_R + a_R * np.log(c)  # ln N_opt of as many new tokens as one likes
        log_n_Rm = once_R[:, None] + np.linspace(-np.log(MOST_OFF), np.log(MOST_OFF), N_GRID)
        n_Rm = np.exp(log_n_Rm)
        d_Rm = c / (6 * n_Rm)
        loss_Rm = fitted.predict_each({"N": n_Rm, "D": d_Rm, "U": np.full_like(n_Rm, unique)})
        best = np.arange(len(n_Rm)), loss_Rm.argmin(axis=1)
        row = {"n_params": n_Rm[best], "tokens": d_Rm[best], "epochs": d_Rm[best] / unique, "loss": loss_Rm[best]}
        rows.append({"flops": float(c)} | _with_intervals(row, interval))
    return rows
