"""Universality of training: the learning curves of all sizes follow one law, so that a part of them tells the rest.

Kaplan et al. 2020, sections 3 and 5: L(N, S_min) of the curves at a constant rate after the warm-up, with S_min = S /
(1 + B_crit(L) / B) (5.4, 5.6); the ends of runs forecast from their first part; and tokens to reach a loss against N
(figure 2).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.loss_laws import learning_curves, loss_fit
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.studies import regression
from fitting.studies.critical_batch import CriticalBatch
from fitting.studies.regression import Line
from fitting.studies.results import Claim, Statement
from fitting.studies.scaling.once import once
from fitting.tables.loss_points import METRIC, TASK, LossPoints
from fitting.tables.runs_table import Table

KAPLAN, N = "Kaplan et al. 2020", "n_non_embedding"
FIRST = 0.5  # of a run, from which its end is forecast
MOST_PERCENT = 2.0  # of the loss, that we take for "roughly predicted"
LEAST_SIZES, LEAST_ROWS = 4, 5
N_LOSSES = 6
ENDS = Claim(
    f"The first half of a run and the curves of smaller ones tell its end to within {MOST_PERCENT:g} %",
    f"{KAPLAN}, section 1.1",
    "roughly predicted",
    "{:.2f} %",
)
SAMPLES = Claim(
    "Larger models reach a loss with fewer tokens: tokens grow with N as N^p, p below 0",
    f"{KAPLAN}, figure 2",
    "p below 0",
    "{:.2f}",
)
OF_N, OF_S = (
    Claim(f"L(N, S_min): {text}", f"{KAPLAN}, table 3", f"{value:g}")
    for text, value in (
        ("the part of the size falls as N^-alpha_N", 0.077),
        ("the part of the steps falls as S_min^-alpha_S", 0.76),
    )
)


@dataclass(frozen=True)
class Curves:
    """Learning curves at a constant rate after the warm-up; an element of each array is one evaluation of one run.

    n: parameters without embeddings. batch: B_crit(L); None if it is not known.
    """

    n: np.ndarray
    tokens: np.ndarray
    steps: np.ndarray
    batch_tokens: np.ndarray
    loss: np.ndarray
    batch: CriticalBatch | None

    @property
    def least_tokens(self) -> np.ndarray:
        """D_min: the tokens that training to the same loss would take at a batch far below B_crit. It is D if B_crit is
        not known."""
        if self.batch is None:
            return self.tokens
        return self.tokens * self.batch.share_of_least(self.loss, self.batch_tokens)

    @property
    def fewest_steps(self) -> np.ndarray:
        """S_min: the steps that training to the same loss would take at a batch far above B_crit (Kaplan et al. 2020,
        equation 5.4). Raises InputError if B_crit is not known."""
        if self.batch is None:
            raise InputError("S_min needs the critical batch size of these runs' text: run ladder study batch")
        return self.steps / (1 + self.batch.at(self.loss) / self.batch_tokens)


def curves(table: Table, batch: CriticalBatch | None) -> Curves:
    """The learning curves of trunks that do not repeat their data. Raises InputError if fewer than LEAST_SIZES sizes
    have one."""
    rows = table.select(task=TASK, metric=METRIC, split="train")
    if "kind" not in rows or "batch_tokens" not in rows:
        raise InputError(f"{table.source}: no columns kind and batch_tokens, which learning curves need")
    warmup = rows["warmup_steps"] if "warmup_steps" in rows else np.zeros(len(rows))
    rows = rows.select((rows["kind"] == "trunk") & (rows["step"] > np.nan_to_num(warmup)))
    if "unique_tokens" in rows:
        rows = rows.select(~np.isfinite(rows["unique_tokens"]))
    sizes = [n for n in np.unique(rows[N]) if np.sum(rows[N] == n) >= LEAST_ROWS]
    if len(sizes) < LEAST_SIZES:
        raise InputError(f"learning curves at a constant rate of {len(sizes)} sizes; it takes {LEAST_SIZES}")
    rows = rows.select(np.isin(rows[N], sizes))
    named = ("tokens", "step", "batch_tokens", "value")
    return Curves(rows[N], *(rows[name] for name in named), batch)


@dataclass(frozen=True)
class CurveLaw:
    """L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S. params, ends: {name: value, 95 % interval}. misfit: sd of ln L around
    it. The interval leaves out one size at a time: the points of a curve are not independent."""

    params: dict[str, float]
    ends: dict[str, tuple[float, float]]
    misfit: float

    def of(self, name: str) -> tuple[float, tuple[float, float]]:
        return self.params[name], self.ends[name]


def law(found: Curves) -> CurveLaw:
    """Fit L(N, S_min) to all curves at once. Raises InputError if B_crit is not known."""
    features = {"N": found.n, "S_min": found.fewest_steps}
    sizes, labels = np.unique(found.n), found.n.astype(str)
    points = LossPoints(features, found.loss, labels, "these runs", "", f"{METRIC} of {TASK}", N)

    keep_Rn = (found.n != sizes[:, None]).astype(int)
    fitted = loss_fit.fit(points, "kaplan-ns", resamples_Rn=keep_Rn)
    params, names = fitted.bootstrap.params(0), ("alpha_N", "alpha_S")
    left_out = np.transpose([fitted.bootstrap.resampled(0)[name] for name in names])
    half = regression.student(len(sizes) - 2) * np.sqrt(np.sum(regression.jackknife(left_out) ** 2, axis=0))
    ends = {name: (params[name] - h, params[name] + h) for name, h in zip(names, half.tolist(), strict=True)}
    misfit = float(np.std(np.log(found.loss / fitted.values(features)[0])))
    return CurveLaw(params, ends, misfit)


def forecasts(table: Table) -> list[learning_curves.End]:
    """Forecasts of the ends of decayed runs, from the first half of their steps and the curves of smaller sizes."""
    fresh = table
    if "unique_tokens" in table:
        fresh = table.select(~np.isfinite(table["unique_tokens"]))
    found = learning_curves.ends(learning_curves.read(fresh, TASK, METRIC), FIRST)
    found = [end for end in found if end.sizes and end.error is not None]
    if len(found) < LEAST_SIZES:
        raise InputError(f"{len(found)} ends of runs could be forecast from their first half; it takes {LEAST_SIZES}")
    return found


def error_percent(found: list[learning_curves.End]) -> tuple[float, tuple[float, float]]:
    """(root mean square error of the forecasts in percent, its 95 % interval if the errors are independent)."""
    error = float(100 * np.sqrt(np.mean([end.error**2 for end in found])))
    return error, regression.spread(error, len(found))


def tokens_to(found: Curves, loss: float) -> dict[float, float]:
    """{N: least tokens after which the curve of this size first reaches the loss}.

    A size is left out if its curve never reaches the loss, or has it at the first evaluation already.
    """
    reached = {}
    for n in np.unique(found.n):
        i = np.flatnonzero(found.n == n)
        i = i[np.argsort(found.tokens[i])]
        lowest, tokens = np.minimum.accumulate(found.loss[i]), found.least_tokens[i]
        below = np.flatnonzero(lowest <= loss)
        if below.size and below[0] > 0:
            pair = [below[0], below[0] - 1]
            reached[float(n)] = float(np.exp(np.interp(loss, lowest[pair], np.log(tokens[pair]))))
    return reached


def losses(found: Curves) -> np.ndarray:
    """[N_LOSSES] losses, falling, that at least LEAST_SIZES sizes reach after their first evaluation."""
    first, last = [], []
    for n in np.unique(found.n):
        i = np.flatnonzero(found.n == n)
        first.append(found.loss[i[np.argmin(found.tokens[i])]])
        last.append(found.loss[i].min())
    high, low = np.sort(first)[-LEAST_SIZES] * 0.999, np.sort(last)[LEAST_SIZES - 1] * 1.001
    if high <= low:
        raise InputError(f"no loss that {LEAST_SIZES} sizes reach after their first evaluation")
    return np.geomspace(high, low, N_LOSSES)


def efficiency(found: Curves) -> Line:
    """ln tokens = q0 + q1 ln N at the lowest of `losses`."""
    reached = tokens_to(found, losses(found)[-1])
    n, tokens = np.array(list(reached)), np.array(list(reached.values()))
    return regression.line(np.column_stack([np.ones(len(n)), np.log(n)]), np.log(tokens))


def parts(table: Table, batch: Callable[[], CriticalBatch] | None) -> tuple[tuple[Statement, ...], tuple[Grid, ...]]:
    """(statements, tables). batch: gives B_crit(L), or raises InputError. A table that cannot be made is left out; its
    statement says why."""
    known = once(lambda: law(curves(table, batch and batch())))
    found = once(lambda: curves(table, _or_none(batch)))
    of_ends = once(lambda: forecasts(table))
    statements = (
        OF_N.tried(lambda claim: claim.equals(0.077, *known().of("alpha_N"))),
        OF_S.tried(lambda claim: claim.equals(0.76, *known().of("alpha_S"))),
        ENDS.tried(lambda claim: claim.at_most(MOST_PERCENT, *error_percent(of_ends()))),
        SAMPLES.tried(lambda claim: claim.at_most(0.0, *efficiency(found()).of(np.array([0.0, 1.0])))),
    )
    grids = []
    for make in (lambda: _tokens_grid(found()), lambda: _ends_grid(of_ends())):
        with suppress(InputError):
            grids.append(make())
    return statements, tuple(grids)


def _or_none(batch: Callable[[], CriticalBatch] | None) -> CriticalBatch | None:
    try:
        return batch and batch()
    except InputError:
        return None


def _tokens_grid(found: Curves) -> Grid:
    sizes = np.unique(found.n)
    rows = []
    for loss in losses(found):
        reached = tokens_to(found, loss)
        rows.append([f"{loss:.4f}", *(si(reached[n]) if n in reached else "" for n in sizes)])
    least = "least tokens D_min, as at a batch far below B_crit" if found.batch else "tokens, at each size's own batch"
    return Grid(
        "Sample efficiency: tokens to reach a loss, by size",
        ["#loss", *(f"#N = {si(n)}" for n in sizes)],
        rows,
        [f"Learning curves at a constant rate after the warm-up; {least}."],
    )


def _ends_grid(found: list[learning_curves.End]) -> Grid:
    rows = []
    for end in found:
        values = [f"{value:.4f}" for value in (end.last, end.y, end.curve.end)]
        errors = [f"{100 * error:+.2f}" for error in (end.error, end.error_of_last)]
        rows.append([end.curve.run.rpartition("-")[0] or end.curve.run, f"{end.known:.0%}", *values, *errors])
    head = ["run", "#known", "#last known loss", "#forecast", "#measured", "#error, %", "#error of the last known, %"]
    return Grid("Ends of runs, forecast from the first half of their steps", head, rows)
