"""The loss along a learning curve, for any schedule of the learning rate (Tissue et al. 2024, arXiv 2408.11029).

L = E + A/S1^alpha - C S2: S1 is the area under the learning rate; S2 is the accumulated effect of its decrease, which
fades over 1/(1 - lambda) steps. At a constant rate S2 = 0 and S1 is the number of tokens, so with a term in N the law
is that of Hoffmann et al. (in steps, the form of equation 1.6 of Kaplan et al.).
"""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from fitting.laws.base import INF, Law, Param, log_scale

SOURCE = "Tissue et al. 2024, equation 1; S1 in tokens at the peak rate, S2 in steps"
# Bounds of C S2 at the largest S2, in units of the mean loss; with a larger C the law would be negative.
ANNEALED = (0.0, 1.0)
SMALLEST = 1e-2  # lower bound of the law in units of the mean loss, so that its logarithm exists


def rates(schedule: str, steps: int, warmup_steps: int, decay_steps: int, final: float) -> np.ndarray:
    """[steps]: the learning rate of each update as a share of the peak. It is 1 during warm-up, because a rising rate
    would count as negative annealing (the paper's section 3.4).

    schedule: "cosine" after the warm-up, "wsd" (linear decay over the last decay_steps, none if 0) or "constant".
    final: the share at the end.
    """
    step, decayed = np.arange(steps), np.ones(steps)
    if schedule == "cosine":
        progress = np.maximum(step - warmup_steps, 0) / max(1, steps - warmup_steps)
        decayed = (1 + np.cos(np.pi * progress)) / 2
    elif schedule == "wsd" and decay_steps:
        decayed = np.minimum(1.0, (steps - step) / decay_steps)
    return final + (1 - final) * decayed


def areas(rate_s: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """(S1, S2) after each step: sum_i rate_i and sum_i m_i, m_i = decay m_(i-1) + rate_(i-1) - rate_i."""
    from scipy.signal import lfilter  # takes a second to import, and only these laws need it

    momentum_s = lfilter([1.0], [1.0, -decay], -np.diff(rate_s, prepend=rate_s[0]))
    return np.cumsum(rate_s), np.cumsum(momentum_s)


def annealed(base: Law, name: str) -> Law:
    """The law `base` with S1 in place of D, minus C S2."""
    n_params = len(base.params)
    base_name = {"S1" if feature == "D" else feature: feature for feature in base.features}

    def for_base(values: dict) -> dict:
        """The values under the names that the base law uses."""
        return {base_name.get(name, name): v for name, v in values.items() if name in base_name or name == "y"}

    def scale(features, y):
        centre = log_scale({k: features[k] for k in base_name}, y)
        return centre | {"S2": float(np.log(np.max(features["S2"]) or 1.0))}

    return replace(
        base,
        name=name,
        formula=base.formula.replace("/D^", "/S1^") + " - C S2",
        source=SOURCE,
        features=(*base_name, "S2"),
        params=(*base.params, Param("C", "other", "{y} / step", (0.0, INF))),
        curve=lambda p, x: base.curve(p, SimpleNamespace(**for_base(vars(x)))) - p.C * x.S2,
        bounds=(*base.bounds, ANNEALED),
        scale=scale,
        coordinates=lambda features, centre: (
            {k: np.log(features[k]) - centre[k] for k in base_name} | {"S2": features["S2"] * np.exp(-centre["S2"])}
        ),
        form=lambda t, x: jnp.maximum(base.form(t[..., :n_params], for_base(x)) - t[..., n_params] * x["S2"], SMALLEST),
        natural=lambda t, c: (
            base.natural(t[..., :n_params], for_base(c)) | {"C": t[..., n_params] * c["y"] * np.exp(-c["S2"])}
        ),
        starts=lambda x, y, n, rng: np.column_stack([base.starts(for_base(x), y, n, rng), rng.uniform(0.0, 0.01, n)]),
        theta=lambda p, c: np.append(base.theta(p, for_base(c)), p["C"] / c["y"] * np.exp(c["S2"])),
        optimum=None,  # it depends on the schedule
    )
