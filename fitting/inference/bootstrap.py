"""Fit a law to many tasks at once, with resamples: standard errors, confidence, prediction.

Two ways to resample. *Pairs*: runs (or groups of runs) are drawn with replacement, as integer
weights; needs many runs. *Residuals*: new observations are simulated around the fitted law, which
also works for a ladder of 12 runs, where drawing runs would leave two sizes and no law. In it

- the noise is estimated with the degrees of freedom that the fit has used up (a law of 5 parameters
  through 12 points looks better than it is), and its own uncertainty is drawn too, so that small
  ladders get the wider tails of Student's t;
- branches of one trunk share part of their noise, so that 4 trunks do not pass for 12 runs.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np

from fitting.errors import InputError
from fitting.inference import precision
from fitting.inference.noise import noise_draws, run_noise, simulated_lanes
from fitting.laws.base import Law
from fitting.solvers.batch import LEVENBERG_MARQUARDT, MAX_ITERATIONS, solve
from fitting.solvers.objective import errors, huber, residuals

N_STARTS = 24
# By Levenberg-Marquardt the fit itself (not its resamples) is taken up again from its optimum so many times: in a flat
# valley the objective is right to 1e-8 long before the parameters are.
REFINEMENTS = 3
# Points are filled up to a multiple of this with points of weight 0, so that ladders of about the same
# size share one compilation.
PAD = 16
# Starts of a resample: the optimum of all points, and these (one on a bound, one inside).
N_RESAMPLE_STARTS = 2
# Pairs are drawn only from this many units; with fewer, a resample loses what identifies the law.
MIN_PAIRS_UNITS = 20
# Allowance for a wrong form: standard deviation of ln y for each e-fold beyond the largest run.
FORM_SD = 0.005


@dataclass(frozen=True)
class Fit:
    """A law fitted to T tasks; row 0 of the resample axis of params_TRP is the fit itself.

    params_TRP: [T, 1 + R, P] fit coordinates. centre: law.scale's numbers, arrays [T, 1].
    noise_T: standard deviation of a run around the law (ln y or y), dof_T the degrees of freedom it
    was estimated with. noise_TR: the noise drawn for each resample. objective_T: sum of Huber(u).
    converged_T: the fit; resamples_converged_T: share. agree_T: share of starts at the optimum.
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
        """[T, 1 + R, m] of the law at features {name: [m]} or {name: [T, m]}, in units of y."""
        centre = {k: v[..., None] for k, v in self.centre.items()}  # [T, 1, 1]
        features = {k: np.asarray(v, float) for k, v in features.items()}
        features = {k: v[:, None, :] if v.ndim == 2 else v for k, v in features.items()}
        x = self.law.coordinates(features, centre)
        with jax.enable_x64(True):
            y = _form(self.law, self.params_TRP[:, :, None, :], x)
        return np.asarray(y) * centre["y"]

    def at_bound(self, task: int) -> list[str]:
        """Names of the parameters whose fitted value lies on a bound."""
        on = self.law.on_bound(self.params_TRP[task, 0])
        return [p.name for p, is_on in zip(self.law.params, on, strict=True) if is_on]


# A group of this name is no measurement but an assumption (the anchor of step 2): every resample holds it once.
ALWAYS = "always"


def resample_weights(groups_n, n_resamples: int, seed: int, min_groups: int = 3) -> np.ndarray:
    """int[R, n]: how often each row is drawn when whole groups are drawn with replacement.

    groups_n: the label of each row's unit (run, trunk); a row of ALWAYS is in every resample. A draw with
    fewer than min_groups distinct groups is drawn again, since no law could be fitted to it.
    """
    groups_n = np.asarray(groups_n)
    always_n = groups_n == ALWAYS
    if always_n.any():
        weights_Rn = np.ones((n_resamples, len(groups_n)), int)
        weights_Rn[:, ~always_n] = resample_weights(groups_n[~always_n], n_resamples, seed, min_groups)
        return weights_Rn
    labels, group_n = np.unique(groups_n, return_inverse=True)
    if len(labels) < min_groups:
        raise InputError(f"{len(labels)} groups to resample; at least {min_groups} are needed")
    rng = np.random.default_rng(seed)
    counts_RG = np.zeros((n_resamples, len(labels)), int)
    todo = np.arange(n_resamples)
    while todo.size:
        draws = rng.integers(len(labels), size=(todo.size, len(labels)))
        counts_RG[todo] = np.apply_along_axis(np.bincount, 1, draws, minlength=len(labels))
        todo = todo[(counts_RG[todo] > 0).sum(axis=1) < min_groups]
    return counts_RG[:, group_n]


