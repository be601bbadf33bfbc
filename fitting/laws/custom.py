"""A user's own law: a formula and its parameters; coordinates, starts and scales follow from the data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from fitting.errors import InputError
from fitting.laws import base
from fitting.laws.base import INF, Param

# The default bounds of a parameter with each role.
BOUNDS = {"floor": (0.0, INF), "scale": (0.0, INF), "exponent": (0.0, 3.0), "other": (-INF, INF)}
# Starts are the best of N_TRIED random ones; LARGEST_ERROR is the most that one point can add to the error of a start.
N_TRIED, LARGEST_ERROR = 4000, 3.0
# Fields that mean the same in this Law and in base.Law.
SHARED = ("features", "name", "formula", "source", "log_space", "optimum", "at_critical_batch")


class Prepared(base.Law):
    """A law in the coordinates of `Law.prepared`, in which the bounds of theta are those of the parameters."""

    def on_bound(self, theta_P: np.ndarray) -> np.ndarray:
        """bool[P]: which parameters are within 1e-3 of a bound in fit coordinates (of a scale: its logarithm)."""
        lo_P, hi_P = np.array(self.bounds).T
        return (theta_P - lo_P < base.AT_BOUND) | (hi_P - theta_P < base.AT_BOUND)


class Law:
    """A law of your own: `Law(lambda p, x: p.E + p.A / x.N**p.alpha, params={"E": "floor", "A": "scale", ...})`.

    curve(p, x) -> y[n]: the formula, written with jax.numpy, of parameters p.NAME and features x.NAME [n]. params:
    {name: role}, a role being "floor", "scale", "exponent" or "other" (see laws.base.Param), or Params, which also have
    bounds and units. features: names of the features; by default those that the formula uses. log_space: fit ln y,
    not y. optimum, at_critical_batch: see laws.base.Law. Raises InputError for an unknown role.
    """

    def __init__(
        self,
        curve: Callable,
        params: Mapping[str, str] | Sequence[Param],
        *,
        features: Sequence[str] | None = None,
        name: str = "custom",
        formula: str = "",
        source: str = "",
        log_space: bool = True,
        optimum: Callable | None = None,
        at_critical_batch: bool = False,
    ):
        if isinstance(params, Mapping):
            wrong = [f"{p} is {role!r}" for p, role in params.items() if role not in BOUNDS]
            if wrong:
                raise InputError(f"params: {wrong[0]}; roles are {', '.join(BOUNDS)}", "params")
            params = [Param(p, role, "{y}" if role == "floor" else "1", BOUNDS[role]) for p, role in params.items()]
        self.curve, self.params, self.log_space = curve, tuple(params), log_space
        self.name, self.formula, self.source = name, formula or name, source
        self.optimum, self.at_critical_batch = optimum, at_critical_batch
        self.features = tuple(features) if features else self._features_used()

    def _features_used(self) -> tuple[str, ...]:
        used: dict[str, None] = {}

        class Recorder:
            def __getattr__(self, name):
                used[name] = None
                return jnp.ones(1)

        self.curve(SimpleNamespace(**{p.name: 0.5 for p in self.params}), Recorder())
        return tuple(used)

    def prepared(self, features: dict, y: np.ndarray, starts: dict | None = None, seed: int = 0) -> Prepared:
        """The law in fit coordinates for these points, as `inference.bootstrap.fit` needs it.

        starts: parameters {name: [S]} to start from; by default the best of N_TRIED random ones. theta holds, for a
        scale, its logarithm minus that of the first start; for a parameter in units of y, its ratio to the geometric
        mean of y; else the parameter itself.
        """
        features = {name: np.asarray(features[name], float) for name in self.features}
        mean_y = float(np.exp(np.mean(np.log(y)))) if np.min(y) > 0 else float(np.mean(np.abs(y)) or 1.0)
        starts = starts or self._random_starts(features, y, np.random.default_rng(seed))
        return self.in_coordinates(mean_y, {p.name: float(starts[p.name][0]) for p in self.params}, starts)

    def in_coordinates(self, mean_y: float, first: dict, starts: dict) -> Prepared:
        """The law in the coordinates of `prepared`. mean_y: geometric mean of y. first: {name: first start}."""
        scales = {p.name for p in self.params if p.role == "scale"}
        unit = {p.name: mean_y if "{y}" in p.unit else 1.0 for p in self.params}
        unit |= {name: first[name] for name in scales}

        def natural(theta, centre, xp=np):
            values = {p.name: theta[..., i] for i, p in enumerate(self.params)}
            return {name: unit[name] * (xp.exp(v) if name in scales else v) for name, v in values.items()}

        def theta(natural, centre):
            with np.errstate(divide="ignore"):
                ratios = {p.name: np.asarray(natural[p.name], float) / unit[p.name] for p in self.params}
                columns = [np.log(ratio) if name in scales else ratio for name, ratio in ratios.items()]
            return np.stack(np.broadcast_arrays(*columns), axis=-1)

        lo, hi = (theta({p.name: p.bounds[side] for p in self.params}, {}) for side in (0, 1))

        def form(t, x):
            return self.curve(SimpleNamespace(**natural(t, {}, jnp)), SimpleNamespace(**x)) / mean_y

        def first_starts(x, y, n, rng):
            start_SP = theta(starts, {})
            return start_SP[np.arange(n) % len(start_SP)]

        return Prepared(
            **{field: getattr(self, field) for field in SHARED},
            params=self.params,
            curve=self.curve,
            bounds=tuple((float(a), float(b)) for a, b in zip(lo, hi, strict=True)),
            scale=lambda features, y: {"y": mean_y},
            coordinates=lambda features, centre: dict(features),
            form=form,
            natural=natural,
            starts=first_starts,
            theta=theta,
        )

    def _random_starts(self, features: dict, y: np.ndarray, rng: np.random.Generator, n: int = 24) -> dict:
        """Of N_TRIED random sets of parameters, the n with the smallest errors: {name: [n]}."""
        log_top = max([float(np.log(np.max(np.abs(v)))) for v in features.values()] + [1.0])
        tried = {}
        for p in self.params:
            lo, hi = p.bounds
            match p.role:
                case "scale":
                    value = np.exp(rng.uniform(-7.0, 1.6 * log_top + 7.0, N_TRIED))
                case "floor":
                    value = rng.uniform(0.0, 1.0, N_TRIED) * np.min(y)
                    value[::4] = 0.0
                case "exponent":
                    value = rng.uniform(max(lo, 0.02), min(hi, 1.0), N_TRIED)
                case _:
                    value = rng.standard_normal(N_TRIED) * (np.mean(np.abs(y)) if "{y}" in p.unit else 1.0)
            tried[p.name] = np.clip(value, lo, hi)
        with jax.enable_x64(True):
            x = SimpleNamespace(**{k: jnp.asarray(v) for k, v in features.items()})
            y_Sn = np.asarray(jax.vmap(lambda p: self.curve(SimpleNamespace(**p), x) + 0 * y)(tried))
        with np.errstate(invalid="ignore", divide="ignore"):
            error_Sn = np.abs(np.log(y_Sn / y) if self.log_space else (y_Sn - y) / np.mean(np.abs(y)))
        error_S = np.minimum(np.nan_to_num(error_Sn, nan=LARGEST_ERROR), LARGEST_ERROR).mean(axis=1)
        best = np.argsort(error_S, kind="stable")[:n]
        return {name: value[best] for name, value in tried.items()}


def restricted(
    law: base.Law, fixed: Mapping[str, float], bounds: Mapping[str, tuple], features: dict, y: np.ndarray, seed: int
) -> tuple[Law, dict]:
    """Return the law of the parameters that are not fixed, and its starts {name: [S]}.

    fixed: {name: value}. bounds: {name: (lo, hi)}, in place of the law's own. Raises InputError for a parameter that
    the law does not have, a value outside its bounds, or if nothing is left to fit.
    """
    known = {p.name: p for p in law.params}
    for argument, values, shape in (("fixed", fixed, ()), ("bounds", bounds, (2,))):
        for name, value in values.items():
            if name not in known:
                names = ", ".join(known)
                raise InputError(f"{argument}: {law.name} has no parameter {name!r}; it has {names}", argument)
            if np.shape(value) != shape or not np.issubdtype(np.asarray(value).dtype, np.number):
                wanted = "a number" if argument == "fixed" else "(lowest, highest)"
                raise InputError(f"{argument}: {name} = {value!r}: give {wanted}", argument)
    for name, value in fixed.items():
        if name in bounds:
            raise InputError(f"{name} is fixed and has bounds; give one of them", "bounds")
        lo, hi = known[name].bounds
        if not lo <= value <= hi:
            raise InputError(f"fixed: {name} = {value:g} is not within {lo:g} to {hi:g}", "fixed")
    params = []
    for p in law.params:
        if p.name not in fixed:
            lo, hi = bounds.get(p.name, p.bounds)
            if not lo < hi:
                raise InputError(f"bounds: {p.name}: {lo:g} is not below {hi:g}", "bounds")
            lo = max(lo, 0.0) if p.role == "scale" else lo
            params.append(replace(p, bounds=(float(lo), float(hi))))
    if not params:
        raise InputError("fixed: every parameter is fixed, so there is nothing to fit", "fixed")

    centre = law.scale(features, y)
    theta_SP = law.starts(law.coordinates(features, centre), y / centre["y"], 24, np.random.default_rng(seed))
    starts = {k: np.broadcast_to(v, len(theta_SP)) for k, v in law.natural(theta_SP, centre).items()}
    starts = {p.name: np.clip(starts[p.name], *p.bounds) for p in params}
    return with_params(law, params, fixed), starts


def with_params(law: base.Law, params: Sequence[Param], fixed: Mapping[str, float]) -> Law:
    """The law of these parameters, which are fewer or have other bounds. fixed: {name: value} of the rest."""

    def curve(p, x):
        return law.curve(SimpleNamespace(**vars(p), **fixed), x)

    return Law(curve, params, **{field: getattr(law, field) for field in SHARED})
