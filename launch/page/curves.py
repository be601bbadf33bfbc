"""The learning curves of a ladder's runs, read from the segments of their metrics as these are published."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ladder.errors import InputError
from ladder.rundir import segments
from ladder.rundir.files import as_path
from launch.scheduler.status import Status

POINTS = 40_000  # of all curves of a page together
MOST, FEWEST = 240, 12  # points of one curve

Point = tuple[float, float]  # tokens, and a loss


@dataclass(frozen=True)
class Curve:
    """The curve of one run. train: training loss, in nats per token. validation: bpb. bpb_per_nat: the bpb of a loss of
    1 nat per token on the validation text; None where it was not measured. problem: what could not be read, and why."""

    train: list[Point] = field(default_factory=list)
    validation: list[Point] = field(default_factory=list)
    bpb_per_nat: float | None = None
    problem: str = ""


class Reader:
    """Reads curves again and again. A segment never changes, so an intact one is read once."""

    def __init__(self, folder):
        self._folder = as_path(str(folder))
        self._rows: dict[str, dict[str, list[dict]]] = {}  # {run: {segment: rows that a curve needs}}
        self._curves: dict[str, tuple[tuple, Curve]] = {}

    def read(self, runs: Iterable[Status]) -> dict[str, Curve]:
        """{run_id: its Curve} of the runs that have saved. A damaged segment ends its run's curve, and no other's."""
        begun = [
            run for run in runs if run.size and (run.durable is not None or run.state not in ("pending", "queued"))
        ]
        return {run.run_id: self._of_run(run) for run in begun}

    def _of_run(self, run: Status) -> Curve:
        key = run.state, run.durable
        if run.run_id not in self._curves or self._curves[run.run_id][0] != key:
            curve = self._read(run.run_id)
            if curve.problem:  # which may pass: a file that is being copied
                return curve
            self._curves[run.run_id] = key, curve
        return self._curves[run.run_id][1]

    def _read(self, run_id: str) -> Curve:
        folder, known, problem = self._folder / run_id / "metrics", self._rows.setdefault(run_id, {}), ""
        used = []
        try:
            for name in segments.names(folder):
                if name not in known:
                    rows = []
                    for row in _needed(segments.rows(folder / name)):
                        rows.append(row)
                        used.append(row)
                    known[name] = rows
                else:
                    used += known[name]
        except InputError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{folder}: cannot be read ({error.strerror or error})"
        return _curve(used, problem)


def _needed(rows: Iterable[dict]) -> Iterator[dict]:
    for row in rows:
        if row["tokens"] and (row["task"], row["metric"]) in (
            ("train", "loss"),
            ("validation", "loss"),
            ("validation", "bpb"),
        ):
            yield row


def _curve(rows: list[dict], problem: str) -> Curve:
    def points(task: str, metric: str) -> list[Point]:
        return [
            (row["tokens"], row["value"])
            for row in rows
            if (row["task"], row["metric"]) == (task, metric) and row["value"] > 0
        ]

    bpb, nats = points("validation", "bpb"), points("validation", "loss")
    return Curve(points("train", "loss"), bpb, bpb[-1][1] / nats[-1][1] if bpb and nats else None, problem)


def with_latest(curves: dict[str, Curve], runs: Iterable[Status]) -> dict[str, Curve]:
    """The curves with the loss that each run has now: until it saves again, its metrics end at its last checkpoint."""
    curves = dict(curves)
    for run in runs:
        if run.state == "running" and run.size and run.step and run.loss:
            curve, tokens = curves.get(run.run_id, Curve()), float(run.step * run.batch_tokens)
            if not curve.train or tokens > curve.train[-1][0]:
                curves[run.run_id] = replace(curve, train=[*curve.train, (tokens, run.loss)])
    return curves


def thinned(points: list[Point], most: int) -> list[Point]:
    """At most `most` points: means within intervals of tokens that are equal on a logarithmic axis; the last point as
    it is."""
    if len(points) <= most:
        return points
    tokens, values = np.array(points, float).T
    edges = np.geomspace(tokens[0], tokens[-1] * (1 + 1e-12), most)
    interval = np.minimum(np.searchsorted(edges, tokens[:-1], side="right"), most - 1)
    counts = np.bincount(interval, minlength=most)
    used = counts > 0
    means = [np.bincount(interval, of, most)[used] / counts[used] for of in (np.log(tokens[:-1]), values[:-1])]
    return [*zip(np.exp(means[0]).tolist(), means[1].tolist(), strict=True), points[-1]]


def points_of_each(n_curves: int) -> int:
    """How many points each of the curves of a page may have."""
    return max(FEWEST, min(MOST, POINTS // max(1, n_curves)))


def in_bpb(curves: dict[str, Curve]) -> tuple[dict[str, Curve], str]:
    """The curves with training losses in bpb, by the bytes per token of the validation text, and the unit. Where no run
    has been scored on validation text, as they are, in nats per token."""
    known = [curve.bpb_per_nat for curve in curves.values() if curve.bpb_per_nat]
    if not known:
        return curves, "nats per token"
    usual = math.exp(float(np.mean(np.log(known))))
    return {run_id: _scaled(curve, curve.bpb_per_nat or usual) for run_id, curve in curves.items()}, "bits per byte"


def _scaled(curve: Curve, factor: float) -> Curve:
    return Curve([(t, y * factor) for t, y in curve.train], curve.validation, factor, curve.problem)
