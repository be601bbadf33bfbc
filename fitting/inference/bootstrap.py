"""Fit a law to many tasks at once, with resamples of each fit.

There are two ways to resample. *Pairs*: runs (or groups of runs) are drawn with replacement, as integer weights; this
needs many runs. *Residuals*: new observations are simulated around the fitted law. This also works for a ladder of 12
runs, of which a draw would often hold two sizes only, too few to fit the law. In simulations

- the noise estimate allows for the degrees of freedom that the fit uses (a law of 5 parameters leaves small residuals
  at 12 points), and its own uncertainty is drawn too, so that small ladders get the wider tails of Student's t;
- branches of one trunk share part of their noise, so that 12 branches of 4 trunks do not count as 12 independent runs.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import jax
import numpy as np

from fitting.errors import InputError, check_resamples, check_seed
from fitting.inference import precision
from fitting.inference.noise import noise_draws, run_noise, simulated_lanes
from fitting.laws.base import NO_E, Law
from fitting.solvers.batch import LEVENBERG_MARQUARDT, MAX_ITERATIONS, entries, solve
from fitting.solvers.objective import errors, huber, residuals

N_STARTS = 24
# How often the fit by Levenberg-Marquardt (not its resamples) is restarted from its optimum: in a flat valley the
# objective is right to 1e-8 long before the parameters are.
REFINEMENTS = 3
# Points of weight 0 are added up to a multiple of this, so that ladders of similar size share a compilation.
PAD = 16
# Starts of a resample in addition to the optimum of all points: one on a bound, one inside.
N_RESAMPLE_STARTS = 2
# Pairs are drawn only from at least this many units; with fewer, a resample may not determine the law.
MIN_PAIRS_UNITS = 20


@dataclass(frozen=True)
class Solver:
    """How the weighted sum of Huber losses is minimised.

    delta: Huber's threshold, in ln y if the law is fitted in log space, else in units of the law's centre. iterations:
    at most. starts: how many to take from the law, or natural parameters {name: [S]}. resample_starts: how many a
    resample has in addition to the optimum of all points. overestimate_penalty: weight of a point below the law
    relative to one above (None: 1); if it is not 1, resample pairs, because simulated noise is symmetric. dtype: of the
    resamples (see solvers.batch).
    """

    delta: float
    method: str = LEVENBERG_MARQUARDT
    iterations: int = MAX_ITERATIONS
    starts: int | dict = N_STARTS
    resample_starts: int = N_RESAMPLE_STARTS
    overestimate_penalty: float | None = None
    dtype: type = np.float64


@dataclass(frozen=True)
class Resampling:
    """How many resamples, and how they are drawn.

    method: "residuals", "pairs", or "auto": pairs if there are at least 20 units. given_Rn: how often each resample
    holds each point, instead of n drawn ones. noise_floor: lower bound of the run-to-run standard deviation.
    """

    n: int = 400
    seed: int = 0
    method: Literal["auto", "pairs", "residuals"] = "auto"
    given_Rn: np.ndarray | None = None
    noise_floor: float = 0.0

    def __post_init__(self):
        check_seed(self.seed)
        check_resamples(self.n, 0)


@dataclass(frozen=True)
class Fit:
    """A law fitted to T tasks.

    params_TRP: [T, 1 + R, P] fit coordinates; row 0 of the second axis is the fit, the others are its resamples.
    centre: {name: [T, 1]}, see laws.base.Law. points_T: how many points. noise_T: standard deviation of a run around
    the law (of ln y or y); dof_T: degrees of freedom of that estimate; noise_TR: the noise drawn for each resample.
    objective_T: sum of Huber losses. converged_T: whether the fit converged; resamples_converged_T: share of resamples
    that did. agree_T: share of starts that reached the optimum. method: how resamples were drawn ("pairs", "residuals"
    or "given"). seconds: {"compile", "run"}.
    """

    law: Law
    centre: dict
    params_TRP: np.ndarray
    points_T: np.ndarray
    noise_T: np.ndarray
    dof_T: np.ndarray
    noise_TR: np.ndarray
    objective_T: np.ndarray
    converged_T: np.ndarray
    resamples_converged_T: np.ndarray
    agree_T: np.ndarray
    method: str
    seconds: dict

    def params(self, task: int) -> dict:
        """Natural parameters of one task's fit, {name: number}."""
        return {k: float(v[0]) for k, v in self.natural(task).items()}

    def resampled(self, task: int) -> dict:
        """Natural parameters of one task's resamples, {name: [R]}."""
        return {k: v[1:] for k, v in self.natural(task).items()}

    def natural(self, task: int) -> dict:
        """Natural parameters of one task, {name: [1 + R]}; row 0 is the fit."""
        centre = {k: v[task] for k, v in self.centre.items()}
        return self.law.natural(self.params_TRP[task], centre)

    def predict(self, features: dict) -> np.ndarray:
        """Values of the law, [T, 1 + R, m], at features {name: [m]} or {name: [T, m]}. Row 0 of 1 + R is the fit."""
        centre = {k: v[..., None] for k, v in self.centre.items()}  # [T, 1, 1]
        features = {k: np.expand_dims(np.asarray(v, float), -2) for k, v in features.items()}  # [T, 1, m] or [1, m]
        x = self.law.coordinates(features, centre)
        with jax.enable_x64(True):
            y = _form(self.law, self.params_TRP[:, :, None, :], x)
        return np.asarray(y) * centre["y"]

    def at_bound(self, task: int) -> list[str]:
        """Names of the parameters whose fitted value is on a bound."""
        on = self.law.on_bound(self.params_TRP[task, 0])
        return [p.name for p, is_on in zip(self.law.params, on, strict=True) if is_on]


