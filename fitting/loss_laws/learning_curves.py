"""Predict the end of a learning curve from its first part and the whole curves of smaller sizes, and test this.

The law (laws/annealing.py) is fitted to the curves of smaller sizes and to the known part of the curve itself. Its
prediction of the end is corrected by its mean error (in ln y) over the last known spans.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.laws import annealing
from fitting.laws.base import Law
from fitting.laws.catalogue import ANNEALING
from fitting.loss_laws import loss_fit
from fitting.tables.points import END_SHARE
from fitting.tables.runs_table import Table

# Values tried for the annealing's lambda; the one that fits best is used (the paper's are 0.99 to 0.999).
DECAYS = (0.9, 0.97, 0.99, 0.997, 0.999)
# A curve is averaged over this many spans of equal length in ln step, so that its late rows do not outweigh the others.
SPANS = 40
# The first share of a run, and its warm-up, are left out: they do not follow a power law yet.
SKIP = 0.02
# The law's error is averaged over this share of the known spans, the last ones.
ANCHOR = 0.25
# The largest S2 in the known data must be at least this share of S2 at the end to predict.
MIN_DECAY_SEEN = 0.1
MIN_SPANS = 5  # known spans of the curve itself
HUBER = 1e-2
N_STARTS = 12
LEVEL = 0.8
MIN_ERRORS = 3  # on other runs, for an interval


@dataclass(frozen=True)
class Curve:
    """A run's values of one metric, averaged over spans of steps.

    step_k, last_k, y_k: mean step, last step and mean value of each span. rate_s: learning rate of every step to the
    end of the schedule, as a share of the peak. end: mean value over the last 3 % of the steps; None while the run is
    not done. parent: run of the trunk that it branched from at step `start`, or the hash at the end of that run's name.
    """

    run: str
    n_params: float
    batch_tokens: float
    step_k: np.ndarray
    last_k: np.ndarray
    y_k: np.ndarray
    rate_s: np.ndarray
    end: float | None
    kind: str
    parent: str
    start: float

    def features(self, step_k: np.ndarray, decay: float) -> dict:
        """Features of the law after steps [k]."""
        s1_s, s2_s = annealing.areas(self.rate_s, decay)
        index_k = np.clip(np.round(step_k).astype(int), 1, len(self.rate_s)) - 1
        return {"N": np.full(len(index_k), self.n_params), "S1": s1_s[index_k] * self.batch_tokens, "S2": s2_s[index_k]}

    def at_end(self, decay: float) -> dict:
        return self.features(np.array([len(self.rate_s)]), decay)

    def is_trunk_of(self, branch: "Curve") -> bool:
        return bool(branch.parent) and branch.parent in (self.run, self.run.rpartition("-")[2])


@dataclass(frozen=True)
class End:
    """The predicted end of a curve: y, with an 80 % interval; or why there is none.

    known: share of its steps that was used. sizes: number of smaller sizes. last: its last known value, the prediction
    without a law. decay: lambda, one of DECAYS.
    """

    curve: Curve
    known: float
    sizes: int
    last: float | None = None
    why: str = ""
    y: float | None = None
    decay: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def error(self) -> float | None:
        """Predicted over measured, minus 1."""
        return self._relative_error(self.y)

    @property
    def error_of_last(self) -> float | None:
        return self._relative_error(self.last)

    def _relative_error(self, predicted: float | None) -> float | None:
        return None if predicted is None or self.curve.end is None else predicted / self.curve.end - 1

    def json(self) -> dict:
        about = {"run": self.curve.run, "n_params": self.curve.n_params, "steps": len(self.curve.rate_s)}
        about |= {"known": self.known, "smaller_sizes": self.sizes, "last": self.last, "predicted": self.y}
        return about | {"pi80": self.interval, "measured": self.curve.end, "lambda": self.decay, "why": self.why}


def read(table: Table, task: str, metric: str, n_convention: str = "n_params") -> list[Curve]:
    """The curves of a runs table, small sizes first. Raises InputError where a column of the schedule is missing."""
    rows = table.select(task=task, metric=metric)
    if not len(rows):
        raise InputError(f"{table.source}: no rows of task {task!r} with metric {metric!r}")
    curves = [_curve(rows.select(run=run), str(run), n_convention) for run in rows.unique("run")]
    return sorted((c for c in curves if c is not None), key=lambda c: (c.n_params, len(c.rate_s), c.run))


def _curve(rows: Table, run: str, n_convention: str) -> Curve | None:
    """The curve of one run; None where the run has no row after its warm-up."""
    names = ("steps", "warmup_steps", "decay_steps", "lr_final_fraction", "batch_tokens")
    steps, warmup, decay, final, batch = (float(rows[name][0]) for name in names)
    if not np.isfinite(steps + warmup + decay + final + batch):
        raise InputError(f"{rows.source}: run {run!r}: {', '.join(names)} must be given")
    order = np.argsort(rows["step"])
    step_n, y_n = rows["step"][order], rows["value"][order]
    if step_n[-1] > steps or y_n.min() <= 0:
        raise InputError(f"{rows.source}: run {run!r}: values must be positive, and no step beyond its {steps:g} steps")
    keep_n = step_n > max(warmup, SKIP * steps)
    if not keep_n.any():
        return None
    kind, parent = (rows[name][0] if name in rows else "" for name in ("kind", "parent"))
    start = float(rows["parent_step"][0]) if parent else 0.0
    spans = _spans(step_n[keep_n], y_n[keep_n])
    rate_s = annealing.rates(rows["schedule"][0], int(steps), int(warmup), int(decay), final)
    end = float(np.mean(y_n[step_n > (1 - END_SHARE) * steps])) if step_n[-1] == steps else None
    return Curve(run, float(rows[n_convention][0]), batch, *spans, rate_s, end, kind, parent, start)


def _spans(step_n: np.ndarray, y_n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean step, last step, mean value) of each span that has rows."""
    edges = np.geomspace(step_n[0], step_n[-1] + 1, SPANS + 1)
    _, first, span_n, count_k = np.unique(
        np.searchsorted(edges, step_n, side="right"), return_index=True, return_inverse=True, return_counts=True
    )
    return np.bincount(span_n, step_n) / count_k, step_n[first + count_k - 1], np.bincount(span_n, y_n) / count_k


