"""Non-linear least squares for many small problems at once.

A *lane* is one problem: one start of one task or one resample. All lanes are cut into chunks of equal size (one
compilation serves them all) and solved by jaxopt's Levenberg-Marquardt or by damped Newton steps (exact second
derivatives find the floor of a flat valley, where Levenberg-Marquardt creeps), vmapped, in float64; devices share a
chunk's lanes, the host's cores the chunks. As a chunk takes as long as its slowest lane, lanes that need more than a
few iterations are regrouped. Bounds are kept by reparametrising, so a lane creeps towards a bound for hundreds of
iterations; a start that lies on a bound stays there, and one such start for each likely bound makes the creeping lanes
superfluous.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fitting.solvers.bounds import from_free, to_free
from fitting.solvers.levenberg_marquardt import levenberg_marquardt
from fitting.solvers.newton import DECREMENT, newton
from fitting.solvers.objective import PerPoint

LEVENBERG_MARQUARDT, NEWTON = "jaxopt LevenbergMarquardt", "damped Newton"
# The few starts of one fit, some of which take 100 Newton steps, are one chunk.
CHUNK = {LEVENBERG_MARQUARDT: 256, NEWTON: 64}
# Lanes that need more iterations than this (most of Newton's need 5 or 6) are put into new chunks and go on.
STAGES = {LEVENBERG_MARQUARDT: (8, 16, 32), NEWTON: (6,)}
MAX_ITERATIONS = 80
# Levenberg-Marquardt leaves a lane that lacks more of its problem's best, converged lane than so many such promises.
PROMISES = 4.0
# XLA's older emitter compiles the solvers in half to three quarters of the newer one's time, and they run as fast.
QUICK = {"xla_cpu_use_fusion_emitters": False}


@dataclass(frozen=True)
class Solution:
    """The best start of each of R problems.

    params_RP: parameters within their bounds. objective_R: the weighted sum of losses, or of half the
    squared residuals. converged_R: whether a further step promises nothing. agree_R: share of a problem's
    starts that came within 1 % of its best objective, those that were left counted where they stood; low where there
    are many basins. seconds: {"compile", "run"}.
    """

    params_RP: np.ndarray
    objective_R: np.ndarray
    converged_R: np.ndarray
    agree_R: np.ndarray
    seconds: dict


def solve(
    per_point: PerPoint,
    starts: np.ndarray,
    *,
    data: dict,
    weights_Rn: np.ndarray,
    lanes: dict | None = None,
    bounds: tuple[tuple[float, float], ...],
    max_iterations: int = MAX_ITERATIONS,
    method: str = LEVENBERG_MARQUARDT,
    loss: Callable | None = None,
    dtype: type = np.float64,
) -> Solution:
    """Minimise sum_n weights_n loss(per_point(params)_n) for R problems from S starts each.

    per_point(params_P, data, lane) -> numbers [n]: a module-level or cached function (it is the key of the
    compilation cache). loss(numbers, data): half the square for LEVENBERG_MARQUARDT, for NEWTON any that is convex and
    least at 0. starts: [S, P] for all problems, or [G, S, P]. data: arrays that all problems share. lanes: arrays with
    a leading axis G, where G divides R: entry g serves R/G consecutive problems (all resamples of one task, say).
    weights_Rn: >= 0; integer counts make a bootstrap resample. bounds: (lo, hi) of each parameter, infinite where
    there is none. max_iterations: of the last of STAGES. dtype: np.float32 for accelerators without float64, with
    NEWTON.
    """
    n_problems = len(weights_Rn)
    starts = np.asarray(starts, np.float64)
    starts_GSP = to_free(starts if starts.ndim == 3 else starts[None], bounds)
    n_starts, n_params = starts_GSP.shape[1:]
    lanes = {k: np.asarray(v, dtype) for k, v in (lanes or {}).items()}
    data = {k: np.asarray(v, dtype) for k, v in data.items()}
    devices = _devices(dtype)
    shapes = _shapes(data), _shapes(lanes, 1), np.shape(weights_Rn)[1:], n_params
    misses = _executable.cache_info().misses
    search, seconds_compile = _executable(per_point, loss, tuple(bounds), method, dtype, devices, shapes)
    if _executable.cache_info().misses == misses:
        seconds_compile = 0.0

    def serving(array, problem_L):
        return array[problem_L // (n_problems // len(array))]

    def search_lanes(lane_L, free_LP, damping_L, steps):
        problem_L = lane_L // n_starts
        lanes_L = {k: serving(v, problem_L) for k, v in lanes.items()}
        start = free_LP[lane_L].astype(dtype), damping_L[lane_L].astype(dtype)
        return search(*start, data, lanes_L, weights_Rn[problem_L].astype(dtype), np.int32(steps))

    began = time.perf_counter()
    problem_L, start_L = np.divmod(np.arange(n_problems * n_starts), n_starts)
    free_LP = serving(starts_GSP, problem_L)[np.arange(len(problem_L)), start_L]
    found = _in_stages(search_lanes, free_LP, method, n_starts, max_iterations, CHUNK[method] * len(devices))
    seconds = {"compile": seconds_compile, "run": time.perf_counter() - began}
    return _best_starts(*found, n_starts, seconds)


def _in_stages(search_lanes, free_LP, method: str, n_starts: int, max_iterations: int, width: int):
    """-> (params_LP, objective_L, converged_L): all lanes, then those that need more, regrouped, and so on."""
    damping_L = np.zeros(len(free_LP))  # 0: the solver's own
    todo, found = np.arange(len(free_LP)), None
    for steps in (*STAGES[method], max_iterations):
        call = partial(search_lanes, free_LP=free_LP, damping_L=damping_L, steps=min(steps, max_iterations))
        parts = _in_chunks(call, todo, width)
        found = parts if found is None else [_with(whole, todo, part) for whole, part in zip(found, parts, strict=True)]
        free_LP, damping_L, params_LP, objective_L, decrement_L, ended_L = found
        # The Newton decrement has the scale of the objective and does not see flat directions (a parameter on its
        # bound); the norm of the gradient has neither virtue.
        converged_L = decrement_L <= DECREMENT * objective_L + 1e-12
        goes_on_L = ~ended_L
        if method == LEVENBERG_MARQUARDT:  # Newton's few lanes all go to their end, and agree_R counts them there
            goes_on_L &= ~_hopeless(objective_L, decrement_L, converged_L, n_starts)
        todo = np.flatnonzero(goes_on_L)
        if not todo.size:
            break
    return params_LP, objective_L, converged_L


def _hopeless(objective_L, decrement_L, converged_L, n_starts: int) -> np.ndarray:
    """Which lanes lack more of the best converged lane of their problem than they promise to gain."""
    best_R = np.where(converged_L & np.isfinite(objective_L), objective_L, np.inf).reshape(-1, n_starts).min(axis=1)
    return objective_L - PROMISES * decrement_L > np.repeat(best_R, n_starts) * (1 + DECREMENT)


def _best_starts(params_LP, objective_L, converged_L, n_starts: int, seconds: dict) -> Solution:
    objective_RS = objective_L.reshape(-1, n_starts).astype(float)
    objective_RS = np.where(np.isfinite(objective_RS), objective_RS, np.inf)
    best = np.arange(len(objective_RS)), objective_RS.argmin(axis=1)
    objective_R = objective_RS[best]
    return Solution(
        params_LP.reshape(*objective_RS.shape, -1)[best].astype(float),
        objective_R,
        converged_L.reshape(objective_RS.shape)[best],
        (objective_RS <= 1.01 * objective_R[:, None] + 1e-12).mean(axis=1),
        seconds,
    )


def _in_chunks(call, lane_L: np.ndarray, width: int) -> list[np.ndarray]:
    """Call with `width` lane numbers at a time (the last chunk repeats a lane); join the outputs.

    A chunk's small matrices keep one core busy, so each core takes a chunk.
    """

    def chunk(first: int) -> list[np.ndarray]:
        with jax.enable_x64(True):  # of this thread
            return [np.asarray(part) for part in call(lane_L[np.minimum(first + np.arange(width), len(lane_L) - 1)])]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        chunks = list(threads.map(chunk, range(0, len(lane_L), width)))
    return [np.concatenate(parts)[: len(lane_L)] for parts in zip(*chunks, strict=True)]


def _with(whole: np.ndarray, at: np.ndarray, part: np.ndarray) -> np.ndarray:
    whole[at] = part
    return whole


def _shapes(arrays: dict, skip: int = 0) -> tuple:
    return tuple((k, v.shape[skip:]) for k, v in sorted(arrays.items()))


def _devices(dtype: type) -> tuple:
    """All of this process; the host's where float64 is wanted and a TPU has none."""
    devices = jax.local_devices()
    host = dtype == np.float64 and devices[0].platform == "tpu"
    return tuple(jax.local_devices(backend="cpu") if host else devices)


