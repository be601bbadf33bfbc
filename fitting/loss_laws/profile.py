"""Profile of the objective of a fitted law: over one or two parameters, with all others refitted at each value."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.laws.base import Param
from fitting.laws.custom import Law
from fitting.loss_laws.loss_fit import ITERATIONS, SOLVER, LossFit
from fitting.solvers import batch
from fitting.solvers.objective import errors, huber

# Grid points along each axis, for one parameter and for two.
POINTS = {1: 61, 2: 28}
# The grid spans the central interval that holds this share of the resamples, and half its width more on each side.
SPANNED = 0.95


@dataclass(frozen=True)
class Profile:
    """The objective over one or two parameters, minimised over all others.

    names: the parameters. axes: their values, [G] each. objective: [G], or [G, G] with the second axis first. best: the
    parameters at the optimum.
    """

    names: tuple[str, ...]
    axes: tuple[np.ndarray, ...]
    objective: np.ndarray
    best: tuple[float, ...]


def profile(fitted: LossFit, names: tuple[str, ...], axes: tuple[np.ndarray, ...] | None = None) -> Profile:
    """names: one or two parameters of the law. axes: their values; by default they span the resamples.

    Raises InputError where the law has no such parameter.
    """
    params = {p.name: p for p in fitted.law.params}
    if not set(names) <= set(params) or len(names) not in POINTS or len(names) >= len(params):
        known = ", ".join(params)
        raise InputError(
            f"a profile is over one or two of several parameters, not {', '.join(names)}; there are: {known}"
        )
    natural = fitted.bootstrap.natural(0)
    axes = axes or tuple(_axis(natural[name], params[name], POINTS[len(names)]) for name in names)
    grid_L = [values.ravel() for values in np.meshgrid(*axes)]
    rest = tuple(p for p in fitted.law.params if p.name not in names)
    points, n_lanes = fitted.points, len(grid_L[0])
    center = float(fitted.bootstrap.centre["y"][0, 0])
    best = {p.name: natural[p.name][:1] for p in rest}
    law = _rest(fitted.law, names, rest).in_coordinates(center, {k: float(v[0]) for k, v in best.items()}, best)
    lanes = {k: np.tile(points.features[k], (n_lanes, 1)) for k in fitted.law.features}
    lanes |= {name: values_L[:, None] + 0 * points.y_n for name, values_L in zip(names, grid_L, strict=True)}
    weights_n = np.ones(len(points)) if points.weights_n is None else points.weights_n
    lanes["y"] = np.tile(points.y_n / center, (n_lanes, 1))
    solution = batch.solve(
        errors(law), law.theta(best, {}), data={"delta": fitted.delta, "penalty": fitted.penalty},
        weights_Rn=np.tile(weights_n, (n_lanes, 1)), lanes=lanes, bounds=law.bounds,
        max_iterations=ITERATIONS, method=SOLVER, loss=huber,
    )  # fmt: skip
    objective = (solution.objective_R * fitted.delta**2).reshape(*(len(axis) for axis in reversed(axes)))
    return Profile(names, axes, objective, tuple(float(natural[name][0]) for name in names))


def exponents(fitted: LossFit) -> tuple[str, str]:
    """The law's first two exponents. Raises InputError where it has fewer."""
    names = [p.name for p in fitted.law.params if p.role == "exponent"][:2]
    if len(names) < 2:
        raise InputError(f"{fitted.law.name} has fewer than two exponents, which a landscape is drawn over", "figure")
    return names[0], names[1]


def _axis(natural_R: np.ndarray, param: Param, n_points: int) -> np.ndarray:
    """Values around the resamples; of a scale evenly in its logarithm."""
    is_scale = param.role == "scale"
    lo, hi = bootstrap.interval(np.log(natural_R[1:]) if is_scale else natural_R[1:], SPANNED)
    margin = (hi - lo) / 2
    bounds = np.log(np.maximum(param.bounds, 1e-300)) if is_scale else param.bounds
    axis = np.linspace(max(lo - margin, bounds[0]), min(hi + margin, bounds[1]), n_points)
    return np.exp(axis) if is_scale else axis


def _rest(law, names: tuple[str, ...], rest: tuple[Param, ...]) -> Law:
    """The law of the other parameters, with `names` among its features."""

    def curve(p, x):
        return law.curve(SimpleNamespace(**vars(p), **{name: getattr(x, name) for name in names}), x)

    return Law(curve, rest, features=(*law.features, *names), log_space=law.log_space)
