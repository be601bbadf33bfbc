"""The objective of a fitted law around its optimum, over two of its exponents, with all other parameters refitted."""

from dataclasses import dataclass
from functools import lru_cache

import jax.numpy as jnp
import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.laws.base import Law
from fitting.loss_laws.loss_fit import LossFit
from fitting.solvers import batch
from fitting.solvers.objective import residuals

SIDE = 28
# The grid spans this share of the resamples, and half as much again to each side.
SPANNED = 0.95
ITERATIONS = 40


@dataclass(frozen=True)
class Landscape:
    """objective_GG[i, j]: the least objective with the first exponent at first_G[j], the second at second_G[i]."""

    names: tuple[str, str]
    first_G: np.ndarray
    second_G: np.ndarray
    objective_GG: np.ndarray


def profile(fitted: LossFit) -> Landscape:
    """Over the law's first two exponents. Raises InputError where it has fewer."""
    law, draws = fitted.law, fitted.fit.resampled(0)
    at = [i for i, p in enumerate(law.params) if p.unit == "1"][:2]
    names = tuple(law.params[i].name for i in at)
    if len(at) < 2:
        raise InputError(f"--figure landscape: {law.name} has fewer than two exponents")
    axes = [_axis(draws[name], law.bounds[i]) for name, i in zip(names, at, strict=True)]
    grid_2L = np.stack([values.ravel() for values in np.meshgrid(*axes)])
    points, n_lanes = fitted.points, grid_2L.shape[1]
    centre = {k: v[0] for k, v in fitted.fit.centre.items()}
    x = law.coordinates({k: points.features[k] for k in law.features}, centre) | {"y": points.y_n / centre["y"]}
    rest = [i for i in range(len(law.params)) if i not in at]
    weights_n = np.ones(len(points)) if points.weights_n is None else points.weights_n
    found = batch.solve(
        _profiled(law, *at),
        fitted.fit.params_TRP[0, 0][rest][None],
        data={"delta": fitted.delta, "over": fitted.over},
        weights_Rn=np.tile(weights_n, (n_lanes, 1)),
        lanes={k: np.tile(v, (n_lanes, 1)) for k, v in x.items()} | {"first": grid_2L[0], "second": grid_2L[1]},
        bounds=tuple(law.bounds[i] for i in rest),
        max_iterations=ITERATIONS,
    )
    return Landscape(names, *axes, found.objective_R.reshape(SIDE, SIDE) * fitted.delta**2)


def _axis(draws_R: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    lo, hi = bootstrap.interval(draws_R, SPANNED)
    room = (hi - lo) / 2
    return np.linspace(max(lo - room, bounds[0]), min(hi + room, bounds[1]), SIDE)


@lru_cache(maxsize=8)
def _profiled(law: Law, first: int, second: int):
    """The law's residuals by its other parameters, with these two in the lane. Cached: the key of solve's programs."""
    of_law = residuals(law)

    def of_rest(rest_P, data, lane):
        values = list(jnp.unstack(rest_P))
        values.insert(first, lane["first"])  # first < second
        values.insert(second, lane["second"])
        return of_law(jnp.stack(values), data, {k: v for k, v in lane.items() if k not in ("first", "second")})

    return of_rest
