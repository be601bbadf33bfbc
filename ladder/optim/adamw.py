"""AdamW with the published masks, and the learning rate as a function of the step."""

import math

import jax
import optax

from ladder.config import Rung


def learning_rate(rung: Rung, step: int) -> float:
    """The rate of the update that follows `step` done updates.

    Linear warm-up from 0; then cosine to `lr_final_fraction` of the peak, or constant and (but for a trunk) a linear
    decay over the last `decay_fraction` of the steps (WSD, Hu et al. 2024). A branch is the end of the WSD run of its
    own length, so its rates are that run's.

    It is handed to the step as data, so that all rungs of a size share one compiled program.
    """
    o = rung.optimizer
    warm = min((step + 1) / rung.warmup_steps, 1.0)
    if o.schedule == "cosine":
        done = (step - rung.warmup_steps) / max(1, rung.steps - rung.warmup_steps)
        share = (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2
    else:
        share = min(1.0, (rung.steps - step) / rung.decay_steps) if rung.decay_steps else 1.0
    return o.peak_lr * warm * (o.lr_final_fraction + (1 - o.lr_final_fraction) * share)


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
