"""AdamW with the published masks, and the learning rate as a function of the step."""

import jax
import jax.numpy as jnp
import optax

from ladder.config import Rung


def learning_rate(rung: Rung):
    """step -> rate of the update that follows `step` done updates.

    Linear warm-up from 0; then cosine to `lr_final_fraction` of the peak, or constant and (but for a trunk) a linear
    decay over the last `decay_fraction` of the steps (WSD, Hu et al. 2024). A branch is the end of the WSD run of its
    own length, so its rates are that run's.
    """
    o = rung.optimizer
    warmup, steps, decay = rung.warmup_steps, rung.steps, rung.decay_steps

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        warm = jnp.minimum((step + 1) / warmup, 1.0)
        if o.schedule == "cosine":
            done = jnp.clip((step - warmup) / max(1, steps - warmup), 0.0, 1.0)
            share = (1 + jnp.cos(jnp.pi * done)) / 2
        elif decay:
            share = 1 - jnp.clip((step - (steps - decay)) / decay, 0.0, 1.0)
        else:
            share = 1.0
        return o.peak_lr * warm * (o.lr_final_fraction + (1 - o.lr_final_fraction) * share)

    return rate


def build(rung: Rung) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW; weight decay on everything but the embeddings (Bhagia et al. 2024)."""
    o = rung.optimizer
    return optax.chain(
        optax.clip_by_global_norm(o.grad_clip),
        optax.adamw(
            learning_rate(rung), b1=o.beta1, b2=o.beta2, eps=o.eps, weight_decay=o.weight_decay, mask=_decayed
        ),
    )


def _decayed(params: dict) -> dict:
    return {
        name: jax.tree.map(lambda _, decays=name not in ("embedding", "positions"): decays, tree)
        for name, tree in params.items()
    }
