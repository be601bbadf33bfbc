"""Many small minimisation problems at once.

A *lane* is one problem from one start. Lanes are solved in chunks of equal size, so that one compilation serves all, by
jaxopt's Levenberg-Marquardt or by damped Newton steps (whose exact second derivatives find the minimum of a flat
valley, where Levenberg-Marquardt is slow). Devices share the lanes of a chunk; the cores of a host share the chunks. A
chunk takes as long as its slowest lane, so lanes that need more than a few iterations are put into new chunks.

Bounds are kept by a change of variables, so a lane needs hundreds of iterations to come close to a bound. A start on a
bound stays there: one such start for each likely bound makes those iterations unnecessary.
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
from fitting.solvers.newton import newton
from fitting.solvers.objective import PerPoint

LEVENBERG_MARQUARDT, NEWTON = "jaxopt LevenbergMarquardt", "damped Newton"
# Lanes in a chunk. For Newton, few: the starts of one fit, some of which take 100 steps, fit into one chunk.
CHUNK = {LEVENBERG_MARQUARDT: 256, NEWTON: 64}
# Iterations after which unfinished lanes are put into new chunks (most of Newton's need 5 or 6).
STAGES = {LEVENBERG_MARQUARDT: (8, 16, 32), NEWTON: (6,)}
MAX_ITERATIONS = 80
# A lane has converged if a further Newton step would lower the objective by less than this share of it.
DECREMENT = 1e-7
# Levenberg-Marquardt drops a lane whose objective is more than this many decrements above the best converged lane of
# its problem.
MAX_DECREMENTS = 4.0
# XLA's older emitter compiles the solvers in half to three quarters of the newer one's time, and LLVM's level 1 in four
# fifths of level 3's. They run equally fast.
FAST_COMPILE = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}


@dataclass(frozen=True)
class Solution:
    """The best start of each of R problems.

    params_RP: parameters within their bounds. objective_R: the weighted sum of losses, or of half the squared
    residuals. converged_R: whether a further Newton step would lower the objective by less than DECREMENT of it.
    agree_R: share of a problem's starts whose objective came within 1 % of the best (dropped lanes count with the one
    they stopped at); it is low if there are many local minima. seconds: {"compile", "run"}.
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

    per_point(params_P, data, lane) -> numbers [n]: a module-level or cached function, because it is a key of the
    compilation cache. loss(numbers, data): for NEWTON, any that is convex with its minimum at 0; for
    LEVENBERG_MARQUARDT it is half the square. starts: [S, P] for all problems, or [G, S, P]. data: arrays that all
    problems share. lanes: arrays with a first axis G, where G divides R: entry g is for R/G consecutive problems (for
    instance all resamples of one task). weights_Rn: >= 0; integer counts make a bootstrap resample. bounds: (lo, hi) of
    each parameter, infinite if there is none. max_iterations: of the last stage. dtype: np.float32 is for accelerators
    without float64, and needs NEWTON.
    """
    n_problems = len(weights_Rn)
    starts = np.asarray(starts, np.float64)
    starts_GSP = to_free(starts if starts.ndim == 3 else starts[None], bounds)
    n_starts, n_params = starts_GSP.shape[1:]
    lanes = {k: np.asarray(v, dtype) for k, v in (lanes or {}).items()}
    data = {k: np.asarray(v, dtype) for k, v in data.items()}
    devices = _devices(dtype)
    data_shapes = tuple((k, v.shape) for k, v in sorted(data.items()))
    lane_shapes = tuple((k, v.shape[1:]) for k, v in sorted(lanes.items()))
    shapes = data_shapes, lane_shapes, weights_Rn.shape[1:], n_params
    misses = _executable.cache_info().misses
    search, seconds_compile = _executable(per_point, loss, tuple(bounds), method, dtype, devices, shapes)
    if _executable.cache_info().misses == misses:
        seconds_compile = 0.0

    def search_lanes(lane_L, free_LP, damping_L, steps):
        problem_L = lane_L // n_starts
        lanes_L = {k: entries(v, problem_L, n_problems) for k, v in lanes.items()}
        start = free_LP[lane_L].astype(dtype), damping_L[lane_L].astype(dtype)
        return search(*start, data, lanes_L, weights_Rn[problem_L].astype(dtype), np.int32(steps))

    began = time.perf_counter()
    problem_L, start_L = np.divmod(np.arange(n_problems * n_starts), n_starts)
    free_LP = entries(starts_GSP, problem_L, n_problems)[np.arange(len(problem_L)), start_L]
    lanes_solved = _in_stages(search_lanes, free_LP, method, n_starts, max_iterations, CHUNK[method] * len(devices))
    seconds = {"compile": seconds_compile, "run": time.perf_counter() - began}
    return _best_starts(*lanes_solved, n_starts, seconds)


def entries(array_G: np.ndarray, problem_L: np.ndarray, n_problems: int) -> np.ndarray:
    """The entry of each problem in problem_L; every entry of array_G is for n_problems / G consecutive problems."""
    return array_G[problem_L // (n_problems // len(array_G))]


def _in_stages(search_lanes, free_LP, method: str, n_starts: int, max_iterations: int, width: int):
    """Solve in stages, each of which takes the lanes that the one before left unfinished.

    Returns params_LP, objective_L and converged_L.
    """
    damping_L = np.zeros(len(free_LP))  # 0: the solver's own
    lane_L, state = np.arange(len(free_LP)), None
    for steps in (*STAGES[method], max_iterations):
        call = partial(search_lanes, free_LP=free_LP, damping_L=damping_L, steps=min(steps, max_iterations))
        parts = _in_chunks(call, lane_L, width)
        state = state or parts
        for array_L, part in zip(state, parts, strict=True):
            array_L[lane_L] = part
        free_LP, damping_L, params_LP, objective_L, decrement_L, ended_L = state
        # Unlike the norm of the gradient, the Newton decrement has the scale of the objective, and flat directions (a
        # parameter on its bound) do not change it.
        converged_L = decrement_L <= DECREMENT * objective_L + 1e-12
        unfinished_L = ~ended_L
        if method == LEVENBERG_MARQUARDT:  # Newton's lanes are few: each is finished and counts in agree_R
            unfinished_L &= ~_cannot_win(objective_L, decrement_L, converged_L, n_starts)
        lane_L = np.flatnonzero(unfinished_L)
        if not lane_L.size:
            break
    return params_LP, objective_L, converged_L


def _cannot_win(objective_L, decrement_L, converged_L, n_starts: int) -> np.ndarray:
    """bool[L]: whether a lane would stay above its problem's best converged lane after MAX_DECREMENTS decrements."""
    best_R = np.where(converged_L & np.isfinite(objective_L), objective_L, np.inf).reshape(-1, n_starts).min(axis=1)
    return objective_L - MAX_DECREMENTS * decrement_L > np.repeat(best_R, n_starts) * (1 + DECREMENT)


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
    """Call with `width` lane numbers at a time (the last chunk repeats a lane) and concatenate the outputs.

    The matrices of a chunk are so small that it uses one core only, so there is one thread per core.
    """

    def chunk(first: int) -> list[np.ndarray]:
        with jax.enable_x64(True):  # a setting of each thread
            return [np.asarray(part) for part in call(lane_L[np.minimum(first + np.arange(width), len(lane_L) - 1)])]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        chunks = list(threads.map(chunk, range(0, len(lane_L), width)))
    return [np.concatenate(parts)[: len(lane_L)] for parts in zip(*chunks, strict=True)]


def _devices(dtype: type) -> tuple:
    """All devices of this process; for float64, which TPUs lack, the CPU of a TPU host."""
    devices = jax.local_devices()
    on_host = dtype == np.float64 and devices[0].platform == "tpu"
    return tuple(jax.local_devices(backend="cpu") if on_host else devices)


@lru_cache(maxsize=32)
def _executable(per_point, loss, bounds: tuple, method: str, dtype, devices: tuple, shapes: tuple):
    """Compile the solver of one chunk; -> (executable, seconds)."""

    def of_free(free_P, data, lane):
        return per_point(from_free(free_P, bounds), data, lane)

    solve_lane = newton(of_free, loss, dtype) if method == NEWTON else levenberg_marquardt(of_free)

    def bounded(start_P, damping, data, lane, weights_n, steps):
        free_P, damping, value, decrement, ended = solve_lane(start_P, damping, data, lane, weights_n, steps)
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

        def spec(shape, dtype=dtype):
            return jax.ShapeDtypeStruct(shape, dtype)

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
    """Compiled with FAST_COMPILE if `quick` and this version of XLA has that option."""
    try:
        return lowered.compile(compiler_options=FAST_COMPILE if quick else None)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()