def interval(draws, level: float, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Central interval of draws that holds `level` of them."""
    tail = (1 - level) / 2
    return np.quantile(draws, tail, axis=axis), np.quantile(draws, 1 - tail, axis=axis)


def point_interval(draws_R: np.ndarray, point: float, level: float = 0.8) -> list[float]:
    """[lo, hi] of a prediction; never without the point itself."""
    lo, hi = interval(draws_R, level)
    return [min(float(lo), point), max(float(hi), point)]


def fit(
    law: Law,
    features: dict,
    y_Tn: np.ndarray,
    *,
    delta: float,
    weights_Tn: np.ndarray | None = None,
    groups_n: np.ndarray | None = None,
    n_resamples: int = 400,
    seed: int = 0,
    method: str = "auto",
    resamples_Rn: np.ndarray | None = None,
    noise_floor: float = 0.0,
    n_starts: int | dict = N_STARTS,
    over: float | None = None,
    resample_starts: int = N_RESAMPLE_STARTS,
    iterations: int = MAX_ITERATIONS,
    solver: str = LEVENBERG_MARQUARDT,
    dtype: type = np.float64,
) -> Fit:
    """Fit one law to T tasks on the same n points (weight 0: the task lacks the point).

    features: {name: [n] or [T, n]}. delta: Huber's threshold (in ln y where the law says so). groups_n: unit of each
    point that shares noise (the trunk); default: every point its own. method: "residuals", "pairs", or "auto" (pairs
    from 20 units on). resamples_Rn: how often each resample holds each point, instead of drawing n_resamples of them.
    noise_floor: smallest standard deviation to believe. n_starts: so many from the data, or natural parameters
    {name: [S]}. over: of points below the law (see law.residuals); but for 1 it needs pairs, as simulated noise is
    symmetric. resample_starts: beside all points' optimum. iterations, solver, dtype (of resamples): see solve.
    """
    n_resamples = n_resamples if resamples_Rn is None else len(resamples_Rn)
    features, y_Tn, weights_Tn, groups_n, resamples_Rn = _filled_up(features, y_Tn, weights_Tn, groups_n, resamples_Rn)
    points_T = _checked(law, (weights_Tn > 0).sum(axis=1), n_resamples)
    rng = np.random.default_rng(seed)
    problem = _problem(law, delta, over, iterations, solver)
    centre, lanes, starts_TSP = _prepare(law, features, y_Tn, weights_Tn, n_starts, rng)
    first, best = _optimum(starts_TSP, weights_Tn, lanes, problem)
    noise_T, dof_T = run_noise(law, best.params_RP, lanes, weights_Tn, groups_n, noise_floor)
    noise_TR = noise_draws(noise_T, dof_T, n_resamples, rng)
    method = _chosen(method, groups_n, resamples_Rn)
    if method == "residuals":
        lanes = simulated_lanes(law, best.params_RP, lanes, noise_TR, groups_n, rng)
    weights_Rn = _drawn(weights_Tn, method, groups_n, n_resamples, seed, resamples_Rn)
    starts_TSP = np.concatenate([best.params_RP[:, None], starts_TSP[:, :resample_starts]], axis=1)
    drawn = _resampled(law, centre, dtype, starts_TSP, weights_Rn, lanes, problem)
    return Fit(
        law=law,
        centre=centre,
        params_TRP=np.concatenate([best.params_RP[:, None], drawn.params_RP.reshape(*noise_TR.shape, -1)], axis=1),
        points_T=points_T,
        noise_T=noise_T,
        dof_T=dof_T,
        noise_TR=noise_TR,
        objective_T=best.objective_R * delta**2,
        converged_T=best.converged_R,
        resamples_converged_T=drawn.converged_R.reshape(noise_TR.shape).mean(axis=1),
        agree_T=first.agree_R,
        method=method,
        seconds={k: first.seconds[k] + drawn.seconds[k] for k in first.seconds},
    )


def _chosen(method: str, groups_n: np.ndarray, resamples_Rn: np.ndarray | None) -> str:
    if resamples_Rn is not None:
        return "given"
    if method != "auto":
        return method
    return "pairs" if len(np.unique(groups_n)) >= MIN_PAIRS_UNITS else "residuals"


def _drawn(weights_Tn, method: str, groups_n, n_resamples: int, seed: int, given_Rn) -> np.ndarray:
    """[T * R, n]: the weight of each point in each resample."""
    times_Rn = np.ones((n_resamples, 1)) if given_Rn is None else given_Rn
    times_Rn = resample_weights(groups_n, n_resamples, seed) if method == "pairs" else times_Rn
    return (weights_Tn[:, None] * times_Rn).reshape(-1, weights_Tn.shape[1])


def _filled_up(features, y_Tn, weights_Tn, groups_n, resamples_Rn):
    """The arguments of `fit` as arrays over a multiple of PAD points."""
    y_Tn = np.atleast_2d(np.asarray(y_Tn, float))
    weights_Tn = np.ones_like(y_Tn) if weights_Tn is None else np.asarray(weights_Tn, float)
    groups_n = np.arange(y_Tn.shape[1]) if groups_n is None else np.asarray(groups_n)
    features = {k: np.broadcast_to(np.asarray(v, float), y_Tn.shape) for k, v in features.items()}
    pad = 0, -y_Tn.shape[1] % PAD
    features = {k: np.pad(v, ((0, 0), pad), mode="edge") for k, v in features.items()}
    y_Tn, groups_n = np.pad(y_Tn, ((0, 0), pad), mode="edge"), np.pad(groups_n, pad, mode="edge")
    resamples_Rn = None if resamples_Rn is None else np.pad(resamples_Rn, ((0, 0), pad))
    return features, y_Tn, np.pad(weights_Tn, ((0, 0), pad)), groups_n, resamples_Rn


def _checked(law: Law, points_T: np.ndarray, n_resamples: int) -> np.ndarray:
    needed = len(law.params) + 1
    if points_T.min() < needed:
        raise InputError(
            f"{law.name} has {len(law.params)} parameters and needs at least {needed} points;"
            f" there are {points_T.min()}"
        )
    if n_resamples < 1:
        raise InputError(f"{n_resamples} resamples: at least 1 is needed")
    return points_T


def extrapolation_sd(features: dict, target: dict) -> float:
    """Allowance for a wrong form, growing with the distance beyond the largest run (ln y).

    FORM_SD for every e-fold by which the target exceeds the ladder, in N and in D.
    """
    beyond = [np.log(target[k] / np.max(v)) for k, v in features.items()]
    return FORM_SD * sum(max(0.0, float(b)) for b in beyond)


def predictive(fitted: Fit, target: dict, form_sd: float, seed: int = 0) -> np.ndarray:
    """[T, R] draws of what one run at target {name: number} will measure, in units of y.

    Three sources: the resampled parameters, the noise of a run, and form_sd.
    """
    rng = np.random.default_rng([seed, 1])
    y_TR = fitted.predict({k: [v] for k, v in target.items()})[:, 1:, 0]
    shift_TR = fitted.noise_TR * rng.standard_normal(y_TR.shape)
    shift_TR += form_sd * rng.standard_normal(y_TR.shape)
    return y_TR * np.exp(shift_TR) if fitted.law.log_space else y_TR + shift_TR


def _prepare(law, features, y_Tn, weights_Tn, wanted, rng):
    """Fit coordinates of every task: (centre {name: [T, 1]}, lanes {name: [T, n]}, starts_TSP).

    wanted: a number of starts, or their natural parameters.
    """
    centres, starts = [], []
    for t, weights_n in enumerate(weights_Tn):
        has = weights_n > 0
        at = {k: v[t, has] for k, v in features.items()}
        centres.append(law.scale(at, y_Tn[t, has]))
        x = law.coordinates(at, centres[-1])
        given = isinstance(wanted, dict)
        y = y_Tn[t, has] / centres[-1]["y"]
        starts.append(law.theta(wanted, centres[-1]) if given else law.starts(x, y, wanted, rng))
    centre = {k: np.array([[c[k]] for c in centres]) for k in centres[0]}
    lanes = law.coordinates(features, centre) | {"y": y_Tn / centre["y"]}
    # A point that a task lacks has weight 0, but its residual must still be a number.
    lanes = {k: np.where(weights_Tn > 0, v, 1.0) for k, v in lanes.items()}
    return centre, lanes, np.stack(starts)


def _problem(law: Law, delta: float, over: float | None, iterations: int, solver: str) -> dict:
    """What solve needs for the sum of Huber's losses."""
    data = {"delta": delta} | ({} if over is None else {"over": over})
    problem = {"data": data, "bounds": law.bounds, "max_iterations": iterations, "method": solver}
    if solver == LEVENBERG_MARQUARDT:
        return problem | {"per_point": residuals(law)}
    return problem | {"per_point": errors(law), "loss": huber}


def _optimum(starts_TSP, weights_Tn, lanes, problem):
    """-> (Solution of all starts, Solution taken up again from its optimum until nothing moves)."""
    first = best = solve(starts=starts_TSP, weights_Rn=weights_Tn, lanes=lanes, **problem)
    for _ in range(REFINEMENTS if problem["method"] == LEVENBERG_MARQUARDT else 0):
        best = solve(starts=best.params_RP[:, None], weights_Rn=weights_Tn, lanes=lanes, **problem)
    return first, best


def _resampled(law, centre, dtype, starts_TSP, weights_Rn, lanes, problem):
    """Solution of all resamples; lanes short of an optimum go on from where they stand, and from there with E = 0.

    Raises InputError where dtype is float32 and would not do.
    """
    drawn = solve(starts=starts_TSP, weights_Rn=weights_Rn, lanes=lanes, dtype=dtype, **problem)
    if dtype == np.float32:
        precision.refuse_unlike(law, centre, drawn.params_RP, starts_TSP, weights_Rn, lanes, problem)
        return drawn
    lane_L = np.flatnonzero(~drawn.converged_R)
    if not len(lane_L):
        return drawn
    own_LP = drawn.params_RP[lane_L]
    starts = [own_LP, law.without_floor(own_LP)] if law.has_floor else [own_LP]
    lanes_L = {k: v[lane_L // (len(weights_Rn) // len(v))] for k, v in lanes.items()}
    again = solve(starts=np.stack(starts, 1), weights_Rn=weights_Rn[lane_L], lanes=lanes_L, **problem)
    better_L = again.objective_R <= drawn.objective_R[lane_L]
    params_RP, converged_R = drawn.params_RP.copy(), drawn.converged_R.copy()
    params_RP[lane_L[better_L]], converged_R[lane_L[better_L]] = again.params_RP[better_L], again.converged_R[better_L]
    seconds = {k: drawn.seconds[k] + again.seconds[k] for k in drawn.seconds}
    return replace(drawn, params_RP=params_RP, converged_R=converged_R, seconds=seconds)


@partial(jax.jit, static_argnums=0)
def _form(law: Law, params, x):
    return law.form(params, x)
