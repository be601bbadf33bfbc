"""What to train with a budget: compute-optimal N and D = C / (6 N), by the three approaches of Hoffmann et al. 2022.

1. *Envelope*: at each of many budgets the run with the lowest loss, of all learning curves (envelope.py).
2. *IsoFLOP*: at each budget the minimum of a parabola through loss against ln N (isoflop.py).
3. *Parametric*: the minimum of a fitted law at 6 N D = C, in closed form (`of_law`).

All end in a power law, ln N_opt = k + a ln C, with resamples; all refuse where the data show no minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap, intervals
from fitting.laws import kaplan_relations as kaplan
from fitting.laws import published
from fitting.laws.catalogue import LAWS
from fitting.loss_laws.loss_fit import LEVEL, LossFit

FAR = 10.0
# Of the search with limited data: how many sizes are tried, and by what factor they span the optimum of unlimited data.
N_GRID, SPAN = 800, 100.0
PARAMETRIC = "3: parametric"


def percentile(value_R: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """(lo, hi) between which 95 % of the resamples lie."""
    return bootstrap.interval(value_R[1:], LEVEL, axis=0)


@dataclass(frozen=True)
class Frontier:
    """ln N_opt = k + a ln C. Row 0 of k_R, a_R is the fit, the others are resamples.

    law: of approach 3. loss_of(flops_m) -> [1 + R, m]: loss at the optimum of each resample; None for 1 and 2. batch:
    constants of B_crit(L) where training is at the critical batch. minima: C, N and loss of each minimum of approach 1
    or 2. parabolas: isoflop.Parabola of each budget. largest: FLOPs of the largest run. notes: what was refused, and
    why. interval(value_R, log): 95 % interval of a quantity with such rows; log: nearly normal in its logarithm.
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
            if self.law and LAWS[self.law].at_critical_batch:
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
        ratio = c / self.largest
        return [f"far extrapolation: {ratio:.0f} times the largest run's compute"] if ratio > FAR else []


def _with_intervals(values: dict, interval: Callable, log: bool = True) -> dict:
    """{name: number} and {name_ci95: [lo, hi]} of {name: [1 + R]}; numbers as they are."""
    out = {}
    for name, value in values.items():
        if np.ndim(value):
            out[name] = float(value[0])
            out[f"{name}_ci95"] = [float(end) for end in interval(value, log)] if len(value) > 1 else None
        else:
            out[name] = value
    return out


def of_law(fitted: LossFit, batch: dict = kaplan.BATCH) -> Frontier:
    """Approach 3. batch: constants of B_crit(L), for kaplan-ns. Raises InputError where the law has no optimum, or the
    fit does not determine it."""
    law, points, natural = fitted.law, fitted.points, fitted.natural()
    if law.optimum is None:
        known = ", ".join(known.name for known in LAWS.values() if known.optimum)
        raise InputError(f"{law.name}: has no optimum in N and D; these laws have: {known}", "law")
    on_bound = [name for name in fitted.bootstrap.at_bound(0) if name != "E"]
    if on_bound:
        raise InputError(
            f"{points.source}: no interior minimum: the fit holds {', '.join(on_bound)} at a bound; the runs do not"
            " separate the effect of size from that of data"
        )
    k_R, a_R = law.optimum(natural, batch)

    def loss_of(flops):
        flops = np.asarray(flops, float)
        if law.at_critical_batch:
            return kaplan.Frontier.of({k: v[:, None] for k, v in natural.items()}, batch).loss(flops)
        n_Rm = np.exp(k_R[:, None] + a_R[:, None] * np.log(flops))
        return fitted.values_each({"N": n_Rm, "D": flops / (6 * n_Rm)})

    return Frontier(
        PARAMETRIC,
        points.source,
        *np.broadcast_arrays(k_R, a_R),
        largest=float(points.features["C"].max()),
        law=law.name,
        loss_of=loss_of,
        batch=batch,
        notes=tuple(fitted.flags),
        interval=_interval_of(fitted),
    )


def _interval_of(fitted: LossFit) -> Callable:
    """Wald's with Student's t where runs are few, as for the law's parameters: percentiles may be too short there."""
    if fitted.bootstrap.method != "residuals":
        return percentile
    return intervals.student(fitted.bootstrap, 0, fitted.units, fitted.delta)


def of_published(name: str) -> Frontier:
    """What published constants say. Raises InputError that lists the names."""
    constants = published.with_optimum(name)
    law = LAWS[constants.law]
    k, a = law.optimum(constants.params, kaplan.BATCH)

    def loss_of(flops):
        flops = np.asarray(flops, float)
        if law.at_critical_batch:
            return kaplan.Frontier.of(constants.params, kaplan.BATCH).loss(flops)[None]
        n = np.exp(k + a * np.log(flops))
        return constants.at({"N": n, "D": flops / (6 * n)})[None]

    k_1, a_1 = np.atleast_1d(k), np.atleast_1d(a)
    source = f"{name}: {constants.where}"
    return Frontier(PARAMETRIC, source, k_1, a_1, law=law.name, loss_of=loss_of, batch=kaplan.BATCH)


def repeated(fitted: LossFit, budgets, unique: float) -> list[dict]:
    """What to train with budgets [FLOPs] when there are only `unique` tokens, by a fit of the law "muennighoff".

    One row for each budget: n_params, tokens, epochs, loss, with 95 % intervals. By brute force over N, because the
    optimum is no power law once data repeat (Muennighoff et al. 2023, section 5).
    """
    k_R, a_R = LAWS["chinchilla-tied"].optimum(fitted.natural(), kaplan.BATCH)
    rows, interval = [], _interval_of(fitted)
    for c in budgets:
        log_n_R = k_R + a_R * np.log(c)  # the optimum of unlimited data
        n_Rm = np.exp(log_n_R[:, None] + np.linspace(-np.log(SPAN), np.log(SPAN), N_GRID))
        d_Rm = c / (6 * n_Rm)
        loss_Rm = fitted.values_each({"N": n_Rm, "D": d_Rm, "U": np.full_like(n_Rm, unique)})
        best = np.arange(len(n_Rm)), loss_Rm.argmin(axis=1)
        row = {"n_params": n_Rm[best], "tokens": d_Rm[best], "epochs": d_Rm[best] / unique, "loss": loss_Rm[best]}
        rows.append({"flops": float(c)} | _with_intervals(row, interval))
    return rows
