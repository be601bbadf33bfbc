"""Damped Newton steps for one lane, with exact second derivatives."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fitting.solvers.objective import PerPoint

# A solver stops if a further Newton step would lower the objective by less than this share of it: EXACT (by dtype) is
# for Newton, CONVERGED for Levenberg-Marquardt.
EXACT, CONVERGED = {np.float64: 1e-12, np.float32: 1e-9}, 1e-9
# The initial damping, the damping at which the solver gives up, and the ridge that keeps flat directions solvable.
DAMPING, MAX_DAMPING, RIDGE = 1.0, 1e8, 1e-9


def newton(errors: PerPoint, loss: Callable, dtype: type):
    """Return a solver of one lane: (start_P, damping, data, lane, weights_n, steps) -> (point_P, damping, objective,
    decrement, ended).

    damping: 0 for the solver's own. steps: at most. decrement: by how much an undamped Newton step would lower the
    objective. ended: whether more steps would change nothing. Steps are damped by the curvature of the majoriser of
    iteratively reweighted least squares, loss(u) <= u^2 slope(u) / u / 2 + constant. Far from the optimum, where
    Huber's loss is linear, there is no other curvature.
    """
    rounding = 8 * float(np.finfo(dtype).eps)

    def slopes(free_P, data, lane, weights_n):
        def objective(free_P):
            u_n = errors(free_P, data, lane)
            return jnp.sum(weights_n * loss(u_n, data)), u_n

        (value, u_n), gradient_P = jax.value_and_grad(objective, has_aux=True)(free_P)
        return (gradient_P, u_n), (value, gradient_P, u_n)

    def expand(free_P, data, lane, weights_n):
        """Return objective, gradient, Hessian, Hessian of the majoriser, squared gradient in units of the latter."""
        (hessian_PP, jacobian_nP), (value, gradient_P, u_n) = jax.jacfwd(slopes, has_aux=True)(
            free_P, data, lane, weights_n
        )
        slope_n = jax.grad(lambda u_n: jnp.sum(loss(u_n, data)))(u_n)
        near = jnp.abs(u_n) < 1e-6
        curvature_n = weights_n * jnp.where(near, 1.0, slope_n / jnp.where(near, 1.0, u_n))
        major_PP = jacobian_nP.T @ (curvature_n[:, None] * jacobian_nP)
        major_PP += RIDGE * jnp.trace(major_PP) * jnp.eye(free_P.size, dtype=dtype)
        return value, gradient_P, hessian_PP, major_PP, jnp.sum(gradient_P**2 / jnp.diag(major_PP))

    def solve_lane(start_P, damping, data, lane, weights_n, steps):
        def step(state):
            iteration, damping, trial_P, best, _ = state
            trial = trial_P, *expand(trial_P, data, lane, weights_n)
            # Where the objectives are equal to rounding, the smaller gradient is better.
            tie = jnp.abs(trial[1] - best[1]) <= rounding * best[1]
            better = jnp.where(tie, trial[-1] < best[-1], trial[1] < best[1])
            best = jax.tree.map(partial(jnp.where, better), trial, best)
            damping = jnp.where(better, damping / 10, damping * 8)
            point_P, _, gradient_P, hessian_PP, major_PP, _ = best
            step_P = jnp.linalg.solve(hessian_PP + damping * major_PP, gradient_P)
            # Where the majoriser is exact, a damped step gains 1 / (1 + damping) of what an undamped one gains.
            decrement = (1 + damping) * jnp.abs(gradient_P @ step_P) / 2
            return iteration + 1, damping, point_P - step_P, best, decrement

        def unfinished(state):
            iteration, damping, _, best, decrement = state
            return (iteration <= steps) & (decrement > EXACT[dtype] * best[1]) & (damping < MAX_DAMPING)

        largest, eye_PP = jnp.asarray(np.finfo(dtype).max, dtype), jnp.eye(start_P.size, dtype=dtype)
        worst = start_P, largest, jnp.zeros_like(start_P), eye_PP, eye_PP, largest
        first = jnp.int32(0), jnp.where(damping > 0, damping, DAMPING).astype(dtype), start_P, worst, largest
        iteration, damping, last_P, best, decrement = jax.lax.while_loop(unfinished, step, first)
        # The last step was not evaluated; where it is within rounding of the optimum it is the better point.
        point_P = jnp.where(decrement <= EXACT[dtype] * best[1], last_P, best[0])
        return point_P, damping, best[1], decrement, iteration <= steps

    return solve_lane