def resample_weights(groups_n, n_resamples: int, seed: int, min_groups: int = 3) -> np.ndarray:
    """int[R, n]: how often each row is drawn when whole groups are drawn with replacement.

    groups_n: the label of each row's group (its run or trunk). A draw with fewer than min_groups distinct groups is
    drawn again, because no law could be fitted to it. Raises InputError if there are fewer groups.
    """
    check_seed(seed)
    check_resamples(n_resamples)
    groups_n = np.asarray(groups_n)
    labels, group_n = np.unique(groups_n, return_inverse=True)
    if len(labels) < min_groups:
        raise InputError(f"{len(labels)} groups to resample; at least {min_groups} are needed")
    rng = np.random.default_rng(seed)
    counts_RG = np.zeros((n_resamples, len(labels)), int)
    to_draw = np.arange(n_resamples)
    while to_draw.size:
        draws = rng.integers(len(labels), size=(to_draw.size, len(labels)))
        counts_RG[to_draw] = np.apply_along_axis(np.bincount, 1, draws, minlength=len(labels))
        to_draw = to_draw[(counts_RG[to_draw] > 0).sum(axis=1) < min_groups]
    return counts_RG[:, group_n]


def interval(draws, level: float, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """(lo, hi): the central interval that holds a share `level` of the draws."""
    tail = (1 - level) / 2
    return np.quantile(draws, tail, axis=axis), np.quantile(draws, 1 - tail, axis=axis)


def point_interval(draws_R: np.ndarray, point: float, level: float = 0.8) -> tuple[float, float]:
    """The `interval` of a prediction's draws, widened to hold the predicted point."""
    lo, hi = interval(draws_R, level)
    return min(float(lo), point), max(float(hi), point)


def fit(
    law: Law,
    features: dict,
    y_Tn: np.ndarray,
    *,
    solver: Solver,
    resampling: Resampling,
    weights_Tn: np.ndarray | None = None,
    groups_n: np.ndarray | None = None,
) -> Fit:
    """Fit one law to T tasks on the same n points.

    features: {name: [n] or [T, n]}. weights_Tn: 0 where a task lacks a point. groups_n: points of the same group (the
    branches of a trunk) share noise; by default every point is a group. Raises InputError if a task has too few points.
    """
    given_Rn = resampling.given_Rn
    n_resamples = resampling.n if given_Rn is None else len(given_Rn)
    features, y_Tn, weights_Tn, groups_n, given_Rn = _padded(features, y_Tn, weights_Tn, groups_n, given_Rn)
    points_T = (weights_Tn > 0).sum(axis=1)
    _check(law, points_T.min(), n_resamples)
    rng = np.random.default_rng(resampling.seed)
    problem = _problem(law, solver)
    centre, lanes, starts_TSP = _prepare(law, features, y_Tn, weights_Tn, solver.starts, rng)
    first, best = _optimum(starts_TSP, weights_Tn, lanes, problem)
    noise_T, dof_T = run_noise(law, best.params_RP, lanes, weights_Tn, groups_n, resampling.noise_floor)
    noise_TR = noise_draws(noise_T, dof_T, n_resamples, rng)
    method = _method(resampling, groups_n)
    if method == "residuals":
        lanes = simulated_lanes(law, best.params_RP, lanes, noise_TR, groups_n, rng)
    if method == "pairs":
        given_Rn = resample_weights(groups_n, n_resamples, resampling.seed)
    times_Rn = np.ones((n_resamples, 1)) if given_Rn is None else given_Rn
    weights_Rn = (weights_Tn[:, None] * times_Rn).reshape(-1, weights_Tn.shape[1])
    starts_TSP = np.concatenate([best.params_RP[:, None], starts_TSP[:, : solver.resample_starts]], axis=1)
    resamples = _solve_resamples(law, centre, solver.dtype, starts_TSP, weights_Rn, lanes, problem)
    return Fit(
        law=law,
        centre=centre,
        params_TRP=np.concatenate([best.params_RP[:, None], resamples.params_RP.reshape(*noise_TR.shape, -1)], axis=1),
        points_T=points_T,
        noise_T=noise_T,
        dof_T=dof_T,
        noise_TR=noise_TR,
        objective_T=best.objective_R * solver.delta**2,
        converged_T=best.converged_R,
        resamples_converged_T=resamples.converged_R.reshape(noise_TR.shape).mean(axis=1),
        agree_T=first.agree_R,
        method=method,
        seconds={k: first.seconds[k] + resamples.seconds[k] for k in first.seconds},
    )


def _method(resampling: Resampling, groups_n: np.ndarray) -> str:
    if resampling.given_Rn is not None:
        return "given"
    if resampling.method != "auto":
        return resampling.method
    return "pairs" if len(np.unique(groups_n)) >= MIN_PAIRS_UNITS else "residuals"


def _padded(features, y_Tn, weights_Tn, groups_n, given_Rn):
    """The arguments of `fit` as arrays over a multiple of PAD points."""
    y_Tn = np.atleast_2d(np.asarray(y_Tn, float))
    weights_Tn = np.ones_like(y_Tn) if weights_Tn is None else np.asarray(weights_Tn, float)
    groups_n = np.arange(y_Tn.shape[1]) if groups_n is None else np.asarray(groups_n)
    features = {k: np.broadcast_to(np.asarray(v, float), y_Tn.shape) for k, v in features.items()}
    pad = 0, -y_Tn.shape[1] % PAD
    features = {k: np.pad(v, ((0, 0), pad), mode="edge") for k, v in features.items()}
    y_Tn, groups_n = np.pad(y_Tn, ((0, 0), pad), mode="edge"), np.pad(groups_n, pad, mode="edge")
    given_Rn = None if given_Rn is None else np.pad(given_Rn, ((0, 0), pad))
    return features, y_Tn, np.pad(weights_Tn, ((0, 0), pad)), groups_n, given_Rn


def _check(law: Law, n_points: int, n_resamples: int) -> None:
    n_params = len(law.params)
    if n_points <= n_params:
        raise InputError(
            f"{law.name} has {n_params} parameters and needs at least {n_params + 1} points; there are {n_points}"
        )
    if n_resamples < 1:
        raise InputError(f"{n_resamples} resamples: at least 1 is needed", "resamples")


def _prepare(law, features, y_Tn, weights_Tn, starts, rng):
    """Fit coordinates of every task: (centre {name: [T, 1]}, lanes {name: [T, n]}, starts_TSP)."""
    centres, starts_TSP = [], []
    for t, present in enumerate(weights_Tn > 0):
        features_n, y_n = {k: v[t, present] for k, v in features.items()}, y_Tn[t, present]
        centre = law.scale(features_n, y_n)
        centres.append(centre)
        if isinstance(starts, dict):
            starts_TSP.append(law.theta(starts, centre))
        else:
            starts_TSP.append(law.starts(law.coordinates(features_n, centre), y_n / centre["y"], starts, rng))
    centre = {k: np.array([[c[k]] for c in centres]) for k in centres[0]}
    lanes = law.coordinates(features, centre) | {"y": y_Tn / centre["y"]}
    # A point that a task lacks has weight 0, but its residual must still be finite.
    lanes = {k: np.where(weights_Tn > 0, v, 1.0) for k, v in lanes.items()}
    return centre, lanes, np.stack(starts_TSP)


def _problem(law: Law, solver: Solver) -> dict:
    """The arguments that all calls of `solve` share."""
    penalty = {} if solver.overestimate_penalty is None else {"penalty": solver.overestimate_penalty}
    problem = {"data": {"delta": solver.delta} | penalty, "bounds": law.bounds}
    problem |= {"max_iterations": solver.iterations, "method": solver.method}
    if solver.method == LEVENBERG_MARQUARDT:
        return problem | {"per_point": residuals(law)}
    return problem | {"per_point": errors(law), "loss": huber}


def _optimum(starts_TSP, weights_Tn, lanes, problem):
    """Return the Solution of all starts, and the same after REFINEMENTS from its optimum."""
    first = best = solve(starts=starts_TSP, weights_Rn=weights_Tn, lanes=lanes, **problem)
    for _ in range(REFINEMENTS if problem["method"] == LEVENBERG_MARQUARDT else 0):
        best = solve(starts=best.params_RP[:, None], weights_Rn=weights_Tn, lanes=lanes, **problem)
    return first, best


def _solve_resamples(law, centre, dtype, starts_TSP, weights_Rn, lanes, problem):
    """Solution of all resamples. Those that did not converge continue from where they stopped, with E as it is and 0.

    Raises InputError if dtype is float32 and the results differ from those of float64.
    """
    solution = solve(starts=starts_TSP, weights_Rn=weights_Rn, lanes=lanes, dtype=dtype, **problem)
    if dtype == np.float32:
        precision.refuse_different(law, centre, solution.params_RP, starts_TSP, weights_Rn, lanes, problem)
        return solution
    lane_L = np.flatnonzero(~solution.converged_R)
    if not len(lane_L):
        return solution
    stopped_LP = solution.params_RP[lane_L]
    starts = [stopped_LP]
    if law.params[0].role == "floor":  # the first coordinate is the level that E follows from
        starts.append(np.concatenate([np.full_like(stopped_LP[:, :1], NO_E), stopped_LP[:, 1:]], axis=1))
    lanes_L = {k: entries(v, lane_L, len(weights_Rn)) for k, v in lanes.items()}
    again = solve(starts=np.stack(starts, 1), weights_Rn=weights_Rn[lane_L], lanes=lanes_L, **problem)
    better_L = again.objective_R <= solution.objective_R[lane_L]
    params_RP, converged_R = solution.params_RP.copy(), solution.converged_R.copy()
    params_RP[lane_L[better_L]], converged_R[lane_L[better_L]] = again.params_RP[better_L], again.converged_R[better_L]
    seconds = {k: solution.seconds[k] + again.seconds[k] for k in solution.seconds}
    return replace(solution, params_RP=params_RP, converged_R=converged_R, seconds=seconds)


@partial(jax.jit, static_argnums=0)
def _form(law: Law, params, x):
    return law.form(params, x)
