"""The learning rate as a function of the step."""

import math

from ladder.config import Rung


def learning_rate(rung: Rung, step: int) -> float:
    """The learning rate of update number step + 1.

    Linear warm-up from 0; then cosine to `lr_final_fraction` of the peak, or constant with (except for a trunk) a
    linear decay over the last `decay_fraction` of the steps (WSD, Hu et al. 2024). A branch is the last part of a full
    WSD run of the same length and has that run's learning rates.

    The train step takes the learning rate as an input, so that all rungs of a size share one compiled program.
    """
    o = rung.optimizer
    warmup = min((step + 1) / rung.warmup_steps, 1.0)
    if o.schedule == "cosine":
        progress = (step - rung.warmup_steps) / max(1, rung.steps - rung.warmup_steps)
        decay = (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
    else:
        decay = min(1.0, (rung.steps - step) / rung.decay_steps) if rung.decay_steps else 1.0
    return o.peak_lr * warmup * (o.lr_final_fraction + (1 - o.lr_final_fraction) * decay)
