"""AdamW with the published masks, and the learning rate as a function of the step."""

import jax
import optax

from ladder.config import Rung


def build(rung: Rung) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW but for the rate: the step multiplies by minus `learning_rate`.

    Weight decay on everything but the embeddings (Bhagia et al. 2024).
    """
    o, params = rung.optimizer, rung.model.param_dtype
    return optax.chain(
        optax.clip_by_global_norm(o.grad_clip),
        _kept_as(optax.scale_by_adam(b1=o.beta1, b2=o.beta2, eps=o.eps), params, o.mu_dtype, o.nu_dtype),
        optax.add_decayed_weights(o.weight_decay, mask=_decayed),
    )


def _kept_as(adam: optax.GradientTransformation, params: str, mu: str | None, nu: str | None):
    """`adam` with its moments kept in these types between steps (both in bfloat16: DeepSeek-AI 2024, section 3.3.3)."""
    mu, nu = mu or params, nu or params
    if mu == nu == params:
        return adam

    def cast(state, mu, nu):
        return state._replace(mu=optax.tree.cast(state.mu, mu), nu=optax.tree.cast(state.nu, nu))

    def update(grads, state, params=None):
        updates, state = adam.update(grads, cast(state, "float32", "float32"), params)
        return updates, cast(state, mu, nu)

    return optax.GradientTransformation(lambda params: cast(adam.init(params), mu, nu), update)


def _decayed(params: dict) -> dict:
    return {
        name: jax.tree.map(lambda _, decays=name not in ("embedding", "positions"): decays, tree)
        for name, tree in params.items()
    }