@lru_cache(maxsize=32)
def _executable(per_point, loss, bounds: tuple, method: str, dtype, devices: tuple, shapes: tuple):
    """Compile the solver of one chunk of lanes, each device its own part; -> (executable, seconds)."""

    def of_free(free_P, data, lane):
        return per_point(from_free(free_P, bounds), data, lane)

    one = newton(of_free, loss, dtype) if method == NEWTON else levenberg_marquardt(of_free)

    def bounded(start_P, damping, data, lane, weights_n, steps):
        free_P, damping, value, decrement, ended = one(start_P, damping, data, lane, weights_n, steps)
        return free_P, damping, from_free(free_P, bounds), value, decrement, ended

    mesh, lane = Mesh(np.array(devices), ("lanes",)), P("lanes")
    split = jax.shard_map(
        jax.vmap(bounded, in_axes=(0, 0, None, 0, 0, None)),
        mesh=mesh,
        in_specs=(lane, lane, P(), lane, lane, P()),
        out_specs=lane,
        check_vma=False,
    )
    data_shapes, lane_shapes, weights_shape, n_params = shapes
    width = CHUNK[method] * len(devices)
    began = time.perf_counter()
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):

        def spec(shape, of=dtype):
            return jax.ShapeDtypeStruct(shape, of)

        lowered = jax.jit(split).lower(
            spec((width, n_params)),
            spec((width,)),
            {k: spec(s) for k, s in data_shapes},
            {k: spec((width, *s)) for k, s in lane_shapes},
            spec((width, *weights_shape)),
            spec((), np.int32),
        )
        return _compiled(lowered, devices[0].platform == "cpu"), time.perf_counter() - began


def _compiled(lowered: jax.stages.Lowered, quick: bool) -> jax.stages.Compiled:
    """By QUICK, where this XLA knows it (it is an option of XLA's, not of JAX's)."""
    try:
        return lowered.compile(compiler_options=QUICK if quick else None)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()
