"""What to train with a budget: compute-optimal N and D = C / (6 N), by the three approaches of Hoffmann et al. 2022.

1. *Envelope*: at each of many budgets the run with the lowest loss, of all learning curves (envelope.py).
2. *IsoFLOP*: at each budget the minimum of a parabola through loss against ln N (isoflop.py).
3. *Parametric*: the minimum of a fitted law at 6 N D = C, in closed form (`of_law`).

Each gives a power law, ln N_opt = k + a ln C, with resamples, and raises InputError where the data show no minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import InputError, check_positive
from fitting.inference import bootstrap, intervals
from fitting.laws import kaplan_relations as kaplan
from fitting.laws import published
from fitting.laws.base import Law
from fitting.laws.catalogue import LAWS
from fitting.loss_laws.loss_fit import LEVEL, LossFit

FAR = 10.0  # times the largest run's compute
# Search with limited data: sizes range by this factor to each side of N_opt with unlimited data, then of the best size;
# number of sizes tried.
SEARCHES = ((100.0, 800), (1.02, 41))
PARAMETRIC = "3: parametric"


def percentile(value_R: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """(lo, hi) between which 95 % of the resamples lie."""
    return bootstrap.interval(value_R[1:], LEVEL, axis=0)


@dataclass(frozen=True)
class Frontier:
    """ln N_opt = k + a ln C. Row 0 of k_R, a_R is the fit, the others are resamples.

    law: of approach 3. loss_of(flops_m) -> [1 + R, m]: loss at the optimum of each resample; None for approaches 1 and
    2. batch: constants of B_crit(L), where training is at the critical batch size. minima: C, N and loss of each
    minimum of approach 1 or 2. parabolas: isoflop.Parabola of each budget. largest: FLOPs of the largest run. notes:
    what was left out, and why. interval(value_R, log): 95 % interval of a quantity with one row for each resample; log:
    its logarithm is closer to normal than the quantity.
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
        check_positive("budget", *budgets)
        n, d = self.n(budgets), self.d(budgets)
        loss = self.loss_of(budgets) if self.loss_of else None
        rows = []
        for m, c in enumerate(budgets):
            row = {"flops": float(c), "n_params": n[:, m], "tokens": d[:, m], "tokens_per_param": d[:, m] / n[:, m]}
            row |= {} if loss is None else {"loss": loss[:, m]}
            if self.law and LAWS[self.law].at_critical_batch:
                batch = kaplan.critical_batch(loss[:, m], self.batch)
                row |= {"batch_tokens": batch, "steps": d[:, m] / batch}
            row = _with_intervals(row, self.interval)
            rows.append(row | {"flags": [*self._flags(c), *self._too_wide(row)]})
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

    def _too_wide(self, row: dict) -> list[str]:
        names = [name.removesuffix("_ci95") for name, ends in row.items() if ends is None and len(self.a_R) > 1]
        return [f"not determined, so without an interval: {', '.join(names)}"] if names else []

    def _flags(self, c: float) -> list[str]:
        ratio = c / self.largest
        return [f"far extrapolation: {ratio:.0f} times the largest run's compute"] if ratio > FAR else []


def minima_rows(minima) -> tuple[dict, ...]:
    """minima: (FLOPs, parameters, loss) of each."""
    return tuple(dict(zip(("flops", "n_params", "loss"), map(float, minimum), strict=True)) for minimum in minima)


def _with_intervals(values: dict, interval: Callable, log: bool = True) -> dict:
    """{name: number} and {name_ci95: [lo, hi]} for each {name: [1 + R]}; numbers are kept."""
    row = {}
    for name, value in values.items():
        row[name] = float(value[0]) if np.ndim(value) else value
        if np.ndim(value):
            ends = interval(value, log) if len(value) > 1 else None
            known = ends is not None and (not log or intervals.determined(*ends))
            row[f"{name}_ci95"] = [float(end) for end in ends] if known else None
    return row


