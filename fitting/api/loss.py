"""Scaling laws of the loss for notebooks and programs: `fit` and its result."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from fitting import files
from fitting.api import inputs
from fitting.api.compute_optimal import ComputeOptimal
from fitting.api.results import Estimate, Shown, drawn
from fitting.errors import FitWarning, InputError
from fitting.inference import bootstrap, intervals
from fitting.laws import custom
from fitting.laws.base import Param
from fitting.laws.catalogue import LAWS
from fitting.loss_laws import allocation, loss_fit, profile
from fitting.loss_laws.loss_fit import LossFit
from fitting.report import loss_figures, loss_tables
from fitting.report.grid import Grid
from fitting.tables.loss_points import LossPoints

SCHEMA_VERSION = 1
SETTINGS = ("delta", "seed", "penalty", "n_starts", "precision", "fixed")


class Fit(Shown, LossFit):
    """A fitted law of the loss. Further attributes: law (formula, params with units), points, seed, delta.

    Parameters are as printed in the law's formula. Standard errors and intervals come from the resamples.
    """

    @property
    def params(self) -> dict[str, float]:
        """Fitted parameters by name; fixed ones too."""
        return {name: float(value_R[0]) for name, value_R in self.natural().items()}

    @property
    def stderr(self) -> dict[str, float]:
        """Standard errors by name; 0 for fixed parameters."""
        return self.standard_errors() | dict.fromkeys(self.fixed, 0.0)

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """For each parameter its R values, one from each resample: {name: [R]}."""
        return {name: value_R[1:] for name, value_R in self.natural().items()}

    @property
    def cov(self) -> np.ndarray:
        """Covariance [P, P] of the parameters, in the order of `params`; nan for a scale that is not determined.

        `stderr` is the root of its diagonal."""
        with np.errstate(invalid="ignore"):  # of what is not determined
            deviations = self.deviations()
        deviations |= {name: np.full_like(deviations[name], np.nan) for name in self._too_wide()}
        zero_R = np.zeros(self.bootstrap.noise_TR.shape[1])
        return np.atleast_2d(np.cov(np.stack([deviations.get(name, zero_R) for name in self.params])))

    @property
    def residuals(self) -> np.ndarray:
        """Residuals of the n points, [n]: ln y - ln law, or y - law for a law that is not fitted in log space."""
        law_n = self.values(self.points.features)[0]
        return np.log(self.points.y_n / law_n) if self.law.log_space else self.points.y_n - law_n

    @property
    def dropped(self) -> tuple[str, ...]:
        """Reasons why points were left out."""
        return self.points.left_out

    @property
    def converged(self) -> float:
        """Share of the resamples that converged; 0 where the fit itself did not."""
        return float(self.bootstrap.resamples_converged_T[0]) if self.bootstrap.converged_T[0] else 0.0

    def conf_int(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Confidence intervals, {parameter: (lower, upper)}: Wald's, with Student's t. Those of scales are computed for
        their logarithm."""
        ends = intervals.wald(self.bootstrap, 0, self.units, self.delta, inputs.share(level))
        return ends | {name: (value, value) for name, value in self.fixed.items()}

    def predict(self, *, level: float = 0.8, interval: str = "run", **features) -> Estimate:
        """The law at N=..., D=... (its features); arrays broadcast.

        interval: of the law itself ("mean"), or of what one more run would measure ("run"). level: probability that it
        holds the value. Raises InputError where a feature is missing or not positive.
        """
        if interval not in ("mean", "run"):
            raise InputError(f'interval = {interval!r}: use "mean" or "run"', "interval")
        x = inputs.positive(self.law.features, features)
        shape = np.broadcast_shapes(*(v.shape for v in x.values()))
        value_Rm = self.values({k: np.broadcast_to(v, shape).ravel() for k, v in x.items()})
        log, noise = self.law.log_space, self.bootstrap.noise_T[0] if interval == "run" else 0.0
        noise = noise if log else noise * float(self.bootstrap.centre["y"][0, 0])
        ends = intervals.student(self.bootstrap, 0, self.units, self.delta, inputs.share(level))(value_Rm, log, noise)
        shrink_R = intervals.noise_correction(self.bootstrap, 0, self.delta)[:, None]
        deviation_Rm = (np.log(value_Rm[1:] / value_Rm[0]) if log else value_Rm[1:] - value_Rm[0]) * shrink_R
        sd_m = np.hypot(deviation_Rm.std(axis=0), noise) * (value_Rm[0] if log else 1.0)
        return Estimate.of(shape, value_Rm[0], *ends, sd_m)

    def compute_optimal(self) -> ComputeOptimal:
        """Approach 3 of Hoffmann et al. 2022. Raises InputError where the law has no optimum in N and D."""
        return ComputeOptimal(allocation.of_law(self), self.points)

    def N_opt(self, C) -> Estimate:
        """Compute-optimal parameters for budgets of C FLOPs (6 N D), with 95 % intervals."""
        return self.compute_optimal().N_opt(C)

    def D_opt(self, C) -> Estimate:
        """Compute-optimal tokens for budgets of C FLOPs, with 95 % intervals."""
        return self.compute_optimal().D_opt(C)

    def loss_opt(self, C) -> Estimate:
        """Loss of compute-optimal training with C FLOPs, with 95 % intervals."""
        return self.compute_optimal().loss_opt(C)

    @property
    def exponents(self) -> dict[str, Estimate]:
        """Exponents of compute-optimal training, {"N": a, "D": 1 - a} where N_opt ~ C^a, with 95 % intervals."""
        return self.compute_optimal().exponents

    def profile(self, *names: str, values=None) -> "Profile":
        """The objective over one or two parameters, with the others refitted. values: of a single parameter; by default
        they span the resamples."""
        axes = None if values is None else (np.asarray(values, float),)
        return Profile(**vars(profile.profile(self, names, axes)))

    def plot(self, ax=None):
        """Plot the points and the fitted law on `ax`, or on a new figure. Returns the axes."""
        return drawn(ax, loss_figures.draw_law, self)

    def grids(self) -> list[Grid]:
        return [loss_tables.parameters(self)]

    def lines(self) -> list[str]:
        return [*loss_tables.summary(self), *self.flags]

    def to_json(self, path) -> None:
        """Write everything, samples included; `from_json` gives an equal fit."""
        state = {k: getattr(self, k) for k in SETTINGS} | {"points": vars(self.points)}
        state["bootstrap"] = {k: v for k, v in vars(self.bootstrap).items() if k != "law"}
        if self.law is not LAWS.get(self.law.name):  # its coordinates depend on the data
            origin = self.law.natural(np.zeros(len(self.law.params)), {})
            state["origin"] = {k: float(v) for k, v in origin.items()}
            state["params"] = [vars(p) for p in self.law.params]
        content = {"schema_version": SCHEMA_VERSION} | self.json() | {"state": _encoded(state)}
        with files.replaced(path) as part:
            part.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def fit(
    data=None, *, N=None, D=None, C=None, S=None, B=None, U=None, T=None, y=None,
    law: str | custom.Law = "chinchilla", resamples: int = 4000, seed: int = 0,
    fixed: Mapping[str, float] | None = None, bounds: Mapping[str, tuple[float, float]] | None = None,
    weights=None, groups=None, flops: str | None = None, huber_delta: float = loss_fit.HUBER,
    overestimate_penalty: float = 1.0, **features,
) -> Fit:  # fmt: skip
    """Fit a scaling law of the loss: parameters, standard errors, intervals, predictions, compute-optimal sizes.

    data: a data frame (any library), a dictionary of columns, or the path of a table; then N, D, ... name its columns
    (by default params, tokens, flops, steps, batch_tokens, unique_tokens, position, loss). Without data they are
    arrays. N: parameters, D: training tokens, C: training FLOPs, S: steps, B: batch size in tokens, U: unique tokens,
    T: position of the predicted token, y: the loss. A feature that the law needs and the data lack is computed from the
    others (C = 6 N D, ...). law: a name of `fitting.LAWS`, or a `fitting.Law`; features: further ones of your own law.
    resamples, seed: of the bootstrap. fixed: {parameter: value}. bounds: {parameter: (lo, hi)}. weights: of the points.
    groups: labels of what shares noise (trunk, run); points of a group are resampled together. flops: "6ND" computes C
    as 6 N D even where the data have a column of FLOPs. huber_delta: threshold of the Huber loss, in ln y.
    overestimate_penalty: weight of a point below the law over that of a point above, for runs that were tuned badly.

    Raises InputError for wrong input; warns with FitWarning where a result is not to be trusted.
    """
    named = {"N": N, "D": D, "C": flops or C, "S": S, "B": B, "U": U, "T": T} | features
    points = inputs.points_of(data, {k: v for k, v in named.items() if v is not None}, y, weights, groups)
    settings = {"n_resamples": resamples, "seed": seed, "fixed": fixed, "bounds": bounds}
    fitted = fit_points(points, law, delta=huber_delta, penalty=overestimate_penalty, **settings)
    for flag in fitted.flags:
        warnings.warn(flag, FitWarning, stacklevel=2)
    return fitted


