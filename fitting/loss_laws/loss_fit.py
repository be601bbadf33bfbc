"""Fit one scaling law of the loss to one table: parameters, standard errors, intervals, and how it was done."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fitting.errors import InputError
from fitting.inference import bootstrap, intervals, noise
from fitting.laws.base import Law
from fitting.laws.catalogue import LAWS
from fitting.solvers import batch
from fitting.tables.loss_points import LossPoints

# As Hoffmann et al. 2022 (approach 3) have it.
HUBER = 1e-3
LEVEL = intervals.LEVEL
FEW_UNITS = 20
# Of fewer drawn runs than this the default interval is a little too wide: it holds the truth in 97 to 99 %.
MANY_UNITS = 40
# A parameter that moves no point by more than this (ln y for a unit of its fit coordinate) is not determined.
IDLE = 1e-9
# jaxopt, which the task laws use, creeps in the flat valleys of these laws.
SOLVER, ITERATIONS = batch.NEWTON, 200
# What a table of losses can have; the other laws are of other quantities.
FEATURES = {"N", "D", "C", "S", "B", "U", "T", "L", "S_min", "C_min"}


@dataclass(frozen=True)
class LossFit:
    """A law fitted to points. fit: of one task. delta: Huber's threshold, in ln y. over: of points below the law.
    n_starts: of the fit itself."""

    law: Law
    points: LossPoints
    fit: bootstrap.Fit
    delta: float
    seed: int
    over: float = 1.0
    n_starts: int = bootstrap.N_STARTS
    precision: str = "float64"

    @property
    def units(self) -> int:
        """How many runs share no noise."""
        return len(np.unique(self.points.groups_n))

    def predict(self, features: dict) -> np.ndarray:
        """[1 + R, m] of the law at features {name: [m]}; row 0 is the fit, the others its resamples."""
        return self.fit.predict({k: features[k] for k in self.law.features})[0]

    def predict_each(self, features: dict) -> np.ndarray:
        """[1 + R, m] of the law where every resample has features of its own, {name: [1 + R, m]}."""
        centre = {k: v[0] for k, v in self.fit.centre.items()}
        x = self.law.coordinates({k: features[k] for k in self.law.features}, centre)
        with jax.enable_x64(True):
            return np.asarray(self.law.form(jnp.asarray(self.fit.params_TRP[0][:, None]), x)) * centre["y"]

    def flags(self) -> list[str]:
        """Reasons not to trust the figures, in words."""
        fitted, units = self.fit, self.units
        flags = []
        if not fitted.converged_T[0]:
            flags.append("the fit did not converge")
        idle = self._idle()
        flags += [f"parameter at its bound: {name}" for name in fitted.at_bound(0) if name not in idle]
        flags += [f"no point depends on {name}: its value is where the search started" for name in idle]
        if fitted.agree_T[0] < 0.5:
            flags.append(f"only {fitted.agree_T[0]:.0%} of the starts reached the optimum")
        if units < FEW_UNITS:
            flags.append(f"few runs: {units} that share no noise, for {len(self.law.params)} parameters")
            flags[-1] += "; percentile intervals of so few may be too short"
        elif units < MANY_UNITS and fitted.method == "pairs":
            flags.append(f"{units} runs, drawn with replacement: 95 % intervals may be too wide (docs/intervals.md)")
        return flags

    def _idle(self) -> list[str]:
        """Names of the parameters that change no point's prediction, such as repetitions where nothing is repeated."""
        centre = self.fit.centre  # arrays [1, 1], one task
        x = self.law.coordinates({k: self.points.features[k][None] for k in self.law.features}, centre)
        lanes = x | {"y": self.points.y_n / centre["y"]}
        moved_P = np.abs(noise.jacobian(self.law, self.fit.params_TRP[:, 0], lanes)[0]).max(axis=0)
        names = [p.name for p, moved in zip(self.law.params, moved_P, strict=True) if moved < IDLE]
        # No point depends on a floor of 0 either, but that is a finding.
        return [name for name in names if not (name == "E" and "E" in self.fit.at_bound(0))]

    def json(self) -> dict:
        """What goes into fit.json (DESIGN, Contracts)."""
        resampled, n_resamples = self.fit.resampled(0), self.fit.noise_TR.shape[1]
        return {
            "table_sha256": self.points.sha256,
            "law": self.law.name,
            "quantity": self.points.quantity,
            "params": self.fit.params(0),
            "se": {k: float(np.std(v, ddof=1)) for k, v in resampled.items()},
            "ci95": {k: list(v) for k, v in intervals.wald(self.fit, 0, self.units, self.delta).items()},
            "ci95_percentile": {k: list(v) for k, v in intervals.percentile(self.fit, 0).items()},
            "objective": float(self.fit.objective_T[0]),
            "n_points": len(self.points),
            "n_resamples": n_resamples,
            "converged": float(self.fit.resamples_converged_T[0]),
            "seconds": self.fit.seconds,
            "flags": self.flags(),
            "settings": self._settings(),
        }

    def _settings(self) -> dict:
        """The items that a report of a scaling law must state (Li et al. 2025, "(Mis)fitting")."""
        points = self.points
        return {
            "form": self.law.formula,
            "source": self.law.source,
            "units": {p.name: p.unit for p in self.law.params},
            "bounds": {p.name: [b if np.isfinite(b) else None for b in p.bounds] for p in self.law.params},
            "objective": "sum of Huber(ln y - ln law)" if self.law.log_space else "sum of Huber(y - law)",
            "huber_delta": self.delta,
            "solver": f"{SOLVER}, float64 (resamples {self.precision}), bounds by reparametrisation",
            "overestimate_penalty": self.over,
            "weighted": points.weights_n is not None,
            "starts": self.n_starts,
            "starts_agree": float(self.fit.agree_T[0]),
            "table": points.source,
            "n_convention": points.n_convention,
            "derived": [points.derived[name] for name in self.law.features if name in points.derived],
            "left_out": list(points.left_out),
            "run_noise": float(self.fit.noise_T[0]),
            "resampling": self.fit.method,
            "units_resampled": self.units,
            "seed": self.seed,
            "interval": f"{LEVEL:.0%}, Wald with Student's t and the resamples' error, of scales in their logarithm",
        }


