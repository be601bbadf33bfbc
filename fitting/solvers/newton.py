"""Damped Newton steps on one problem, with exact second derivatives."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fitting.solvers.objective import PerPoint

# Converged: a further Newton step promises less than this share of the objective. Newton goes on to the second, and
# Levenberg-Marquardt's stages to the third.
DECREMENT, EXACT, SETTLED = 1e-7, {np.float64: 1e-12, np.float32: 1e-9}, 1e-9
# Of Newton's steps: the first damping, the damping at which no step helps any more, and that of a flat direction.
DAMPING, MAX_DAMPING, RIDGE = 1.0, 1e8, 1e-9


def newton(errors: PerPoint, loss: Callable, dtype: type):
    """-> solver of one lane, as above, where the decrement is what an undamped step promises to take off.

    Steps are damped by the curvature of the majoriser that iteratively reweighted least squares takes for the loss:
    loss(u) = u^2 slope(u) / u / 2 + ..., which far from the optimum, where Huber's loss is flat, is all there is.
    """
    rounding = 8 * float(np.finfo(dtype).eps)

    def slopes(free_P, data, lane, weights_n):
        def objective(free_P):
            u_n = errors(free_P, data, lane)
            return jnp.sum(weights_n * loss(u_n, data)), u_n

        (value, u_n), gradient_P = jax.value_and_grad(objective, has_aux=True)(free_P)
        return (gradient_P, u_n), (value, gradient_P, u_n)

    def expand(free_P, data, lane, weights_n):
        """-> objective, gradient, Hessian, the majoriser's, and the gradient's size in units of it."""
        (hessian_PP, jacobian_nP), (value, gradient_P, u_n) = jax.jacfwd(slopes, has_aux=True)(
            free_P, data, lane, weights_n
        )
        slope_n = jax.grad(lambda u_n: jnp.sum(loss(u_n, data)))(u_n)
        near = jnp.abs(u_n) < 1e-6
        share_n = weights_n * jnp.where(near, 1.0, slope_n / jnp.where(near, 1.0, u_n))
        major_PP = jacobian_nP.T @ (share_n[:, None] * jacobian_nP)
        major_PP += RIDGE * jnp.trace(major_PP) * jnp.eye(free_P.size, dtype=dtype)
        return value, gradient_P, hessian_PP, major_PP, jnp.sum(gradient_P**2 / jnp.diag(major_PP))

    def one(start_P, damping, data, lane, weights_n, steps):
        def step(state):
            iteration, damping, trial_P, best, _ = state
            trial = trial_P, *expand(trial_P, data, lane, weights_n)
            # Where rounding hides which objective is less, the flatter point is better.
            tie = jnp.abs(trial[1] - best[1]) <= rounding * best[1]
            better = jnp.where(tie, trial[-1] < best[-1], trial[1] < best[1])
            best = jax.tree.map(partial(jnp.where, better), trial, best)
            damping = jnp.where(better, damping / 10, damping * 8)
            point_P, _, gradient_P, hessian_PP, major_PP, _ = best
            step_P = jnp.linalg.solve(hessian_PP + damping * major_PP, gradient_P)
            # Along the majoriser's directions damping hides this much of what an undamped step would take off.
            promise = (1 + damping) * jnp.abs(gradient_P @ step_P) / 2
            return iteration + 1, damping, point_P - step_P, best, promise

        def goes_on(state):
            iteration, damping, _, best, promise = state
            return (iteration <= steps) & (promise > EXACT[dtype] * best[1]) & (damping < MAX_DAMPING)

        most, eye_PP = jnp.asarray(np.finfo(dtype).max, dtype), jnp.eye(start_P.size, dtype=dtype)
        nowhere = start_P, most, jnp.zeros_like(start_P), eye_PP, eye_PP, most
        first = jnp.int32(0), jnp.where(damping > 0, damping, DAMPING).astype(dtype), start_P, nowhere, most
        state = jax.lax.while_loop(goes_on, step, first)
        iteration, damping, last_P, best, promise = state
        # The last step was not tried: where it promised next to nothing it is the better point.
        point_P = jnp.where(promise <= EXACT[dtype] * best[1], last_P, best[0])
        return point_P, damping, best[1], promise, iteration <= steps

    return one
