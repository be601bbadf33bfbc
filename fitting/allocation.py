"""What to train with a budget: compute-optimal N and D = C / (6 N), by the three approaches of Hoffmann et al. 2022.

1. *Envelope*: at each of many budgets the run with the least loss, of all learning curves (`envelope`).
2. *IsoFLOP*: at each budget the minimum of a parabola through loss against ln N (`isoflop`).
3. *Parametric*: the minimum of a fitted law at 6 N D = C, in closed form (`of_law`).

All end in a power law, ln N_opt = k + a ln C, with resamples; and all refuse where the data show no minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fitting import bootstrap, intervals, kaplan
from fitting.errors import InputError
from fitting.loss_law import LEVEL, LossFit
from fitting.loss_points import LossPoints
from fitting.published import PUBLISHED

N_BUDGETS = 1500  # of approach 1, as published
MIN_SIZES, MIN_BUDGETS = 4, 2
# Points whose FLOPs lie within this of a budget, or of their neighbour's (in ln C), are of one budget.
SAME_BUDGET = 0.1
FAR = 10.0
# Of the resamples, the share that must have a minimum.
MIN_SHARE = 0.5
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
    the largest run. notes: what was refused, and why.
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
    parabolas: tuple["Parabola", ...] = ()
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
        PARAMETRIC, f"{name}: {said.where}", k * one, a * one, law=said.law, loss_of=loss_of, batch=kaplan.BATCH
    )


# Approach 2 --------------------------------------------------------------------------------------


def isoflop(points: LossPoints, n_resamples: int, seed: int, budgets: tuple[float, ...] = ()) -> Frontier:
    """Approach 2: parabolas in ln N through the losses of each budget; resampled by their residuals.

    budgets: FLOPs; points within 10 % of one belong to it. Without them, points close to each other in C do. A budget
    is refused where its parabola has no minimum between its sizes. Raises InputError where fewer than two are left.
    Parabolas are biased where sizes lie far or unevenly around the minimum (arXiv 2603.22339): see `isoflop_bias`.
    """
    log_c, log_n, y_n = np.log(points.features["C"]), np.log(points.features["N"]), points.y_n
    parabolas, notes = [], []
    for rows in _budgets(log_c, np.log(budgets)):
        made = _parabola(log_c[rows], log_n[rows], y_n[rows])
        if isinstance(made, str):
            notes.append(f"{np.exp(np.mean(log_c[rows])) if len(rows) else 0:.3g} FLOPs: {made}")
        else:
            parabolas.append(made)
    if len(parabolas) < MIN_BUDGETS:
        raise InputError(
            f"{points.source}: {len(parabolas)} budgets with a minimum between their sizes; the IsoFLOP approach needs"
            f" {MIN_BUDGETS} ({'; '.join(notes) or 'no refused ones'})"
        )
    noise = np.sqrt(sum(p.rest for p in parabolas) / sum(p.dof for p in parabolas))
    dof, rng = sum(p.dof for p in parabolas), np.random.default_rng(seed)
    noise_R = np.append(0.0, noise * np.sqrt(dof / rng.chisquare(dof, n_resamples)))
    minima_RK = np.column_stack([p.resampled(noise_R, rng) for p in parabolas])
    minima = [{"flops": np.exp(p.log_c), "n_params": np.exp(p.center + p.vertex), "loss": p.least} for p in parabolas]
    minima = tuple({k: float(v) for k, v in m.items()} for m in minima)
    frontier = _through(minima_RK, np.array([p.log_c for p in parabolas]), "2: IsoFLOP", points, minima, notes)
    return replace(frontier, parabolas=tuple(parabolas))


def isoflop_bias(points: LossPoints, fitted: LossFit, budgets: tuple[float, ...] = ()) -> tuple[float, float]:
    """What parabolas on this grid find in a law without noise, less the law's own: (of the exponent a, of ln N_opt at
    the largest budget)."""
    exact = replace(points, y_n=fitted.predict(points.features)[0])
    found, true = isoflop(exact, 2, 0, budgets), of_law(fitted)
    largest = [true.largest]
    return float(found.a_R[0] - true.a_R[0]), float(np.log(found.n(largest)[0, 0] / true.n(largest)[0, 0]))


@dataclass(frozen=True)
class Parabola:
    """loss = q0 + q1 x + q2 x^2, x = ln N - center; basis [n, 3] its columns, y_n the losses it was fitted to."""

    log_c: float
    center: float
    basis: np.ndarray
    q: np.ndarray
    y_n: np.ndarray

    @property
    def rest(self) -> float:
        """Sum of squared residuals."""
        return float(np.sum((self.y_n - self.basis @ self.q) ** 2))

    @property
    def vertex(self) -> float:
        """x of the minimum."""
        return -self.q[1] / (2 * self.q[2])

    @property
    def dof(self) -> int:
        return max(len(self.basis) - 3, 1)

    @property
    def least(self) -> float:
        """Loss at the minimum."""
        return self.q[0] + self.q[1] * self.vertex / 2

    def resampled(self, noise_R: np.ndarray, rng) -> np.ndarray:
        """[R]: ln N of the minimum with noise added to the losses; nan where there is none between the sizes."""
        off_Rn = noise_R[:, None] * rng.standard_normal((len(noise_R), len(self.basis)))
        q_R3 = self.q + off_Rn @ np.linalg.pinv(self.basis).T
        x_R = -q_R3[:, 1] / (2 * q_R3[:, 2])
        inside = (q_R3[:, 2] > 0) & (x_R > self.basis[:, 1].min()) & (x_R < self.basis[:, 1].max())
        return np.where(inside, self.center + x_R, np.nan)


def _budgets(log_c: np.ndarray, named: np.ndarray) -> list[np.ndarray]:
    """Rows of each budget: those near a named one, or neighbours in C."""
    if len(named):
        return [np.flatnonzero(np.abs(log_c - c) < SAME_BUDGET) for c in named]
    order = np.argsort(log_c)
    cuts = np.flatnonzero(np.diff(log_c[order]) > SAME_BUDGET) + 1
    return np.split(order, cuts)


def _parabola(log_c, log_n, y) -> Parabola | str:
    """A budget's parabola, or why it has no minimum."""
    sizes = len(np.unique(np.round(log_n, 2)))
    if sizes < MIN_SIZES:
        return f"{sizes} sizes; a parabola needs {MIN_SIZES}"
    center = float(np.mean(log_n))
    x = log_n - center
    basis = np.column_stack([np.ones_like(x), x, x**2])
    q, *_ = np.linalg.lstsq(basis, y, rcond=None)
    made = Parabola(float(np.mean(log_c)), center, basis, q, y)
    if q[2] <= 0:
        return "no interior minimum: the parabola opens downwards"
    if not x.min() < made.vertex < x.max():
        lo, hi, vertex = np.exp(center + np.array([x.min(), x.max(), made.vertex]))
        word = "larger" if made.vertex > 0 else "smaller"
        return f"no interior minimum: it would be at {vertex:.3g} parameters, not in {lo:.3g} to {hi:.3g}; train {word}"
    return made


