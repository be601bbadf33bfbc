"""jaxopt's Levenberg-Marquardt for one lane: the only file that imports jaxopt."""

import warnings

import jax
import jax.numpy as jnp

from fitting.solvers.newton import CONVERGED
from fitting.solvers.objective import PerPoint

with warnings.catch_warnings():  # "JAXopt is no longer maintained", which is why no other file imports it
    warnings.simplefilter("ignore", DeprecationWarning)
    from jaxopt import LevenbergMarquardt


def levenberg_marquardt(residuals: PerPoint):
    """Return a solver with the interface of `newton.newton`, of half the weighted sum of squared residuals."""

    def weighted(free_P, data, lane, weights_n):
        return jnp.sqrt(weights_n) * residuals(free_P, data, lane)

    # LU, not Cholesky: near a bound the normal matrix is singular to rounding. There jaxopt's Cholesky gives NaN, from
    # which no later step recovers; LU gives a bad step, which is rejected.
    solver = LevenbergMarquardt(
        weighted, damping_parameter=1e-3, tol=1e-7, solver="lu", materialize_jac=True, implicit_diff=False
    )

    def solve_lane(start_P, damping, data, lane, weights_n, steps):
        args = data, lane, weights_n

        def step(point_and_state):
            point_P, state = solver.update(*point_and_state, *args)
            return point_P, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, point_and_state[1])

        state = jax.tree.map(jnp.asarray, solver.init_state(start_P, *args))
        state = state._replace(damping_factor=jnp.where(damping > 0, damping, state.damping_factor))
        point_P, state = jax.lax.while_loop(
            lambda pair: (pair[1].iter_num < steps) & (pair[1].error > solver.tol), step, (start_P, state)
        )
        ridge_PP = 1e-10 * jnp.trace(state.jtj) * jnp.eye(point_P.size)
        decrement = 0.5 * state.gradient @ jnp.linalg.solve(state.jtj + ridge_PP, state.gradient)
        ended = (state.error <= solver.tol) | (decrement <= CONVERGED * state.value)
        return point_P, state.damping_factor, state.value, decrement, ended

    return solve_lane
