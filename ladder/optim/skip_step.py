"""Steps whose update is skipped, because the loss or the gradient norm is far above that of the steps before, or is not
finite.

The rule is that of OLMo-core's SkipStepAdamW: skip where the loss or the gradient norm exceeds mean + sigma * std of
the last `window` steps. Skipped steps count among these, so that a lasting change is followed after about
window / sigma^2 steps. The rule begins after half a window. Where ours differs: a step that is not finite is always
skipped, and does not count among the last steps, because it would make their mean NaN.
"""

import jax
import jax.numpy as jnp

from ladder.config import Optimizer

LARGEST = 1e18  # larger values count as this one: their squares would overflow
ROUNDING = 1e-5  # relative; values that are all the same are not above their mean, which is rounded
MOST_NOT_FINITE = 8  # steps in a row that are skipped because they are not finite; one more ends the run


def init(optimizer: Optimizer) -> dict:
    """The state before the first step; {} where no step is skipped.

    losses, grad_norms: float32[window], ring buffers. recorded: how many finite steps were written into them. skipped:
    how many steps were skipped. not_finite: how many steps in a row, up to now, were skipped as not finite.
    """
    if optimizer.skip_step_sigma is None:
        return {}
    series = {name: jnp.zeros(optimizer.skip_step_window, jnp.float32) for name in ("losses", "grad_norms")}
    return series | {name: jnp.zeros((), jnp.int32) for name in ("recorded", "skipped", "not_finite")}


def update(optimizer: Optimizer, state: dict, loss, grad_norm) -> tuple[jax.Array, dict]:
    """(whether to skip this step, the next state)."""
    window, recorded = optimizer.skip_step_window, state["recorded"]
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    begun = recorded + 1 >= max(2, window // 2)
    is_known = jnp.arange(window) < recorded
    new, spike = {}, jnp.zeros((), bool)
    for name, value in (("losses", loss), ("grad_norms", grad_norm)):
        value = jnp.minimum(value, LARGEST)
        spike |= value > _threshold(state[name], is_known, optimizer.skip_step_sigma)
        new[name] = jnp.where(finite, state[name].at[recorded % window].set(value), state[name])
    skip = ~finite | (begun & spike)
    new["recorded"] = recorded + finite
    new["skipped"] = state["skipped"] + skip
    new["not_finite"] = jnp.where(finite, 0, state["not_finite"] + 1)
    return skip, new


def _threshold(values, is_known, sigma):
    """mean + sigma * std (with n - 1) of the known values."""
    n = jnp.sum(is_known)
    mean = jnp.sum(jnp.where(is_known, values, 0.0)) / jnp.maximum(n, 1)
    squares = jnp.sum(jnp.where(is_known, jnp.square(values - mean), 0.0))
    return mean * (1 + ROUNDING) + sigma * jnp.sqrt(squares / jnp.maximum(n - 1, 1))
