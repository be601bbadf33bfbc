"""A power law of one quantity with an irreducible loss: L = E + A / X^alpha."""

import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, INF, NO_E, Law, Param, floor, level, log_coordinates, log_scale

EXPONENT = (1e-3, 3.0)


def _floor(name: str, feature: str, unit: str) -> Law:
    """L = E + A / X^alpha: theta = (level, ln slope, alpha), as in CHINCHILLA."""

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
        name=name,
        formula=f"L = E + A/{feature}^alpha",
        features=(feature,),
        params=(
            Param("E", "y", (0.0, INF)),
            Param("A", f"y * {unit}^alpha", (0.0, INF)),
            Param("alpha", "1", EXPONENT),
        ),
        bounds=(FREE, FREE, EXPONENT),
        scale=log_scale,
        coordinates=log_coordinates,
        form=form,
        natural=natural,
        starts=starts,
        log_space=True,
        source="a power law with an irreducible loss; Henighan et al. 2020",
        theta=theta,
    )


# Batch size -------------------------------------------------------------------------------------


UNITS = {"N": "parameters", "D": "tokens", "C": "FLOPs", "S": "steps", "T": "tokens"}
# Against T, the position of the predicted token: Kaplan et al. 2020, appendix D.5.
POWERS = tuple(_floor(f"power-{x.lower()}", x, unit) for x, unit in UNITS.items())

# Rules that go with them --------------------------------------------------------------------------
