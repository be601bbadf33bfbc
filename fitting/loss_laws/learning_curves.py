"""Predict the end of a learning curve from its first part and the whole curves of smaller sizes, and test doing so.

The law is that of laws/annealing.py. It is fitted to the smaller sizes' curves and to the known part of the curve
itself; what the last of that part lies above or below the law is carried to the end.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.laws import annealing
from fitting.laws.base import Law
from fitting.laws.catalogue import ANNEALING
from fitting.loss_laws import loss_fit
from fitting.tables.points import END_SHARE
from fitting.tables.runs_table import Table

# Memory of the annealing, for each step: the one that fits the known part best is kept (the paper's are 0.99 to 0.999).
DECAYS = (0.9, 0.97, 0.99, 0.997, 0.999)
# A curve is averaged into so many spans of equal length in ln step, so that its noisy points do not outweigh its shape.
SPANS = 40
# Rows of this first share of a run, and of its warm-up, do not follow a power law yet.
SKIP = 0.02
# The share of the known spans by which the law is moved to the curve.
ANCHOR = 0.25
# A decay is known where it has gone this share of the way of the one to predict (in S2).
SEEN = 0.1
# Fewest known spans of the curve itself.
MIN_OWN = 5
HUBER = 1e-2
N_STARTS = 12
LEVEL = 0.8
# Fewest errors on other runs from which an interval is made.
MIN_ERRORS = 3


@dataclass(frozen=True)
class Curve:
    """A run's values of one metric, averaged over spans of steps.

    step_k, last_k, y_k: mean step, last step and mean value of each span. rate_s: the rate of every step to the end of
    the schedule, as a share of the peak. end: the mean value of the last 3 % of the steps; None while it is not done.
    start: the step at which it branched from the run whose name ends in `parent`.
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
        """Of the law, after steps [k]."""
        s1_s, s2_s = annealing.areas(self.rate_s, decay)
        at = np.clip(np.round(step_k).astype(int), 1, len(self.rate_s)) - 1
        return {"N": np.full(len(at), self.n_params), "S1": s1_s[at] * self.batch_tokens, "S2": s2_s[at]}

    def at_end(self, decay: float) -> dict:
        return self.features(np.array([len(self.rate_s)]), decay)


@dataclass(frozen=True)
class End:
    """The predicted end of a curve: y, with an 80 % interval; or why there is none.

    known: share of its steps that was used; sizes: how many smaller ones; last: its last known value, which is what
    one predicts without a law; decay: of DECAYS.
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
        """Predicted over measured, less 1."""
        return None if self.y is None or self.curve.end is None else self.y / self.curve.end - 1

    @property
    def error_of_last(self) -> float | None:
        return None if self.curve.end is None or self.last is None else self.last / self.curve.end - 1

    def json(self) -> dict:
        of = {"run": self.curve.run, "n_params": self.curve.n_params, "steps": len(self.curve.rate_s)}
        of |= {"known": self.known, "smaller_sizes": self.sizes, "last": self.last, "predicted": self.y}
        return of | {"pi80": self.interval, "measured": self.curve.end, "lambda": self.decay, "why": self.why}


def read(table: Table, task: str, metric: str, n_convention: str = "n_params") -> list[Curve]:
    """The curves of a runs table, small sizes first. Raises InputError where its columns do not tell the schedules."""
    rows = table.select(task=task, metric=metric)
    if not len(rows):
        raise InputError(f"{table.source}: no rows of task {task!r} with metric {metric!r}")
    curves = [_curve(rows.select(run=run), str(run), n_convention) for run in rows.unique("run")]
    return sorted((c for c in curves if c is not None), key=lambda c: (c.n_params, len(c.rate_s), c.run))


def _curve(rows: Table, run: str, n_convention: str) -> Curve | None:
    """One run's curve; None where nothing was measured after its warm-up."""
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
    more = {name: rows[name][0] if name in rows else "" for name in ("kind", "parent")}
    start = rows["parent_step"][0] if more["parent"] else 0.0
    return Curve(
        run,
        float(rows[n_convention][0]),
        batch,
        *_spans(step_n[keep_n], y_n[keep_n]),
        annealing.rates(rows["schedule"][0], int(steps), int(warmup), int(decay), final),
        float(np.mean(y_n[step_n > (1 - END_SHARE) * steps])) if step_n[-1] == steps else None,
        start=float(start),
        **more,
    )