def of_law(fitted: LossFit, batch: dict = kaplan.BATCH) -> Frontier:
    """Approach 3. batch: constants of B_crit(L), for kaplan-ns.

    Raises InputError where the law has no optimum, or the fit does not determine it.
    """
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
    frontier = _parametric(law, points.source, natural, batch, fitted.values_each)
    largest, interval = float(points.features["C"].max()), _interval_of(fitted)
    return replace(frontier, largest=largest, notes=tuple(fitted.flags), interval=interval)


def _parametric(law: Law, source: str, natural: dict, batch: dict, values: Callable) -> Frontier:
    """Approach 3 from a law's parameters.

    natural: {parameter: its value [1 + R] in the units of the printed formula}; row 0 is the fit, the others its
    resamples. values({feature: [1 + R, m]}) -> [1 + R, m]: the law's loss.
    """
    k_R, a_R = np.broadcast_arrays(*law.optimum(natural, batch))
    frontier = Frontier(PARAMETRIC, source, k_R, a_R, law=law.name, batch=batch)

    def loss_of(flops):
        if law.at_critical_batch:
            natural_R1 = {k: v_R[:, None] for k, v_R in natural.items()}
            return kaplan.Frontier.of(natural_R1, batch).loss(np.asarray(flops, float))
        return values({"N": frontier.n(flops), "D": frontier.d(flops)})

    return replace(frontier, loss_of=loss_of)


def _interval_of(fitted: LossFit) -> Callable:
    """Wald's with Student's t where runs are few, as for the law's parameters: percentiles may be too narrow there."""
    if fitted.bootstrap.method != "residuals":
        return percentile
    return intervals.student(fitted.bootstrap, 0, fitted.units, fitted.delta)


def of_published(name: str, law: str | None = None, batch: dict = kaplan.BATCH) -> Frontier:
    """Approach 3 with published constants, without resamples. law: where an author published several. batch: constants
    of B_crit(L), for kaplan-ns. Raises InputError that lists the names."""
    constants = published.with_optimum(name, law)
    return _parametric(LAWS[constants.law], f"{name}: {constants.where}", constants.natural, batch, constants.at)


def check_limited(budgets, unique: float) -> None:
    """Raises InputError where a budget or the number of unique tokens is not a positive number."""
    check_positive("budget", *budgets)
    check_positive("unique", unique)


def repeated(fitted: LossFit, budgets, unique: float) -> list[dict]:
    """What to train with budgets [FLOPs] when there are only `unique` tokens, by a fit of the law "muennighoff".

    One row for each budget, with 95 % intervals: see `_repeated`."""
    return _repeated(fitted.natural(), fitted.values_each, _interval_of(fitted), budgets, unique)


def repeated_published(name: str, budgets, unique: float) -> list[dict]:
    """`repeated` with published constants, without intervals. Raises InputError that lists the names."""
    constants = published.find(name, "muennighoff")
    return _repeated(constants.natural, constants.at, percentile, budgets, unique)


def _repeated(natural: dict, values: Callable, interval: Callable, budgets, unique: float) -> list[dict]:
    """The allocations of `repeated`. natural, values: see `_parametric`.

    One row for each budget: n_params, tokens, epochs, loss, with 95 % intervals. It is searched on two grids of
    N, because the optimum is no power law once data repeat (Muennighoff et al. 2023, section 5).
    """
    check_limited(budgets, unique)
    k_R, a_R = LAWS["chinchilla-tied"].optimum(natural, kaplan.BATCH)
    rows = []
    for c in budgets:
        log_n_R1 = (k_R + a_R * np.log(c))[:, None]  # ln N_opt with unlimited data
        for width, n_sizes in SEARCHES:
            n_Rm = np.exp(log_n_R1 + np.linspace(-np.log(width), np.log(width), n_sizes))
            d_Rm = c / (6 * n_Rm)
            loss_Rm = values({"N": n_Rm, "D": d_Rm, "U": np.full_like(n_Rm, unique)})
            best = np.arange(len(n_Rm)), loss_Rm.argmin(axis=1)
            log_n_R1 = np.log(n_Rm[best])[:, None]
        row = {"n_params": n_Rm[best], "tokens": d_Rm[best], "epochs": d_Rm[best] / unique, "loss": loss_Rm[best]}
        rows.append({"flops": float(c)} | _with_intervals(row, interval))
    return rows
