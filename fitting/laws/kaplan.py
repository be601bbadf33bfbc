"""The laws of Kaplan et al. 2020; what follows from them in closed form is in kaplan_relations.py."""

import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, Law, Param, log_scale
from fitting.laws.power_sum import optimum_of_terms
from fitting.laws.power_with_floor import EXPONENT


def _power_term(name: str, scale: str, exponent: str, centre: dict, log_term, alpha) -> dict:
    """{X_c, alpha} of a term (X_c / X)^alpha that is exp(log_term) at the centre."""
    return {scale: np.exp(centre[name] + log_term / alpha), exponent: alpha}


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """-d ln y / d x by least squares, within EXPONENT."""
    return float(np.clip(-np.polyfit(x, np.log(y), 1)[0], 0.01, 2.0))


def _power(name: str, feature: str, unit: str, symbol: str, source: str) -> Law:
    """L = (X_c / X)^alpha: theta = (ln L at the centre, alpha)."""
    scale, exponent = f"{symbol}_c", f"alpha_{symbol}"
    return Law(
        name=name,
        formula=f"L = ({scale} / {feature})^{exponent}",
        source=source,
        features=(feature,),
        params=(Param(scale, "scale", unit, FREE), Param(exponent, "exponent", "1", EXPONENT)),
        curve=lambda p, x: (getattr(p, scale) / getattr(x, feature)) ** getattr(p, exponent),
        bounds=(FREE, EXPONENT),
        form=lambda t, x: jnp.exp(t[..., 0] - t[..., 1] * x[feature]),
        natural=lambda t, c: _power_term(feature, scale, exponent, c, t[..., 0] + np.log(c["y"]), t[..., 1]),
        starts=lambda x, y, n, rng: np.column_stack(
            [np.zeros(n), np.clip(_slope(x[feature], y) * rng.uniform(0.5, 1.5, n), *EXPONENT)]
        ),
        theta=lambda p, c: np.array(
            [p[exponent] * (np.log(p[scale]) - c[feature]) - np.log(c["y"]), p[exponent]],
        ),
    )


def _two_terms(other: str, unit: str, powers: tuple[str, str], joined, **about) -> Law:
    """A law of terms a = (N_c/N)^alpha_N and b = (X_c/X)^alpha_X: theta = (ln a, alpha_N, ln b, alpha_X) at the
    centre, and joined(ln a, ln b, alpha_X) -> L."""
    scale, exponent = powers

    def form(t, x):
        return joined(t[..., 0] - t[..., 1] * x["N"], t[..., 2] - t[..., 3] * x[other], t[..., 3])

    def natural(t, c):
        log_y = np.log(c["y"])
        return _power_term("N", "N_c", "alpha_N", c, t[..., 0] + log_y, t[..., 1]) | _power_term(
            other, scale, exponent, c, t[..., 2] + log_y, t[..., 3]
        )

    def theta(p, c):
        log_y = np.log(c["y"])
        a = p["alpha_N"] * (np.log(p["N_c"]) - c["N"]) - log_y
        b = p[exponent] * (np.log(p[scale]) - c[other]) - log_y
        return np.array([a, p["alpha_N"], b, p[exponent]])

    def starts(x, y, n, rng):
        share = rng.uniform(0.1, 0.95, n)
        alpha, beta = rng.uniform(0.03, 0.5, (2, n))
        return np.column_stack([np.log(share), alpha, np.log(1 - share), beta])

    return Law(
        features=("N", other),
        params=(
            Param("N_c", "scale", "parameters", FREE),
            Param("alpha_N", "exponent", "1", EXPONENT),
            Param(scale, "scale", unit, FREE),
            Param(exponent, "exponent", "1", EXPONENT),
        ),
        bounds=(FREE, EXPONENT, FREE, EXPONENT),
        form=form,
        natural=natural,
        starts=starts,
        theta=theta,
        **about,
    )


def _optimum_nd(p: dict, batch: dict) -> tuple:
    """The power alpha_D is outside the sum of two terms, so the sum decides: exponents alpha_N / alpha_D and 1."""
    alpha = p["alpha_N"] / p["alpha_D"]
    return optimum_of_terms(alpha * np.log(p["N_c"]), alpha, np.log(p["D_c"]), np.ones_like(p["alpha_D"]))


def _optimum_ns(p: dict, batch: dict) -> tuple:
    """Training at the critical batch (appendix B)."""
    from fitting.laws.kaplan_relations import Frontier  # whose published constants are of the laws here

    frontier = Frontier.of(p, batch)
    return np.log(frontier.n(1.0)), frontier.alpha_c / frontier.alpha_n