def ends(curves: list[Curve], first: float) -> list[End]:
    """Predict the end of every curve, except those of trunks, from the share `first` of its steps.

    Data are that part of the curve and of its trunk, and the whole curves of smaller sizes. Intervals come from the
    errors on the other runs whose end is measured. Raises InputError where there is nothing to predict.
    """
    if not 0 < first < 1:
        raise InputError(f"first = {first:g}: a share of the steps, between 0 and 1", "first")
    problems = [_problem(curves, curve, first) for curve in curves if curve.kind != "trunk"]
    if not problems:
        raise InputError("no curve to predict: there are only trunks, or only warm-ups")
    alone, with_sizes = ANNEALING
    predicted = _predicted(alone, curves, [p for p in problems if not p.end.sizes])
    predicted += _predicted(with_sizes, curves, [p for p in problems if p.end.sizes])
    return [replace(end, interval=_interval(end, predicted)) for end in predicted]


@dataclass(frozen=True)
class _Problem:
    """An end to predict. Of the spans of all curves, concatenated: known_n, which are known; last_own, indices of the
    last known ones of the curve itself."""

    end: End
    known_n: np.ndarray
    last_own: np.ndarray


def _problem(curves: list[Curve], curve: Curve, first: float) -> _Problem:
    curve_n = np.repeat(np.arange(len(curves)), [len(c.y_k) for c in curves])
    last_n, y_n = (np.concatenate([getattr(c, name) for c in curves]) for name in ("last_k", "y_k"))
    is_smaller = np.array([c.n_params < 0.99 * curve.n_params for c in curves])
    is_own = np.array([c is curve for c in curves])
    is_trunk = np.array([c.is_trunk_of(curve) for c in curves])
    cut = first * len(curve.rate_s)
    own_n = is_own[curve_n] & (last_n <= cut) | is_trunk[curve_n] & (last_n <= min(cut, curve.start))
    known_n = own_n | is_smaller[curve_n]
    own = np.flatnonzero(own_n)
    own = own[np.argsort(last_n[own])]
    end = End(curve, 0.0, len({c.n_params for c, smaller in zip(curves, is_smaller, strict=True) if smaller}))
    if len(own) < MIN_SPANS:
        return _Problem(replace(end, why="too little of it is known"), known_n, own)
    end = replace(end, known=float(last_n[own[-1]] / len(curve.rate_s)), last=float(y_n[own[-1]]))
    if np.max(_features(curves, DECAYS[0])["S2"][known_n]) < MIN_DECAY_SEEN * curve.at_end(DECAYS[0])["S2"][0]:
        end = replace(end, why="no known curve has decayed enough to tell what its own decay will do")
    return _Problem(end, known_n, own[-max(1, round(ANCHOR * len(own))) :])