def _through(log_n_RK, log_c_K, approach, points: LossPoints, minima, notes) -> Frontier:
    """A line through each resample's minima; the resamples that have fewer than two are left out and counted."""
    has_RK = np.isfinite(log_n_RK)
    use = has_RK.sum(axis=1) >= MIN_BUDGETS
    lost = np.sum(~use)
    if lost > (1 - MIN_SHARE) * len(use):
        raise InputError(f"{points.source}: {lost} of {len(use) - 1} resamples have no minimum between the sizes")
    if lost:
        notes = [*notes, f"{lost} of {len(use) - 1} resamples without two minima are left out"]
    has_RK, y_RK = has_RK[use], np.where(has_RK, log_n_RK, 0.0)[use]
    n_R1 = has_RK.sum(axis=1, keepdims=True)
    c_RK = np.where(has_RK, log_c_K - np.sum(has_RK * log_c_K, axis=1, keepdims=True) / n_R1, 0.0)
    a_R = np.sum(c_RK * y_RK, axis=1) / np.sum(c_RK**2, axis=1)
    k_R = (np.sum(y_RK, axis=1) - a_R * np.sum(has_RK * log_c_K, axis=1)) / n_R1[:, 0]
    largest = float(points.features["C"].max())
    return Frontier(approach, points.source, k_R, a_R, largest, minima=minima, notes=tuple(notes))