def _spans(step_n: np.ndarray, y_n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean step, last step, mean value) of each span that has rows."""
    edges = np.geomspace(step_n[0], step_n[-1] + 1, SPANS + 1)
    _, first, span_n, count_k = np.unique(
        np.searchsorted(edges, step_n, side="right"), return_index=True, return_inverse=True, return_counts=True
    )
    return np.bincount(span_n, step_n) / count_k, step_n[first + count_k - 1], np.bincount(span_n, y_n) / count_k


def ends(curves: list[Curve], first: float) -> list[End]:
    """The end of every curve but the trunks', as predicted when the `first` of its steps are done.

    Known are then: that part of it and of its trunk, and the whole curves of smaller sizes. Intervals come from the
    errors on the other runs whose end is measured. Raises InputError.
    """
    if not 0 < first < 1:
        raise InputError(f"--first {first:g}: a share of the steps, between 0 and 1")
    asked = [_asked(curves, curve, first) for curve in curves if curve.kind != "trunk"]
    if not asked:
        raise InputError("no curve to predict: there are only trunks, or only warm-ups")
    alone, with_others = ANNEALING
    found = _predicted(alone, curves, [a for a in asked if not a.end.sizes])
    found += _predicted(with_others, curves, [a for a in asked if a.end.sizes])
    return [replace(end, interval=_interval(end, found)) for end in found]


@dataclass(frozen=True)
class _Asked:
    """An end to predict: which spans (of all curves, one after the other) it may know, and its own latest."""

    end: End
    known_n: np.ndarray
    latest: np.ndarray


def _asked(curves: list[Curve], curve: Curve, first: float) -> _Asked:
    of_n = np.repeat(np.arange(len(curves)), [len(c.y_k) for c in curves])
    last_n, y_n = (np.concatenate([getattr(c, name) for c in curves]) for name in ("last_k", "y_k"))
    smaller = np.array([c.n_params < 0.99 * curve.n_params for c in curves])
    is_own = np.array([c is curve for c in curves])
    is_trunk = np.array([bool(curve.parent) and c.run.endswith(curve.parent) for c in curves])
    cut = first * len(curve.rate_s)
    own_n = is_own[of_n] & (last_n <= cut) | is_trunk[of_n] & (last_n <= min(cut, curve.start))
    known_n = own_n | smaller[of_n]
    own = np.flatnonzero(own_n)
    own = own[np.argsort(last_n[own])]
    end = End(curve, 0.0, len({c.n_params for c in curves if c.n_params < 0.99 * curve.n_params}))
    if len(own) < MIN_OWN:
        return _Asked(replace(end, why="too little of it is known"), known_n, own)
    end = replace(end, known=float(last_n[own[-1]] / len(curve.rate_s)), last=float(y_n[own[-1]]))
    if np.max(_features(curves, DECAYS[0])["S2"][known_n]) < SEEN * curve.at_end(DECAYS[0])["S2"][0]:
        end = replace(end, why="no decay is known that tells what its own will bring")
    return _Asked(end, known_n, own[-max(1, round(ANCHOR * len(own))) :])


def _features(curves: list[Curve], decay: float) -> dict:
    of = [c.features(c.step_k, decay) for c in curves]
    return {name: np.concatenate([f[name] for f in of]) for name in of[0]}


def _predicted(law: Law, curves: list[Curve], asked: list[_Asked]) -> list[End]:
    """Ends by one law, fitted for each with the spans that it may know; at every memory, of which the best is kept."""
    told = [a for a in asked if not a.end.why]
    found = [a.end for a in asked if a.end.why]
    if not told:
        return found
    tries = [(a, decay) for a in told for decay in DECAYS]
    of_decay = {decay: _features(curves, decay) for decay in DECAYS}
    x = {name: np.stack([of_decay[decay][name] for _, decay in tries]) for name in law.features}
    y_n = np.concatenate([c.y_k for c in curves])
    fitted = bootstrap.fit(
        law,
        x,
        np.tile(y_n, (len(tries), 1)),
        delta=HUBER,
        weights_Tn=np.stack([1.0 * a.known_n for a, _ in tries]),
        n_resamples=1,
        method="residuals",
        n_starts=N_STARTS,
        resample_starts=0,
        iterations=loss_fit.ITERATIONS,
        solver=loss_fit.SOLVER,
    )
    off_Tn = np.log(y_n / fitted.predict(x)[:, 0])
    ends = [a.end.curve.at_end(decay) for a, decay in tries]
    end_T = fitted.predict({name: np.stack([e[name] for e in ends]) for name in law.features})[:, 0, 0]
    for first in range(0, len(tries), len(DECAYS)):
        best = first + np.argmin(fitted.objective_T[first : first + len(DECAYS)])
        asking, decay = tries[best]
        carried = np.mean(off_Tn[best, asking.latest])
        found.append(replace(asking.end, y=float(end_T[best] * np.exp(carried)), decay=decay))
    return found


def score(found: list[End]) -> dict:
    """Root mean square errors over the n runs that are done and have smaller sizes to learn from."""
    errors = [(e.error, e.error_of_last) for e in found if e.sizes and e.error is not None]
    rms = np.sqrt(np.mean(np.square(errors), axis=0)) if errors else (None, None)
    return {"n": len(errors), "error": rms[0], "error_of_last": rms[1]}


def _interval(end: End, found: list[End]) -> tuple[float, float] | None:
    """80 % around y by the errors on other runs, Student's t on as many degrees of freedom; None of too few.

    Runs with smaller sizes to learn from, and runs without, are different cases.
    """
    others = [e for e in found if e is not end and bool(e.sizes) == bool(end.sizes)]
    errors = [e.error for e in others if e.error is not None]
    if end.y is None or len(errors) < MIN_ERRORS:
        return None
    off = stats.t.ppf((1 + LEVEL) / 2, len(errors)) * np.sqrt(np.mean(np.square(errors)))
    return float(end.y / (1 + off)), float(end.y * (1 + off))