KAPLAN = (
    _power("kaplan-n", "N", "parameters", "N", "Kaplan et al. 2020, equation 1.1"),
    _power("kaplan-d", "D", "tokens", "D", "Kaplan et al. 2020, equation 1.2"),
    _power("kaplan-c", "C", "FLOPs", "C", "Kaplan et al. 2020, equation 3.3"),
    _power("kaplan-cmin", "C_min", "FLOPs", "C", "Kaplan et al. 2020, equation 1.3"),
    _two_terms(
        "D",
        "tokens",
        ("D_c", "alpha_D"),
        lambda log_a, log_b, alpha: jnp.exp(alpha * jnp.logaddexp(log_a / alpha, log_b / alpha)),
        name="kaplan-nd",
        formula="L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
        source="Kaplan et al. 2020, equation 1.5",
        curve=lambda p, x: ((p.N_c / x.N) ** (p.alpha_N / p.alpha_D) + p.D_c / x.D) ** p.alpha_D,
        optimum=_optimum_nd,
    ),
    _two_terms(
        "S_min",
        "steps",
        ("S_c", "alpha_S"),
        lambda log_a, log_b, alpha: jnp.exp(log_a) + jnp.exp(log_b),
        name="kaplan-ns",
        formula="L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S",
        source="Kaplan et al. 2020, equation 1.6",
        curve=lambda p, x: (p.N_c / x.N) ** p.alpha_N + (p.S_c / x.S_min) ** p.alpha_S,
        optimum=_optimum_ns,
        at_critical_batch=True,
    ),
)
B_CRIT = Law(
    name="kaplan-bcrit",
    formula="B_crit = B_star / L^(1/alpha_B)",
    source="Kaplan et al. 2020, equation 1.4",
    features=("L",),
    params=(Param("B_star", "scale", "tokens", FREE), Param("alpha_B", "exponent", "1", FREE)),
    curve=lambda p, x: p.B_star / x.L ** (1 / p.alpha_B),
    bounds=(FREE, (0.1, 50.0)),
    form=lambda t, x: jnp.exp(t[..., 0] - t[..., 1] * x["L"]),
    natural=lambda t, c: {"B_star": np.exp(t[..., 0] + t[..., 1] * c["L"]) * c["y"], "alpha_B": 1 / t[..., 1]},
    starts=lambda x, y, n, rng: np.column_stack([np.zeros(n), rng.uniform(1.0, 10.0, n)]),
    theta=lambda p, c: np.array([np.log(p["B_star"] / c["y"]) - c["L"] / p["alpha_B"], 1 / p["alpha_B"]]),
)
BATCH = Law(
    name="batch",
    formula="S = S_min (1 + B_crit/B)",
    source="McCandlish et al. 2018; Kaplan et al. 2020, equations 5.1, 5.2 and 5.4",
    features=("B",),
    params=(Param("S_min", "scale", "steps", FREE), Param("B_crit", "scale", "tokens", FREE)),
    curve=lambda p, x: p.S_min * (1 + p.B_crit / x.B),
    bounds=(FREE, FREE),
    form=lambda t, x: jnp.exp(t[..., 0]) * (1 + jnp.exp(t[..., 1] - x["B"])),
    natural=lambda t, c: {"S_min": np.exp(t[..., 0]) * c["y"], "B_crit": np.exp(t[..., 1] + c["B"])},
    starts=lambda x, y, n, rng: np.column_stack([np.full(n, np.log(np.min(y))), rng.uniform(-3.0, 3.0, n)]),
    theta=lambda p, c: np.array([np.log(p["S_min"] / c["y"]), np.log(p["B_crit"]) - c["B"]]),
)
TRANSFER = Law(
    name="transfer",
    formula="L' = L + offset",
    source="Kaplan et al. 2020, section 3.2.2: the loss on another text, from the loss on the training text",
    features=("L",),
    params=(Param("offset", "other", "{y}", FREE),),
    curve=lambda p, x: x.L + p.offset,
    bounds=(FREE,),
    scale=lambda features, y: {"L": 0.0, "y": 1.0},
    coordinates=lambda features, centre: dict(features),
    form=lambda t, x: x["L"] + t[..., 0],
    natural=lambda t, c: {"offset": t[..., 0]},
    starts=lambda x, y, n, rng: np.full((n, 1), np.mean(y - x["L"])),
    theta=lambda p, c: np.array([p["offset"]]),
    log_space=False,
)
RATE = Law(
    name="kaplan-lr",
    formula="rate = a - c ln N",
    source="Kaplan et al. 2020, equation D.1",
    features=("N",),
    params=(Param("a", "other", "{y}", FREE), Param("c", "other", "{y}", FREE)),
    curve=lambda p, x: p.a - p.c * jnp.log(x.N),
    bounds=(FREE, FREE),
    scale=lambda features, y: log_scale(features, y) | {"y": 1.0},
    form=lambda t, x: t[..., 0] - t[..., 1] * x["N"],
    natural=lambda t, c: {"a": t[..., 0] + t[..., 1] * c["N"], "c": t[..., 1]},
    starts=lambda x, y, n, rng: np.tile([np.mean(y), -np.polyfit(x["N"], y, 1)[0]], (n, 1)),
    theta=lambda p, c: np.array([p["a"] - p["c"] * c["N"], p["c"]]),
    log_space=False,
)
