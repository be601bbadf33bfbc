"""The forms of step 1: twelve ways in which bpb may fall with N and D, written as one family.

    L = E + (a^p + b^p)^(1/p),   a = A / N^alpha,   b = B / D^beta

- p = 1: the sum of two terms (Hoffmann et al. 2022; Bhagia et al. 2024);
- p = 1/beta: Kaplan et al. 2020, equation 1.5, to which a floor E may be added;
- the product a * b: a power of N times a power of D; with one exponent, a power of C = 6 N D;

each with one exponent for N and D or with two, and with a floor E or without. Nobody knows which of them holds beyond
the ladder, and one backtest does not tell, so `backtest` weighs them all. A form is a row of flags in the data: one
compiled program fits all forms of all tasks.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, NO_E, Law, floor
from fitting.laws.power_sum import CHINCHILLA

# A term with an exponent of 0 never falls and cannot be told from E.
EXPONENT = (0.01, 2.0)
FLAGS = ("tied", "kaplan", "product", "no_floor")


@dataclass(frozen=True)
class Form:
    """A member of the family: its name, its formula, its flags."""

    name: str
    formula: str
    tied: bool
    kaplan: bool
    product: bool
    no_floor: bool

    def features(self, n_points: int) -> dict[str, np.ndarray]:
        """{flag: [n]}, features beside N and D."""
        return {flag: np.full(n_points, float(getattr(self, flag))) for flag in FLAGS}

    def has(self, parameter: str) -> bool:
        """Whether a parameter of the family is a free parameter of this form."""
        return not {"E": self.no_floor, "beta": self.tied, "B": self.product}.get(parameter, False)


def _forms() -> tuple[Form, ...]:
    formulas = {  # with two exponents, with one
        "sum": ("A/N^alpha + B/D^beta", "A/N^alpha + B/D^alpha"),
        "kaplan": ("((A/N)^(alpha/beta) + B/D)^beta", "(A/N + B/D)^alpha"),
        "product": ("A / (N^alpha D^beta)", "A / (N^alpha D^alpha)"),
    }
    forms = []
    for shape, by_tied in formulas.items():
        for tied, formula in zip((False, True), by_tied, strict=True):
            for no_floor in (False, True):
                name = shape + ("-tied" if tied else "") + ("-no-floor" if no_floor else "")
                flags = tied, shape == "kaplan", shape == "product", no_floor
                forms.append(Form(name, "L = " + formula + ("" if no_floor else " + E"), *flags))
    return tuple(forms)


FORMS = _forms()


def _terms(theta, flags: dict, xp=jnp):
    """-> (E, ln a, ln b, alpha, beta, 1/p) at the centre of the data."""
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
    flags = {flag: getattr(x, flag) for flag in FLAGS}
    log_a = jnp.log(p.A) - p.alpha * jnp.log(x.N)
    log_b = jnp.where(flags["product"] > 0, 0.0, jnp.log(p.B)) - p.beta * jnp.log(x.D)
    return p.E + jnp.exp(_joined(log_a, log_b, jnp.where(flags["kaplan"] > 0, p.beta, 1.0), flags))


def _natural(theta: np.ndarray, centre: dict) -> dict:
    flags = {flag: np.asarray(centre[flag]) for flag in FLAGS}
    e, log_a, log_b, alpha, beta, _ = _terms(theta, flags, np)
    shift_b = np.where(flags["product"] > 0, beta * centre["D"], 0.0)
    log_b = log_b + np.where(flags["product"] > 0, 0.0, beta * centre["D"] + np.log(centre["y"]))
    return {
        "E": e * centre["y"],
        "A": np.exp(log_a + alpha * centre["N"] + np.log(centre["y"]) + shift_b),
        "alpha": alpha,
        "B": np.exp(log_b),
        "beta": beta,
    }


def _scale(features: dict, y: np.ndarray) -> dict:
    flags = {flag: float(features[flag][0]) for flag in FLAGS}
    return CHINCHILLA.scale({k: features[k] for k in ("N", "D")}, y) | flags


def _coordinates(features: dict, centre: dict) -> dict:
    flags = {flag: np.asarray(features[flag], float) for flag in FLAGS}
    return CHINCHILLA.coordinates({k: features[k] for k in ("N", "D")}, centre) | flags


FAMILY = Law(
    name="family",
    formula="L = E + (a^p + b^p)^(1/p), a = A/N^alpha, b = B/D^beta",
    source="Hoffmann et al. 2022; Kaplan et al. 2020, equation 1.5; Bhagia et al. 2024",
    features=("N", "D", *FLAGS),
    params=tuple(replace(p, bounds=EXPONENT) if p.role == "exponent" else p for p in CHINCHILLA.params),
    curve=_curve,
    bounds=(FREE, FREE, EXPONENT, FREE, EXPONENT),
    scale=_scale,
    coordinates=_coordinates,
    form=_form,
    natural=_natural,
    starts=CHINCHILLA.starts,
)
