"""The forms of step 1: twelve ways in which bpb may fall with N and D, written as one family.

    L = E + (a^p + b^p)^(1/p),   a = A / N^alpha,   b = B / D^beta

- p = 1: the sum of two terms (Hoffmann et al. 2022; Bhagia et al. 2024);
- p = 1/beta: Kaplan et al. 2020, equation 1.5, to which a floor E may be added;
- the product a * b: a power of N times a power of D; with one exponent, a power of C = 6 N D;

each with one exponent for N and D or with two, and with a floor E or without. Nobody knows which of them holds beyond
the ladder, and one backtest cannot tell, so `task_laws.backtest` gives each a weight. A form's flags are features of
the data, so one compiled program fits all forms of all tasks.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, NO_E, Law, floor, log_coordinates, log_scale
from fitting.laws.power_sum import CHINCHILLA

# A term with an exponent of 0 never falls, so it cannot be told from E.
EXPONENT = (0.01, 2.0)
FLAGS = ("tied", "kaplan", "product", "no_floor")


@dataclass(frozen=True)
class Form:
    """A member of the family. tied: one exponent. kaplan: p = 1/beta. product: a * b. no_floor: E = 0."""

    name: str
    formula: str
    tied: bool
    kaplan: bool
    product: bool
    no_floor: bool

    def features(self, n_points: int) -> dict[str, np.ndarray]:
        """The features that the family has in addition to N and D: {flag: [n]}."""
        return {flag: np.full(n_points, float(getattr(self, flag))) for flag in FLAGS}

    def has(self, parameter: str) -> bool:
        """Whether this form has a parameter of the family as a free parameter."""
        return not {"E": self.no_floor, "beta": self.tied, "B": self.product}.get(parameter, False)


FORMULAS = {  # with two exponents, with one
    "sum": ("A/N^alpha + B/D^beta", "A/N^alpha + B/D^alpha"),
    "kaplan": ("((A/N)^(alpha/beta) + B/D)^beta", "(A/N + B/D)^alpha"),
    "product": ("A / (N^alpha D^beta)", "A / (N^alpha D^alpha)"),
}
FORMS = tuple(
    Form(
        shape + ("-tied" if tied else "") + ("-no-floor" if no_floor else ""),
        "L = " + formulas[tied] + ("" if no_floor else " + E"),
        *(tied, shape == "kaplan", shape == "product", no_floor),
    )
    for shape, formulas in FORMULAS.items()
    for tied in (False, True)
    for no_floor in (False, True)
)


def _terms(theta, flags: dict, xp=jnp):
    """Return E, ln a, ln b, alpha, beta and 1/p at the centre of the data."""
    alpha = theta[..., 2]
    beta = xp.where(flags["tied"] > 0, alpha, theta[..., 4])
    log_a = theta[..., 1] - xp.log(alpha)
    # In a product A and B are one factor, so ln b stays at 0.
    log_b = xp.where(flags["product"] > 0, 0.0, theta[..., 3] - xp.log(beta))
    root = xp.where(flags["kaplan"] > 0, beta, 1.0)
    level = xp.where(flags["no_floor"] > 0, NO_E, theta[..., 0] - xp.exp(_joined(log_a, log_b, root, flags, xp)))
    return floor(level, xp), log_a, log_b, alpha, beta, root


def _joined(log_a, log_b, root, flags: dict, xp=jnp):
    """ln of (a^p + b^p)^(1/p), or of a b."""
    return xp.where(flags["product"] > 0, log_a + log_b, root * xp.logaddexp(log_a / root, log_b / root))


def _form(theta: jax.Array, x: dict) -> jax.Array:
    e, log_a, log_b, alpha, beta, root = _terms(theta, x)
    return e + jnp.exp(_joined(log_a - alpha * x["N"], log_b - beta * x["D"], root, x))


def _curve(p, x) -> jax.Array:
    log_a = jnp.log(p.A) - p.alpha * jnp.log(x.N)
    log_b = jnp.where(x.product > 0, 0.0, jnp.log(p.B)) - p.beta * jnp.log(x.D)
    return p.E + jnp.exp(_joined(log_a, log_b, jnp.where(x.kaplan > 0, p.beta, 1.0), vars(x)))


def _natural(theta: np.ndarray, centre: dict) -> dict:
    is_product = np.asarray(centre["product"]) > 0
    e, log_a, log_b, alpha, beta, _ = _terms(theta, {flag: np.asarray(centre[flag]) for flag in FLAGS}, np)
    shift_b = np.where(is_product, beta * centre["D"], 0.0)
    log_b = log_b + np.where(is_product, 0.0, beta * centre["D"] + np.log(centre["y"]))
    return {
        "E": e * centre["y"],
        "A": np.exp(log_a + alpha * centre["N"] + np.log(centre["y"]) + shift_b),
        "alpha": alpha,
        "B": np.exp(log_b),
        "beta": beta,
    }


FAMILY = Law(
    name="family",
    formula="L = E + (a^p + b^p)^(1/p), a = A/N^alpha, b = B/D^beta",
    source="Hoffmann et al. 2022; Kaplan et al. 2020, equation 1.5; Bhagia et al. 2024",
    features=("N", "D", *FLAGS),
    params=tuple(replace(p, bounds=EXPONENT) if p.role == "exponent" else p for p in CHINCHILLA.params),
    curve=_curve,
    bounds=(FREE, FREE, EXPONENT, FREE, EXPONENT),
    scale=lambda features, y: (
        log_scale({name: features[name] for name in ("N", "D")}, y) | {flag: float(features[flag][0]) for flag in FLAGS}
    ),
    coordinates=lambda features, centre: (
        log_coordinates({name: features[name] for name in ("N", "D")}, centre)
        | {flag: np.asarray(features[flag], float) for flag in FLAGS}
    ),
    form=_form,
    natural=_natural,
    starts=CHINCHILLA.starts,
)