# Approach 1 --------------------------------------------------------------------------------------


def envelope(curves: LossPoints, n_resamples: int, seed: int) -> Frontier:
    """Approach 1: the best run at each of 1,500 budgets, from learning curves (points of a run share a unit).

    A budget is refused where the best run is of the smallest or the largest size that reaches it. Whole runs are
    resampled. Raises InputError where too few budgets are left.
    """
    runs, run_n = np.unique(curves.groups_n, return_inverse=True)
    log_c_n, log_n_n = np.log(curves.features["C"]), np.log(curves.features["N"])
    log_c_m = np.linspace(log_c_n.min(), log_c_n.max(), N_BUDGETS)
    loss_Km, log_n_K = np.full((len(runs), N_BUDGETS), np.inf), np.empty(len(runs))
    for k in range(len(runs)):
        rows = np.flatnonzero(run_n == k)
        rows = rows[np.argsort(log_c_n[rows])]
        log_n_K[k] = log_n_n[rows[0]]
        loss_Km[k] = np.interp(log_c_m, log_c_n[rows], curves.y_n[rows], left=np.inf, right=np.inf)
    first = _best_runs(loss_Km, log_n_K, log_c_m)
    if first is None:
        raise InputError(
            f"{curves.source}: no interior minimum: the best run is always of the smallest or the largest size; the"
            " envelope needs learning curves of three sizes that cross"
        )
    drawn = bootstrap.resample_weights(runs, n_resamples, seed)
    lines = [_best_runs(loss_Km[w > 0], log_n_K[w > 0], log_c_m) for w in drawn]
    kept = [first] + [line for line in lines if line is not None]
    lost = n_resamples + 1 - len(kept)
    notes = (f"{lost} of {n_resamples} resamples without a minimum are left out",) if lost else ()
    k_R, a_R = np.array([line[:2] for line in kept]).T
    at = first[2]
    best = np.where(np.isfinite(loss_Km), loss_Km, np.inf).argmin(axis=0)
    minima = tuple(
        {"flops": float(np.exp(log_c_m[m])), "n_params": float(np.exp(log_n_K[best[m]])), "loss": loss_Km[best[m], m]}
        for m in at[:: max(len(at) // 100, 1)]
    )
    largest = float(curves.features["C"].max())
    return Frontier("1: envelope", curves.source, k_R, a_R, largest, minima=minima, notes=notes)


def _best_runs(loss_Km, log_n_K, log_c_m):
    """(k, a, budgets used) of the line through the best runs' sizes, or None."""
    reaches = np.isfinite(loss_Km)
    best = np.where(reaches, loss_Km, np.inf).argmin(axis=0)
    log_n_m = log_n_K[best]
    smallest = np.where(reaches, log_n_K[:, None], np.inf).min(axis=0)
    largest = np.where(reaches, log_n_K[:, None], -np.inf).max(axis=0)
    at = np.flatnonzero((log_n_m > smallest + 1e-9) & (log_n_m < largest - 1e-9))
    if len(np.unique(log_n_m[at])) < 2:
        return None
    a, k = np.polyfit(log_c_m[at], log_n_m[at], 1)
    return k, a, at


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
