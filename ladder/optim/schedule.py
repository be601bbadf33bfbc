"""The learning rate as a function of the step."""

import math

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