def fit_points(points: LossPoints, law: str | custom.Law = "chinchilla", **settings) -> Fit:
    """`loss_laws.loss_fit.fit` with the public methods."""
    fitted = loss_fit.fit(points, law, **settings)
    return Fit(**{f.name: getattr(fitted, f.name) for f in fields(LossFit)})


def from_json(path, law: custom.Law | None = None) -> Fit:
    """The fit that `to_json` wrote. law: your own law, where one was fitted: JSON cannot hold it.

    Raises InputError where the file does not hold a fit.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        name, state = content["law"], _decoded(content["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a fit that to_json wrote ({type(error).__name__}: {error})") from None
    form = law or LAWS.get(name)
    if form is None:
        raise InputError(f"{path}: of a law of your own; give it as law=", "law")
    if "origin" in state:
        params = [Param(**p | {"bounds": tuple(map(float, p["bounds"]))}) for p in state["params"]]
        origin, center = state["origin"], float(state["bootstrap"]["centre"]["y"][0, 0])
        form = custom.with_params(form, params, state["fixed"]).in_coordinates(
            center, origin, {k: np.array([v]) for k, v in origin.items()}
        )
    points, fitted = LossPoints(**state["points"]), bootstrap.Fit(law=form, **state["bootstrap"])
    return Fit(form, points, fitted, **{k: state[k] for k in SETTINGS})


class Profile(profile.Profile):
    """The objective over one or two parameters; see loss_laws.profile."""

    def plot(self, ax=None):
        """Plot a line for one parameter, or a map for two. Returns the axes."""
        return drawn(ax, loss_figures.draw_profile, self)


def _encoded(value):
    """Values as JSON: arrays with their dtype, to distinguish them from tuples; numbers that JSON lacks as text."""
    match value:
        case np.ndarray():
            return {"dtype": str(value.dtype), "array": _encoded(value.tolist())}
        case dict():
            return {"dict": {k: _encoded(v) for k, v in value.items()}}
        case list() | tuple():
            return [_encoded(v) for v in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _decoded(value):
    match value:
        case {"array": array, "dtype": dtype}:
            return np.array(array, dtype)
        case {"dict": items}:
            return {k: _decoded(v) for k, v in items.items()}
        case list():
            return tuple(_decoded(v) for v in value)
    return value
