"""Fit one scaling law of the loss to one table: parameters, standard errors, intervals, and the settings used."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap, intervals
from fitting.inference.noise import linearised
from fitting.laws import custom
from fitting.laws.base import Law
from fitting.laws.catalogue import LAWS
from fitting.solvers.batch import NEWTON
from fitting.tables.loss_points import COLUMNS, LossPoints

HUBER = 1e-3  # of Hoffmann et al. 2022, approach 3
LEVEL = intervals.LEVEL
FEW_UNITS = 20
# Where fewer runs than this are resampled in pairs, the 95 % interval is too wide: it holds the truth in 97 to 99 %.
MANY_UNITS = 40
# A parameter is not determined where no point's derivative of ln y by its fit coordinate is larger than this.
NO_EFFECT = 1e-9
# Levenberg-Marquardt, which the task laws use, is slow in the flat valleys of these laws.
SOLVER, ITERATIONS = NEWTON, 200
# Features that a table of losses can have; laws with other features are of other quantities.
FEATURES = {"N", "D", "C", "S", "B", "U", "T", "L", "S_min", "C_min"}
N_GRID = 4500


@dataclass(frozen=True)
class LossFit:
    """A law fitted to points.

    law: in its fit coordinates, and without the fixed parameters. bootstrap: the fit, as one task, and its resamples.
    delta: Huber's threshold. penalty: weight of a point below the law over that of one above. n_starts: of the fit
    itself, not of its resamples. fixed: {parameter: given value}.
    """

    law: Law
    points: LossPoints
    bootstrap: bootstrap.Fit
    delta: float
    seed: int
    penalty: float = 1.0
    n_starts: int = bootstrap.N_STARTS
    precision: str = "float64"
    fixed: dict[str, float] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """Number of groups of points; points of different groups share no noise."""
        return len(np.unique(self.points.groups_n))

    def natural(self) -> dict[str, np.ndarray]:
        """Parameters as printed, {name: [1 + R]}; row 0 is the fit, the others its resamples."""
        fitted = self.bootstrap.natural(0)
        return fitted | {k: np.full_like(next(iter(fitted.values())), v) for k, v in self.fixed.items()}

    def values(self, features: Mapping) -> np.ndarray:
        """[1 + R, m] of the law at features {name: [m]}."""
        return self.bootstrap.predict({k: features[k] for k in self.law.features})[0]

    def values_each(self, features: Mapping) -> np.ndarray:
        """[1 + R, m] of the law at features {name: [1 + R, m]}, which differ between resamples."""
        centre = {k: v[0] for k, v in self.bootstrap.centre.items()}
        x = self.law.coordinates({k: features[k] for k in self.law.features}, centre)
        with jax.enable_x64(True):
            return np.asarray(self.law.form(jnp.asarray(self.bootstrap.params_TRP[0][:, None]), x)) * centre["y"]

    @property
    def flags(self) -> list[str]:
        """Reasons not to trust the numbers, as sentences."""
        fitted, units = self.bootstrap, self.units
        flags = [] if fitted.converged_T[0] else ["the fit did not converge"]
        undetermined = self._undetermined()
        flags += [f"parameter at its bound: {name}" for name in fitted.at_bound(0) if name not in undetermined]
        flags += [f"no point depends on {name}: its value is where the search started" for name in undetermined]
        flags += [
            f"{name} is not determined: the ends of its interval differ by more than a factor {intervals.WIDEST:g}, so"
            " none is shown"
            for name in self._too_wide()
            if name not in undetermined
        ]
        if fitted.agree_T[0] < 0.5:
            flags.append(f"only {fitted.agree_T[0]:.0%} of the starts reached the optimum")
        if units < FEW_UNITS:
            flags.append(
                f"few runs: {units} that share no noise, for {len(self.law.params)} parameters; percentile intervals of"
                " so few may be too short"
            )
        elif units < MANY_UNITS and fitted.method == "pairs":
            flags.append(f"{units} runs, drawn with replacement: 95 % intervals may be too wide (docs/intervals.md)")
        return [*flags, *self.points.flags]

    def _undetermined(self) -> list[str]:
        """Names of the parameters that no point depends on, such as that of repetition where no data are repeated."""
        centre = self.bootstrap.centre  # arrays [1, 1], one task
        lanes = self.law.coordinates({k: self.points.features[k][None] for k in self.law.features}, centre)
        lanes = lanes | {"y": self.points.y_n / centre["y"]}
        _, jacobian_TnP = linearised(self.law, self.bootstrap.params_TRP[:, 0], lanes)
        effect_P = np.abs(jacobian_TnP[0]).max(axis=0)
        names = [p.name for p, effect in zip(self.law.params, effect_P, strict=True) if effect < NO_EFFECT]
        # No point depends on a floor E = 0 either, but there 0 is the result of the fit.
        return [name for name in names if not (name == "E" and "E" in self.bootstrap.at_bound(0))]

    def deviations(self) -> dict[str, np.ndarray]:
        """{fitted parameter: [R]}: of the resamples from the fit, without the additional spread of simulated noise
        (intervals.noise_correction)."""
        correction_R = intervals.noise_correction(self.bootstrap, 0, self.delta)
        return {k: (v_R[1:] - v_R[0]) * correction_R for k, v_R in self.bootstrap.natural(0).items()}

    def standard_errors(self) -> dict[str, float]:
        """{fitted parameter: standard deviation of its deviations}, which Wald's intervals are made of too; nan for a
        scale that the points do not determine."""
        unknown = self._too_wide()
        with np.errstate(invalid="ignore"):  # of what is not determined
            deviations = self.deviations()
        return {k: np.nan if k in unknown else float(np.std(v_R, ddof=1)) for k, v_R in deviations.items()}

    def _too_wide(self) -> list[str]:
        """Names of the scales whose interval says nothing about them."""
        ends = intervals.wald(self.bootstrap, 0, self.units, self.delta)
        return [name for name, pair in ends.items() if pair is intervals.UNDETERMINED]

    def json(self) -> dict:
        """What goes into fit.json."""
        fitted, unknown = self.bootstrap, self._too_wide()

        def determined(ends: dict) -> dict:
            return {k: None if k in unknown else list(pair) for k, pair in ends.items()}

        return {
            "table_sha256": self.points.sha256,
            "law": self.law.name,
            "quantity": self.points.quantity,
            "params": fitted.params(0),
            "se": {k: None if k in unknown else se for k, se in self.standard_errors().items()},
            "ci95": determined(intervals.wald(fitted, 0, self.units, self.delta)),
            "ci95_percentile": determined(intervals.percentile(fitted, 0)),
            "objective": float(fitted.objective_T[0]),
            "n_points": len(self.points),
            "n_resamples": fitted.noise_TR.shape[1],
            "converged": float(fitted.resamples_converged_T[0]),
            "seconds": fitted.seconds,
            "flags": self.flags,
            "settings": self._settings(),
        }

    def _settings(self) -> dict:
        """The items that a report of a scaling law must state (Li et al. 2025, "(Mis)fitting")."""
        points = self.points
        return {
            "form": self.law.formula,
            "source": self.law.source,
            "units": {p.name: p.unit_in("y") for p in self.law.params},
            "bounds": {p.name: [b if np.isfinite(b) else None for b in p.bounds] for p in self.law.params},
            "objective": "sum of Huber(ln y - ln law)" if self.law.log_space else "sum of Huber(y - law)",
            "huber_delta": self.delta,
            "solver": f"{SOLVER}, float64 (resamples {self.precision}), bounds by reparametrisation",
            "overestimate_penalty": self.penalty,
            "weighted": points.weights_n is not None,
            "starts": self.n_starts,
            "starts_agree": float(self.bootstrap.agree_T[0]),
            "table": points.source,
            "n_convention": points.n_convention,
            "derived": [points.derived[name] for name in self.law.features if name in points.derived],
            "left_out": list(points.left_out),
            "run_noise": float(self.bootstrap.noise_T[0]),
            "resampling": self.bootstrap.method,
            "units_resampled": self.units,
            "seed": self.seed,
            "interval": f"{LEVEL:.0%}, Wald with Student's t and the resamples' error, of scales in their logarithm",
        }


def fit(
    points: LossPoints, law: str | custom.Law = "chinchilla", *, delta: float = HUBER,
    n_resamples: int = 4000, seed: int = 0, resamples_Rn: np.ndarray | None = None,
    penalty: float = 1.0, grid: bool = False, precision: str = "float64",
    fixed: Mapping[str, float] | None = None, bounds: Mapping[str, tuple] | None = None, noise: float = 0.0,
) -> LossFit:  # fmt: skip
    """Fit a law of LAWS, by its name, or a user's own.

    resamples_Rn: bootstrap.Resampling's given_Rn. penalty: weight of a point below the law over that of one above, for
    runs that lie above what their size can reach, tuned badly or stopped too soon (OLMo-core's overestimate_penalty).
    grid: use the 4,500 starts of Hoffmann et al. 2022. precision: of the resamples; float32 is for accelerators without
    float64, and is refused where its results differ. fixed: {parameter: value}. bounds: {parameter: (lo, hi)}. noise:
    standard deviation of ln y between seeds, below which that of the runs around the law is not taken; it counts where
    runs are too few to be resampled in pairs. Raises InputError where there is no such law or the points lack a feature
    that it needs.
    """
    form = law if isinstance(law, custom.Law) else _known(law)
    if not 0 < delta < np.inf:
        raise InputError(f"Huber's threshold is {delta:g}; it must be positive", "huber_delta")
    if n_resamples < 2:
        raise InputError(f"{n_resamples} resamples: a standard error needs at least 2", "resamples")
    if not 0 < penalty < np.inf:
        raise InputError(f"the penalty is {penalty:g}; it must be positive", "overestimate_penalty")
    if grid and (law != "chinchilla" or fixed or bounds):
        raise InputError("the grid of starts of Hoffmann et al. 2022 is for the whole law chinchilla", "starts")
    features = _features(form, points)
    form = _prepared(form, features, points.y_n, dict(fixed or {}), dict(bounds or {}), seed)
    different = len(np.unique(np.column_stack([features[name] for name in form.features]), axis=0))
    if different < min(len(form.params), len(points)):
        names = ", ".join(form.features)
        raise InputError(
            f"{points.source}: its {len(points)} points lie at {different} different ({names}), too few for"
            f" the {len(form.params)} parameters of {form.name}; add runs of other sizes or lengths"
        )
    starts, n_starts = (published_grid(), N_GRID) if grid else (bootstrap.N_STARTS, bootstrap.N_STARTS)
    # With many runs the optimum of a resample lies near that of the fit; with few it may lie on a bound.
    resample_starts = 0 if len(np.unique(points.groups_n)) >= FEW_UNITS else bootstrap.N_RESAMPLE_STARTS
    dtype = {"float64": np.float64, "float32": np.float32}[precision]
    fitted = bootstrap.fit(
        form, features, points.y_n, weights_Tn=None if points.weights_n is None else points.weights_n[None],
        groups_n=points.groups_n,
        solver=bootstrap.Solver(delta, SOLVER, ITERATIONS, starts, resample_starts, penalty, dtype),
        resampling=bootstrap.Resampling(n_resamples, seed, "auto" if penalty == 1 else "pairs", resamples_Rn, noise),
    )  # fmt: skip
    return LossFit(form, points, fitted, delta, seed, penalty, n_starts, precision, dict(fixed or {}))


def _features(form: Law | custom.Law, points: LossPoints) -> dict[str, np.ndarray]:
    missing = [name for name in form.features if name not in points.features]
    if missing:
        known = ", ".join(points.features)
        raise InputError(
            f"{points.source}: {form.name} needs {', '.join(missing)}, and the table has {known}",
            missing[0] if missing[0] in COLUMNS else None,
        )
    if "L" in form.features and np.array_equal(points.features["L"], points.y_n):
        raise InputError(
            f"{points.source}: {form.name} is a law of the loss L, and L itself would be fitted; name what is fitted"
            " by y (wide table), or the task whose loss is L by against (runs table)"
        )
    return {k: points.features[k] for k in form.features}


def _known(name: str) -> Law:
    known = [law.name for law in LAWS.values() if set(law.features) <= FEATURES]
    if name not in known:
        raise InputError(f"no law of the loss is called {name!r}; there are: {', '.join(known)}", "law")
    return LAWS[name]


def _prepared(law: Law | custom.Law, features: dict, y_n: np.ndarray, fixed: dict, bounds: dict, seed: int) -> Law:
    """The law in its fit coordinates, with parameters fixed and bounded as asked for."""
    whole = law.prepared(features, y_n, seed=seed) if isinstance(law, custom.Law) else law
    if not fixed and not bounds:
        return whole
    part, starts = custom.restricted(whole, fixed, bounds, features, y_n, seed)
    return part.prepared(features, y_n, starts)


def published_grid() -> dict[str, np.ndarray]:
    """The 4,500 starts of Hoffmann et al. 2022, approach 3, as natural parameters.

    Exponents of 0 and 2, where the gradient vanishes in our coordinates, are moved inside the bounds.
    """
    exponents, log_scales = np.clip(np.linspace(0, 2, 5), 0.01, 1.99), np.arange(0, 30, 5)
    grid = np.meshgrid(exponents, exponents, np.linspace(-1, 1, 5), log_scales, log_scales)
    alpha, beta, e, a, b = (values.ravel() for values in grid)
    return {"E": np.exp(e), "A": np.exp(a), "alpha": alpha, "B": np.exp(b), "beta": beta}
