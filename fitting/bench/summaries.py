"""Scores by family and pooled. Errors of one family share their sign, so families weigh the same, and within a family
every hidden run does."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fitting.bench.methods import PENALISED
from fitting.bench.rows import Row
from fitting.forecasting import scores
from fitting.inference.calibration import LEVEL, sd_of

DEFAULT = "default"
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DISTANCES = {"under 10": (0, 10), "10 to 30": (10, 30), "30 to 100": (30, 100), "over 100": (100, np.inf)}


@dataclass(frozen=True)
class Summary:
    """Scores of one family (or "mean of the families") and metric. Errors in % of the loss, or in points.

    medians: {method: median |error|}. constant: (coverage, mean width, interval score) of the leave-family-out constant
    width on the default's forecasts. penalised_score: interval score of the penalised optimum with the same
    half-widths. seconds: median time of the default for one target and task.
    """

    family: str
    metric: str
    cases: int
    targets: int
    medians: dict[str, float]
    coverage: float
    width: float
    score: float
    constant: tuple[float, float, float]
    penalised_score: float = float("nan")
    seconds: float = 0.0


def summaries(rows: list[Row], metric: str, in_run: bool = False) -> list[Summary]:
    """A summary of each family, and their mean."""
    chosen = [row for row in rows if row.metric == metric and row.case.in_run == in_run]
    families = list(dict.fromkeys(row.case.family for row in chosen))
    parts = {family: [row for row in chosen if row.case.family == family] for family in families}
    table = [_summary(family, metric, part, constant_width(parts, family)) for family, part in parts.items()]
    return table + [_mean(table, metric)] if len(table) > 1 else table


def by_distance(rows: list[Row], metric: str) -> dict[str, list[Row]]:
    """The decayed runs in each range of DISTANCES that has some: their compute over that of the largest fitted run."""
    chosen = [row for row in rows if row.metric == metric and not row.case.in_run]
    near = {
        name: [row for row in chosen if least <= np.exp(row.distance) < most]
        for name, (least, most) in DISTANCES.items()
    }
    return {name: part for name, part in near.items() if part}


def constant_width(parts: dict[str, list[Row]], family: str) -> float:
    """The half-width that holds 80 % of the errors of the other families, each of which weighs the same."""
    others = [[abs(row.error) for row in part] for name, part in parts.items() if name != family]
    if not others:
        return float("nan")
    errors = np.concatenate(others)
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in others])
    order = np.argsort(errors)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(errors[order][min(np.searchsorted(share, LEVEL), len(errors) - 1)])


def _summary(family: str, metric: str, part: list[Row], constant: float) -> Summary:
    scale = 100.0 if metric == "loss" else 1.0
    error, half = (scale * np.array([getattr(row, name) for row in part]) for name in ("error", "half"))
    methods = dict.fromkeys(name for row in part for name in row.others)
    medians = {DEFAULT: float(np.median(np.abs(error)))}
    for name in methods:
        errors = [abs(scale * row.others[name]) for row in part if np.isfinite(row.others.get(name, np.nan))]
        medians[name] = float(np.median(errors)) if errors else float("nan")
    fixed = np.full(len(part), scale * constant)
    penalised = np.array([scale * row.others.get(PENALISED, np.nan) for row in part])
    return Summary(
        family, metric, len({row.case.name for row in part}), len(part), medians, scores.coverage(error, half),
        float(2 * half.mean()), scores.interval_score(error, half),
        (scores.coverage(error, fixed), 2 * scale * constant, scores.interval_score(error, fixed)),
        scores.interval_score(penalised, half),
        float(np.median([row.seconds for row in part])),
    )  # fmt: skip


def _mean(table: list[Summary], metric: str) -> Summary:
    methods = dict.fromkeys(name for row in table for name in row.medians)

    def mean(values) -> float:
        known = [value for value in values if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")

    return Summary(
        "mean of the families", metric, sum(row.cases for row in table), sum(row.targets for row in table),
        {name: mean(row.medians.get(name, np.nan) for row in table) for name in methods},
        mean(row.coverage for row in table), mean(row.width for row in table), mean(row.score for row in table),
        tuple(mean(row.constant[i] for row in table) for i in range(3)),
        mean(row.penalised_score for row in table),
        mean(row.seconds for row in table),
    )  # fmt: skip


def reliability(rows: list[Row], levels=LEVELS) -> list[tuple[float, float]]:
    """(nominal, held): share of the errors within intervals of each level, families weighing the same."""
    families = {row.case.family for row in rows}
    held = []
    for level in levels:
        z = stats.norm.ppf((1 + level) / 2)
        by_family = [
            np.mean([abs(row.error) <= z * sd_of(row.half) for row in rows if row.case.family == family])
            for family in families
        ]
        held.append((level, float(np.mean(by_family))))
    return held
