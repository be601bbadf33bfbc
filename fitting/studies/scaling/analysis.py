"""Size, data and compute: L(N, D) with early stopping, L(D), the overfitting rule, L(C) and the compute-optimal size.

Kaplan et al. 2020, sections 3, 4 and 6; Hoffmann et al. 2022, section 3. A run with unique_tokens repeats them: its D
is that number, and its loss the lowest of its curve. A fresh run's D is the tokens it was trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fitting.errors import InputError
from fitting.inference import intervals
from fitting.laws import kaplan_relations
from fitting.loss_laws import allocation, envelope, isoflop, loss_fit
from fitting.loss_laws.allocation import Frontier
from fitting.loss_laws.loss_fit import LossFit
from fitting.report.grid import Grid
from fitting.studies.critical_batch import CriticalBatch
from fitting.studies.ends import ends, groups, need
from fitting.studies.results import Claim, Statement, Study, corpora
from fitting.studies.scaling import convergence, figures, universality
from fitting.studies.scaling.least_compute import LeastCompute, least_compute
from fitting.studies.scaling.once import once
from fitting.tables import loss_points
from fitting.tables.loss_points import METRIC, TASK, LossPoints
from fitting.tables.runs_table import Table

KAPLAN, HOFFMANN = "Kaplan et al. 2020", "Hoffmann et al. 2022"
N = "n_non_embedding"  # Kaplan's count
LEAST_SETS = 3  # data sets of one size, for a law of D alone
RESAMPLES = 200
BUDGETS = 4  # shown of what to train
LIMITS = (
    "No size is trained near convergence: L(N) is the limit of the fitted L(N, D) at unlimited data, not measured.",
    "Losses are bits per byte, or of your tokenizer; only exponents compare with the published ones, not N_c and D_c.",
    "The published laws have no irreducible loss. Over less than two decades of N an exponent absorbs part of it, and"
    " changes with the range of the runs.",
    "C_min takes B_crit(L) of a sweep of one size at a constant rate for all sizes, and for runs whose rate decayed.",
)


@dataclass(frozen=True)
class Laws:
    """What can be fitted of the runs; a function raises InputError where its runs are missing.

    limited: L(N, D) of all runs. of_data: L(D) of the size with the most data sets. fresh: E + A/N^alpha + B/D^beta of
    the fresh runs. frontiers: N_opt(C) by the approaches of Hoffmann et al. 2022. least, of_least: the fresh runs at
    their C_min, and N_opt(C_min) by their law.
    """

    limited: Callable[[], LossFit]
    of_data: Callable[[], LossFit]
    fresh: Callable[[], LossFit]
    frontiers: tuple[Callable[[], Frontier], ...]
    least: Callable[[], LeastCompute]
    of_least: Callable[[], Frontier]


def analyse(table: Table, batch: Callable[[], CriticalBatch] | None = None) -> Study:
    """batch: gives B_crit(L) on the same text, for C_min. Raises InputError where no run is finished."""
    need(table, N)
    points = early_stopped(table)
    fitted = laws(table, points, batch)
    try:
        least, least_notes = (fitted.least().grid(),), fitted.least().notes
    except InputError:
        least, least_notes = (), ()  # their statements say what is missing
    repeated, of_curves = _repeated(table), universality.parts(table, batch)
    return Study(
        title="Size, data and compute: how the loss depends on N, D and C, and what to train with a budget",
        lead=(
            f"{len(points)} runs of {len(np.unique(points.features['N']))} sizes,"
            f" {points.features['N'].min():,.0f} to {points.features['N'].max():,.0f} parameters without embeddings;"
            f" {len(repeated)} of them repeat a small data set."
        ),
        statements=(
            *(claim.tried(compare) for claim, compare in _comparisons(fitted)),
            convergence.statement(fitted.fresh, fitted.frontiers[2]),
            *of_curves[0],
        ),
        tables=(figures.early_stops(repeated), *least, *_by_budget(fitted), *of_curves[1]),
        figures=figures.figures(table, fitted),
        limits=LIMITS,
        notes=(*points.flags, *least_notes),
    )


def _by_budget(laws: Laws) -> tuple[Grid, ...]:
    """What to train with the budgets of the runs, by their law; nothing where it has no optimum."""
    try:
        frontier, c_n = laws.frontiers[2](), laws.fresh().points.features["C"]
        return convergence.grids(laws.fresh(), frontier, np.geomspace(c_n.min(), c_n.max(), BUDGETS))
    except InputError:
        return ()  # the statements say why


def early_stopped(table: Table) -> LossPoints:
    """A point for every decayed run: N, the D that limits it, and its lowest loss if it repeats its data."""
    rows = ends(table)
    unique = rows["unique_tokens"] if "unique_tokens" in rows else np.full(len(rows), np.nan)
    lowest = {run: loss for run, _, loss, _ in _repeated(table)}
    y = np.array([lowest.get(run, value) for run, value in zip(rows["run"], rows["value"], strict=True)])
    parents = rows["parent"] if "parent" in rows else np.full(len(rows), "")
    shared = np.array([parent or run for parent, run in zip(parents, rows["run"], strict=True)], str)
    features = {"N": rows[N], "D": np.fmin(rows["tokens"], unique)}
    return LossPoints(features, y, shared, table.source, table.sha256, f"{METRIC} of {TASK}", N)


def _repeated(table: Table) -> list[tuple[str, dict, float, float]]:
    """(run, its last row, lowest loss, step of it) of every finished run that repeats its data."""
    rows = ends(table)
    if "unique_tokens" not in rows:
        return []
    rows, found = rows.select(np.isfinite(rows["unique_tokens"])), []
    curves = table.select(task=TASK, metric=METRIC, run=rows.unique("run"))
    of_run = groups(curves, "run")
    for i, run in enumerate(rows["run"]):
        curve = of_run[run,]
        lowest = curve[np.argmin(curves["value"][curve])]
        last = {name: rows[name][i] for name in (N, "unique_tokens", "tokens", "step", "value")}
        found.append((run, last, float(curves["value"][lowest]), float(curves["step"][lowest])))
    return found


def laws(table: Table, points: LossPoints, batch: Callable[[], CriticalBatch] | None = None) -> Laws:
    """points: `early_stopped` of the table. Nothing is fitted before it is asked for, and nothing twice."""
    is_fresh = ~np.isfinite(table["unique_tokens"]) if "unique_tokens" in table else np.ones(len(table), bool)
    fresh_rows = table.select(is_fresh)

    def fresh_points(**how) -> LossPoints:
        return loss_points.of_runs(fresh_rows, **how)

    limited = once(lambda: loss_fit.fit(points, "kaplan-nd", n_resamples=RESAMPLES))
    fresh = once(lambda: loss_fit.fit(fresh_points(), "chinchilla", n_resamples=RESAMPLES))
    least = once(lambda: least_compute(fresh_points(), batch and batch(), corpora(table), RESAMPLES))
    return Laws(
        limited=limited,
        of_data=once(lambda: loss_fit.fit(_of_one_size(points), "kaplan-d", n_resamples=RESAMPLES)),
        fresh=fresh,
        frontiers=(
            once(lambda: envelope.envelope(fresh_points(curves=True), RESAMPLES, 0)),
            once(lambda: isoflop.isoflop(fresh_points(), RESAMPLES, 0)),
            once(lambda: allocation.of_law(fresh())),
        ),
        least=least,
        of_least=once(lambda: least().frontier()),
    )


def _of_one_size(points: LossPoints) -> LossPoints:
    """The points of the largest size that has LEAST_SETS different D."""
    n, d = points.features["N"], points.features["D"]
    enough = [size for size in np.unique(n) if len(np.unique(d[n == size])) >= LEAST_SETS]
    if not enough:
        raise InputError(f"{points.source}: no size is finished on {LEAST_SETS} data sets")
    return points.select(n == max(enough), "of other sizes")


def _comparisons(laws: Laws) -> list[tuple[Claim, Callable[[Claim], Statement]]]:
    """Each published statement with the function that compares it."""
    by_envelope, by_parabolas, parametric = laws.frontiers
    table = [
        ("L falls with N, data unlimited, as N^-alpha_N", f"{KAPLAN}, table 2", 0.076, alpha(laws.limited, "alpha_N")),
        ("L falls with D, size unlimited, as D^-alpha_D", f"{KAPLAN}, table 2", 0.103, alpha(laws.limited, "alpha_D")),
        ("D must grow with N as N^(alpha_N/alpha_D), or a run overfits", f"{KAPLAN}, 4.4", 0.74, ratio(laws.limited)),
        ("L of one size on nested data sets, stopped early, falls as D^-alpha_D", f"{KAPLAN}, 1.2", 0.095,
         alpha(laws.of_data, "alpha_D")),
        ("L of the best size for its compute falls as C^-alpha_C", f"{KAPLAN}, 3.3", 0.057, _of_compute(laws)),
        ("L of the best size for its least compute falls as C_min^-alpha_C", f"{KAPLAN}, 1.3", 0.050,
         _of_least(laws, _loss_exponent(laws.least))),
        ("The best size grows with the least compute as C_min^0.73", f"{KAPLAN}, table 6", 0.73,
         _of_least(laws, lambda frontier: frontier.a_R)),
        ("The best size grows with compute: approach 1", HOFFMANN, 0.50, _exponent(by_envelope)),
        ("The best size grows with compute: approach 2", HOFFMANN, 0.49, _exponent(by_parabolas)),
        ("The best size grows with compute: approach 3", HOFFMANN, 0.46, _exponent(parametric)),
    ]  # fmt: skip
    return [(Claim(says, source, f"{value:g}"), partial(_compared, value, ours)) for says, source, value, ours in table]


def _compared(published: float, ours: Callable, claim: Claim) -> Statement:
    """ours() -> (value, 95 % interval)."""
    return claim.equals(published, *ours())


def alpha(law: Callable[[], LossFit], name: str) -> Callable:
    """-> function() -> (an exponent of the law, its 95 % interval)."""

    def ours():
        fitted = law()
        return fitted.bootstrap.params(0)[name], intervals.wald(fitted.bootstrap, 0, fitted.units, fitted.delta)[name]

    return ours


def ratio(law: Callable[[], LossFit]) -> Callable:
    """`alpha`, of alpha_N / alpha_D."""

    def ours():
        fitted = law()
        natural = fitted.natural()
        ratio_R = natural["alpha_N"] / natural["alpha_D"]
        return ratio_R[0], intervals.student(fitted.bootstrap, 0, fitted.units, fitted.delta)(ratio_R, False)

    return ours


def _of_compute(laws: Laws) -> Callable:
    def ours():
        frontier = laws.frontiers[2]()
        slope_R = falls_as(frontier, laws.fresh().points.features["C"])
        return slope_R[0], frontier.interval(slope_R, False)

    return ours


def falls_as(frontier: Frontier, c_n: np.ndarray) -> np.ndarray:
    """[1 + R]: minus the slope of ln L against ln C along a frontier, over the range of the runs' compute."""
    loss_R2 = frontier.loss_of(np.array([c_n.min(), c_n.max()]))
    return -np.log(loss_R2[:, 1] / loss_R2[:, 0]) / np.log(c_n.max() / c_n.min())


def _of_least(laws: Laws, quantity: Callable[[Frontier], np.ndarray]) -> Callable:
    return lambda: laws.least().of(laws.of_least(), quantity)


def _loss_exponent(least: Callable[[], LeastCompute]) -> Callable[[Frontier], np.ndarray]:
    return lambda frontier: falls_as(frontier, least().at_least().features["C"])


def _exponent(frontier: Callable[[], Frontier]) -> Callable:
    def ours():
        found = frontier()
        return found.a_R[0], found.interval(found.a_R, False)

    return ours


def overfitting_of(fitted: LossFit) -> np.ndarray:
    """[n]: how far each point lies above the law's loss at unlimited data, as a share (Kaplan et al. 2020, 4.2)."""
    params = fitted.bootstrap.params(0)
    return fitted.points.y_n / (params["N_c"] / fitted.points.features["N"]) ** params["alpha_N"] - 1


def enough_tokens(fitted: LossFit, n: float) -> float:
    """Tokens above which a size loses less than 2 % by overfitting (4.4), with the constants of these runs."""
    return float(kaplan_relations.enough_tokens(n, nd=fitted.bootstrap.params(0)))
