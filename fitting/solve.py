"""Non-linear least squares for many small problems at once: the only file that knows jaxopt.

A *lane* is one problem: one start of one task or one resample. All lanes are cut into chunks of
equal size (one compilation serves them all; 250-500 lanes were fastest on 2 cores) and solved by
jaxopt's Levenberg-Marquardt, vmapped, in float64; a polish by damped Newton steps finds the floor of a
flat valley, where Levenberg-Marquardt creeps. Bounds are kept by reparametrising, so a lane creeps
towards a bound for hundreds of iterations; a start that lies on a bound stays there, and one such start
for each likely bound makes the creeping lanes superfluous.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

with warnings.catch_warnings():  # "JAXopt is no longer maintained": known, and why it lives here
    warnings.simplefilter("ignore", DeprecationWarning)
    from jaxopt import LevenbergMarquardt

NAME = "jaxopt LevenbergMarquardt, float64, bounds by reparametrisation"
POLISHED = "jaxopt LevenbergMarquardt, then damped Newton, float64, bounds by reparametrisation"
CHUNK = 256
MAX_ITERATIONS = 80
# With a polish: iterations of Levenberg-Marquardt, which then only has to find the valley, and of Newton's method.
SEARCH, POLISH = 20, 60
# Converged: a further Newton step promises less than this share of the objective. They go on to the second.
DECREMENT, EXACT = 1e-7, 1e-12
# Of Newton's steps: smallest damping of a flat direction, and the damping at which no step helps any more.
RIDGE, MAX_DAMPING = 1e-9, 1e8
# Beyond this range exp() and softplus() leave float64.
FREE_LIMIT = 40.0

Residuals = Callable[[jax.Array, dict, dict], jax.Array]


@dataclass(frozen=True)
class Solution:
    """The best start of each of R problems.

    params_RP: parameters within their bounds. objective_R: half the weighted sum of squared
    residuals. converged_R: whether a further step promises nothing. agree_R: share of a problem's
    starts that came within 1 % of its best objective; low where there are many basins.
    seconds: {"compile", "run"}.
    """

    params_RP: np.ndarray
    objective_R: np.ndarray
    converged_R: np.ndarray
    agree_R: np.ndarray
    seconds: dict


def solve(
    residuals: Residuals,
    starts: np.ndarray,
    *,
    data: dict,
    weights_Rn: np.ndarray,
    lanes: dict | None = None,
    bounds: tuple[tuple[float, float], ...],
    max_iterations: int = MAX_ITERATIONS,
    polish: int = 0,
) -> Solution:
    """Minimise 1/2 sum_n weights_n residuals_n(params)^2 for R problems from S starts each.

    residuals(params_P, data, lane) -> r_n: a module-level or cached function (it is the key of the
    compilation cache). starts: [S, P] for all problems, or [G, S, P]. data: arrays that all
    problems share. lanes: arrays with a leading axis G, where G divides R: entry g serves R/G
    consecutive problems (all resamples of one task, say). weights_Rn: >= 0; integer counts make a
    bootstrap resample. bounds: (lo, hi) of each parameter, infinite where there is none. polish: Newton
    steps at most, after max_iterations of Levenberg-Marquardt.
    """
    n_problems = len(weights_Rn)
    starts = np.asarray(starts, np.float64)
    starts_GSP = _to_free(starts if starts.ndim == 3 else starts[None], bounds)
    n_starts, n_params = starts_GSP.shape[1:]
    lanes = {k: np.asarray(v, np.float64) for k, v in (lanes or {}).items()}
    data = {k: np.asarray(v, np.float64) for k, v in data.items()}
    shapes = _shapes(data), _shapes(lanes, 1), np.shape(weights_Rn)[1:], n_params
    misses = _executable.cache_info().misses
    search, seconds_compile = _executable(residuals, tuple(bounds), max_iterations, polish, shapes)
    if _executable.cache_info().misses == misses:
        seconds_compile = 0.0

    def serving(array, problem_L):
        return array[problem_L // (n_problems // len(array))]

    def search_lanes(lane_L):
        problem_L = lane_L // n_starts
        start_LP = serving(starts_GSP, problem_L)[np.arange(CHUNK), lane_L % n_starts]
        lanes_L = {k: serving(v, problem_L) for k, v in lanes.items()}
        return search(start_LP, data, lanes_L, np.asarray(weights_Rn[problem_L], np.float64))

    began = time.perf_counter()
    params_LP, objective_L, converged_L = _in_chunks(search_lanes, n_problems * n_starts)
    objective_RS = objective_L.reshape(n_problems, n_starts)
    objective_RS = np.where(np.isfinite(objective_RS), objective_RS, np.inf)
    best = np.arange(n_problems), objective_RS.argmin(axis=1)
    objective_R = objective_RS[best]
    return Solution(
        params_LP.reshape(n_problems, n_starts, n_params)[best],
        objective_R,
        converged_L.reshape(n_problems, n_starts)[best],
        (objective_RS <= 1.01 * objective_R[:, None] + 1e-12).mean(axis=1),
        {"compile": seconds_compile, "run": time.perf_counter() - began},
    )


def _in_chunks(call, n_lanes: int) -> list[np.ndarray]:
    """Call with CHUNK lane numbers at a time (the last chunk repeats a lane); join the outputs."""
    chunks = []
    for first in range(0, n_lanes, CHUNK):
        with jax.enable_x64(True):
            chunks.append(call(np.minimum(np.arange(first, first + CHUNK), n_lanes - 1)))
    return [np.concatenate(parts)[:n_lanes] for parts in zip(*chunks, strict=True)]


def _shapes(arrays: dict, skip: int = 0) -> tuple:
    return tuple((k, v.shape[skip:]) for k, v in sorted(arrays.items()))


@lru_cache(maxsize=32)
def _executable(residuals: Residuals, bounds: tuple, max_iterations: int, polish: int, shapes: tuple):
    """Compile the solver of one chunk of lanes; -> (executable, seconds)."""

    def weighted(free_P, data, lane, weights_n):
        return jnp.sqrt(weights_n) * residuals(_from_free(free_P, bounds), data, lane)

    # LU, not Cholesky: near a bound the normal matrix is singular to rounding, and jaxopt turns
    # Cholesky's NaN into a dead lane where LU's bad step is merely refused.
    solver = LevenbergMarquardt(
        weighted,
        maxiter=max_iterations,
        damping_parameter=1e-3,
        tol=1e-7,
        solver="lu",
        materialize_jac=True,
        implicit_diff=False,
    )

    def one(start_P, data, lane, weights_n):
        def objective(free_P):
            return 0.5 * jnp.sum(weighted(free_P, data, lane, weights_n) ** 2)

        free_P, state = solver.run(start_P, data, lane, weights_n)
        if polish:
            free_P, value, decrement = _newton(objective, free_P, polish)
        else:
            ridge_PP = 1e-10 * jnp.trace(state.jtj) * jnp.eye(free_P.size)
            value = state.value
            decrement = 0.5 * state.gradient @ jnp.linalg.solve(state.jtj + ridge_PP, state.gradient)
        # The Newton decrement has the scale of the objective and does not see flat directions (a
        # parameter on its bound); the norm of the gradient has neither virtue.
        return _from_free(free_P, bounds), value, decrement <= DECREMENT * value + 1e-12

    data_shapes, lane_shapes, weights_shape, n_params = shapes
    began = time.perf_counter()
    with jax.enable_x64(True):

        def spec(shape):
            return jax.ShapeDtypeStruct(shape, jnp.float64)

        lowered = jax.jit(jax.vmap(one, in_axes=(0, None, 0, 0))).lower(
            spec((CHUNK, n_params)),
            {k: spec(s) for k, s in data_shapes},
            {k: spec((CHUNK, *s)) for k, s in lane_shapes},
            spec((CHUNK, *weights_shape)),
        )
        return lowered.compile(), time.perf_counter() - began


def _newton(objective: Callable, start_P: jax.Array, max_iterations: int):
    """Damped Newton steps -> (point, its objective, the Newton decrement: what a further step promises to take off)."""

    def gradient(free_P):
        value, gradient_P = jax.value_and_grad(objective)(free_P)
        return gradient_P, (value, gradient_P)

    def step(state):
        iteration, damping, trial_P, best, _ = state
        hessian_PP, (value, gradient_P) = jax.jacfwd(gradient, has_aux=True)(trial_P)
        better = value < best[1]
        best = jax.tree.map(partial(jnp.where, better), (trial_P, value, gradient_P, hessian_PP), best)
        damping = jnp.where(better, damping / 10, damping * 8)
        point_P, _, gradient_P, hessian_PP = best
        # Curvature may be negative off the optimum, and is zero along a parameter on its bound.
        scale_P = jnp.abs(jnp.diag(hessian_PP)) + RIDGE * jnp.trace(jnp.abs(hessian_PP))
        step_P = jnp.linalg.solve(hessian_PP + damping * jnp.diag(scale_P), gradient_P)
        return iteration + 1, damping, point_P - step_P, best, jnp.abs(gradient_P @ step_P) / 2

    def goes_on(state):
        iteration, damping, _, best, promise = state
        return (iteration <= max_iterations) & (promise > EXACT * best[1]) & (damping < MAX_DAMPING)

    nowhere = start_P, jnp.finfo(start_P.dtype).max, jnp.zeros_like(start_P), jnp.eye(start_P.size)
    state = jax.lax.while_loop(goes_on, step, (0, 1e-2, start_P, nowhere, jnp.inf))
    return *state[3][:2], state[4]


def _from_free(free_P: jax.Array, bounds: tuple) -> jax.Array:
    """Unconstrained -> within bounds: identity, softplus, or a scaled logistic function."""
    columns = []
    for z, (lo, hi) in zip(jnp.unstack(free_P, axis=-1), bounds, strict=True):
        z = jnp.clip(z, -FREE_LIMIT, FREE_LIMIT)
        if np.isfinite(lo) and np.isfinite(hi):
            columns.append(lo + (hi - lo) * jax.nn.sigmoid(z))
        elif np.isfinite(lo):
            columns.append(lo + jax.nn.softplus(z))
        elif np.isfinite(hi):
            columns.append(hi - jax.nn.softplus(z))
        else:
            columns.append(z)
    return jnp.stack(columns, axis=-1)


def _to_free(params: np.ndarray, bounds: tuple) -> np.ndarray:
    """Inverse of _from_free. A start on a bound stays there: its gradient is zero (FREE_LIMIT)."""
    columns = []
    for x, (lo, hi) in zip(np.moveaxis(params, -1, 0), bounds, strict=True):
        with np.errstate(divide="ignore"):
            if np.isfinite(lo) and np.isfinite(hi):
                columns.append(np.log(np.maximum(x - lo, 0)) - np.log(np.maximum(hi - x, 0)))
            elif np.isfinite(lo):
                columns.append(_inverse_softplus(np.maximum(x - lo, 0)))
            elif np.isfinite(hi):
                columns.append(_inverse_softplus(np.maximum(hi - x, 0)))
            else:
                columns.append(x)
    return np.clip(np.stack(columns, axis=-1), -FREE_LIMIT, FREE_LIMIT)


def _inverse_softplus(x: np.ndarray) -> np.ndarray:
    return x + np.log(-np.expm1(-x))
