"""AdamW with the published weight-decay mask, without the learning rate (schedule.py)."""

import jax
import optax

from ladder.config import Rung


def build(rung: Rung) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW without its last factor: loop/step.py multiplies by minus the learning rate.

    Weight decay applies to all parameters but the embeddings (Bhagia et al. 2024).
    """
    o, param_dtype = rung.optimizer, rung.model.param_dtype
    return optax.chain(
        optax.clip_by_global_norm(o.grad_clip),
        _store_moments(optax.scale_by_adam(b1=o.beta1, b2=o.beta2, eps=o.eps), param_dtype, o.mu_dtype, o.nu_dtype),
        optax.add_decayed_weights(o.weight_decay, mask=_decay_mask),
    )


def _store_moments(adam: optax.GradientTransformation, param_dtype: str, mu_dtype: str | None, nu_dtype: str | None):
    """`adam`, its moments stored in these types between steps (both in bfloat16: DeepSeek-AI 2024, section 3.3.3)."""
    mu_dtype, nu_dtype = mu_dtype or param_dtype, nu_dtype or param_dtype
    if mu_dtype == nu_dtype == param_dtype:
        return adam

    def cast(state, mu_dtype, nu_dtype):
        return state._replace(mu=optax.tree.cast(state.mu, mu_dtype), nu=optax.tree.cast(state.nu, nu_dtype))

    def update(grads, state, params=None):
        updates, state = adam.update(grads, cast(state, "float32", "float32"), params)
        return updates, cast(state, mu_dtype, nu_dtype)

    return optax.GradientTransformation(lambda params: cast(adam.init(params), mu_dtype, nu_dtype), update)


def _decay_mask(params: dict) -> dict:
    return {
        name: jax.tree.map(lambda _, decays=name not in ("embedding", "positions"): decays, tree)
        for name, tree in params.items()
    }
