"""jaxopt's Levenberg-Marquardt on one problem: the only file that knows jaxopt."""

import warnings

import jax
import jax.numpy as jnp

from fitting.solvers.newton import SETTLED
from fitting.solvers.objective import PerPoint

with warnings.catch_warnings():  # "JAXopt is no longer maintained": known, and why it lives here
    warnings.simplefilter("ignore", DeprecationWarning)
    from jaxopt import LevenbergMarquardt


def levenberg_marquardt(residuals: PerPoint):
    """-> solver of one lane: (start_P, damping, data, lane, weights_n, steps) -> (point, damping, objective, Newton
    decrement, ended)."""

    def weighted(free_P, data, lane, weights_n):
        return jnp.sqrt(weights_n) * residuals(free_P, data, lane)

    # LU, not Cholesky: near a bound the normal matrix is singular to rounding, and jaxopt turns
    # Cholesky's NaN into a dead lane where LU's bad step is merely refused.
    solver = LevenbergMarquardt(
        weighted, damping_parameter=1e-3, tol=1e-7, solver="lu", materialize_jac=True, implicit_diff=False
    )

    def one(start_P, damping, data, lane, weights_n, steps):
        args = data, lane, weights_n

        def step(found):
            point_P, state = solver.update(*found, *args)
            return point_P, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, found[1])

        state = jax.tree.map(jnp.asarray, solver.init_state(start_P, *args))
        state = state._replace(damping_factor=jnp.where(damping > 0, damping, state.damping_factor))
        point_P, state = jax.lax.while_loop(
            lambda found: (found[1].iter_num < steps) & (found[1].error > solver.tol), step, (start_P, state)
        )
        ridge_PP = 1e-10 * jnp.trace(state.jtj) * jnp.eye(point_P.size)
        decrement = 0.5 * state.gradient @ jnp.linalg.solve(state.jtj + ridge_PP, state.gradient)
        ended = (state.error <= solver.tol) | (decrement <= SETTLED * state.value)
        return point_P, state.damping_factor, state.value, decrement, ended

    return one
