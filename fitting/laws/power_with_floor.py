"""A power law of one quantity with an irreducible loss: L = E + A / X^alpha."""

import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, INF, NO_E, Law, Param, floor, level

EXPONENT = (1e-3, 3.0)
UNITS = {"N": "parameters", "D": "tokens", "C": "FLOPs", "S": "steps", "T": "tokens"}


def _power_with_floor(feature: str) -> Law:
    """theta = (level, ln slope, alpha), as in power_sum.py."""

    def terms(t, xp=jnp):
        a = xp.exp(t[..., 1]) / t[..., 2]
        return floor(t[..., 0] - a, xp), a

    def form(t, x):
        e, a = terms(t)
        return e + a * jnp.exp(-t[..., 2] * x[feature])

    def natural(t, c):
        e, a = terms(t, np)
        return {"E": e * c["y"], "A": a * np.exp(t[..., 2] * c[feature]) * c["y"], "alpha": t[..., 2]}

    def theta(p, c):
        a = p["A"] * np.exp(-p["alpha"] * c[feature]) / c["y"]
        return np.stack([level(p["E"] / c["y"], a), np.log(a * p["alpha"]), p["alpha"]], axis=-1)

    def starts(x, y, n, rng):
        a, alpha = rng.uniform(0.1, 0.8, n) * np.mean(y), rng.uniform(0.05, 0.8, n)
        at_centre = level(np.mean(y) - a, a)
        at_centre[::4] = NO_E
        return np.column_stack([at_centre, np.log(a * alpha), alpha])

    return Law(
        name=f"power-{feature.lower()}",
        formula=f"L = E + A/{feature}^alpha",
        source="a power law with an irreducible loss; Henighan et al. 2020",
        features=(feature,),
        params=(
            Param("E", "floor", "{y}", (0.0, INF)),
            Param("A", "scale", f"{{y}} * {UNITS[feature]}^alpha", (0.0, INF)),
            Param("alpha", "exponent", "1", EXPONENT),
        ),
        curve=lambda p, x: p.E + p.A / getattr(x, feature) ** p.alpha,
        bounds=(FREE, FREE, EXPONENT),
        form=form,
        natural=natural,
        starts=starts,
        theta=theta,
    )


# T is the position of the predicted token: Kaplan et al. 2020, appendix D.5.
POWERS = tuple(map(_power_with_floor, UNITS))