def _features(curves: list[Curve], decay: float) -> dict:
    by_curve = [c.features(c.step_k, decay) for c in curves]
    return {name: np.concatenate([f[name] for f in by_curve]) for name in by_curve[0]}


def _predicted(law: Law, curves: list[Curve], problems: list[_Problem]) -> list[End]:
    """Ends by one law. It is fitted for each problem and each of DECAYS to the known spans; the best fit is used."""
    solvable = [p for p in problems if not p.end.why]
    predicted = [p.end for p in problems if p.end.why]
    if not solvable:
        return predicted
    tries = [(p, decay) for p in solvable for decay in DECAYS]
    by_decay = {decay: _features(curves, decay) for decay in DECAYS}
    x = {name: np.stack([by_decay[decay][name] for _, decay in tries]) for name in law.features}
    y_n = np.concatenate([c.y_k for c in curves])
    weights_Tn = np.stack([1.0 * p.known_n for p, _ in tries])
    solver = bootstrap.Solver(HUBER, loss_fit.SOLVER, loss_fit.ITERATIONS, starts=N_STARTS, resample_starts=0)
    resampling = bootstrap.Resampling(1, method="residuals")
    y_Tn = np.tile(y_n, (len(tries), 1))
    fitted = bootstrap.fit(law, x, y_Tn, weights_Tn=weights_Tn, solver=solver, resampling=resampling)
    error_Tn = np.log(y_n / fitted.predict(x)[:, 0])
    at_end = [p.end.curve.at_end(decay) for p, decay in tries]
    end_T = fitted.predict({name: np.stack([e[name] for e in at_end]) for name in law.features})[:, 0, 0]
    for first in range(0, len(tries), len(DECAYS)):
        best = first + np.argmin(fitted.objective_T[first : first + len(DECAYS)])
        problem, decay = tries[best]
        shift = np.mean(error_Tn[best, problem.last_own])
        predicted.append(replace(problem.end, y=float(end_T[best] * np.exp(shift)), decay=decay))
    return predicted


def score(ends: list[End]) -> dict:
    """Root mean square errors over the n runs that are done and have smaller sizes to learn from."""
    errors = [(e.error, e.error_of_last) for e in ends if e.sizes and e.error is not None]
    rms = np.sqrt(np.mean(np.square(errors), axis=0)) if errors else (None, None)
    return {"n": len(errors), "error": rms[0], "error_of_last": rms[1]}


def _interval(end: End, ends: list[End]) -> tuple[float, float] | None:
    """80 % interval around y from the root mean square of the n errors on other runs, by Student's t with n degrees of
    freedom; None where n is too small. Runs that have smaller sizes are compared with each other only, as are those
    without."""
    others = [e for e in ends if e is not end and bool(e.sizes) == bool(end.sizes)]
    errors = [e.error for e in others if e.error is not None]
    if end.y is None or len(errors) < MIN_ERRORS:
        return None
    half = special.stdtrit(len(errors), (1 + LEVEL) / 2) * np.sqrt(np.mean(np.square(errors)))
    return float(end.y / (1 + half)), float(end.y * (1 + half))