def fit(
    points: LossPoints,
    law: str = "chinchilla",
    *,
    delta: float = HUBER,
    n_resamples: int = 4000,
    seed: int = 0,
    resamples_Rn: np.ndarray | None = None,
    over: float = 1.0,
    grid: bool = False,
    precision: str = "float64",
) -> LossFit:
    """Fit a law of LAWS by its name. resamples_Rn: see bootstrap.fit.

    over: how much more a point below the law counts than one above: runs that were tuned badly or stopped too soon lie
    above what their size can reach (OLMo-core's overestimate_penalty). grid: from the published 4,500 starts.
    precision: of the resamples; float32 is for accelerators without float64, and is refused where it differs.
    Raises InputError where there is no such law or the points lack what it needs.
    """
    known = [name for name, of in LAWS.items() if set(of.features) <= FEATURES]
    if law not in known:
        raise InputError(f"--law {law!r}: no such law of the loss; there are: {', '.join(known)}")
    if not delta > 0:
        raise InputError(f"--huber {delta:g}: must be positive")
    if n_resamples < 2:
        raise InputError(f"--bootstrap {n_resamples}: a standard error needs at least 2 resamples")
    if not over > 0:
        raise InputError(f"--overestimate-penalty {over:g}: must be positive")
    if grid and law != "chinchilla":
        raise InputError(f"--starts grid: Hoffmann et al. 2022 have one for chinchilla, not for {law}")
    form = LAWS[law]
    missing = [name for name in form.features if name not in points.features]
    if missing:
        raise InputError(
            f"{points.source}: {law} needs {', '.join(missing)}, and the table has {', '.join(points.features)};"
            " name its columns with --n, --d, --c, --s (steps), --b (tokens of a batch), --u (unique tokens), --t"
            " (position)"
        )
    fitted = bootstrap.fit(
        form,
        {k: points.features[k] for k in form.features},
        points.y_n,
        delta=delta,
        weights_Tn=None if points.weights_n is None else points.weights_n[None],
        groups_n=points.groups_n,
        n_starts=published_grid() if grid else bootstrap.N_STARTS,
        over=over,
        method="auto" if over == 1 else "pairs",
        n_resamples=n_resamples,
        seed=seed,
        resamples_Rn=resamples_Rn,
        iterations=ITERATIONS,
        solver=SOLVER,
        dtype={"float64": np.float64, "float32": np.float32}[precision],
        # From many runs a resample's optimum lies near the fit's; on few it may lie on a bound.
        resample_starts=0 if len(np.unique(points.groups_n)) >= FEW_UNITS else bootstrap.N_RESAMPLE_STARTS,
    )
    return LossFit(form, points, fitted, delta, seed, over, N_GRID if grid else bootstrap.N_STARTS, precision)


N_GRID = 4500


def published_grid() -> dict[str, np.ndarray]:
    """The 4,500 starts of Hoffmann et al. 2022, approach 3, as natural parameters.

    Exponents of 0 and 2 are moved inside our bounds of them, from which no gradient leads away.
    """
    exponents, log_scales = np.clip(np.linspace(0, 2, 5), 0.01, 1.99), np.arange(0, 30, 5)
    grid = np.meshgrid(exponents, exponents, np.linspace(-1, 1, 5), log_scales, log_scales)
    alpha, beta, e, a, b = (values.ravel() for values in grid)
    return {"E": np.exp(e), "A": np.exp(a), "alpha": alpha, "B": np.exp(b), "beta": beta}
