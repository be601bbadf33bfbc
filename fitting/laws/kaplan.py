"""The laws of Kaplan et al. 2020; what follows from them in closed form is in kaplan_relations.py."""

import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, Law, Param, log_scale
from fitting.laws.power_sum import EXPONENT_OF_ONE_TERM as EXPONENT
from fitting.laws.power_sum import UNITS, optimum_of_terms


def _powers(features: dict[str, str], joined, **about) -> Law:
    """A law of terms (X_c / X)^alpha_X. features: {feature: X}.

    theta = (ln term at the centre, alpha_X) of each term; joined(ln term, ..., alpha of the last one) -> L.
    """

    def form(t, x):
        return joined(*(t[..., 2 * i] - t[..., 2 * i + 1] * x[f] for i, f in enumerate(features)), t[..., -1])

    def natural(t, c):
        params = {}
        for i, (feature, symbol) in enumerate(features.items()):
            log_term, alpha = t[..., 2 * i] + np.log(c["y"]), t[..., 2 * i + 1]
            with np.errstate(over="ignore"):  # an exponent near 0 does not determine X_c
                params |= {f"{symbol}_c": np.exp(c[feature] + log_term / alpha), f"alpha_{symbol}": alpha}
        return params

    def theta(p, c):
        values = []
        for feature, symbol in features.items():
            alpha = p[f"alpha_{symbol}"]
            values += [alpha * (np.log(p[f"{symbol}_c"]) - c[feature]) - np.log(c["y"]), alpha]
        return np.array(values)

    params = []
    for symbol in features.values():
        params.append(Param(f"{symbol}_c", "scale", UNITS[symbol], FREE))
        params.append(Param(f"alpha_{symbol}", "exponent", "1", EXPONENT))
    bounds = (FREE, EXPONENT) * len(features)
    return Law(
        features=tuple(features), params=tuple(params), bounds=bounds, form=form, natural=natural, theta=theta, **about
    )


def _one_power(name: str, feature: str, symbol: str, equation: str) -> Law:
    def starts(x, y, n, rng):
        slope = np.clip(-np.polyfit(x[feature], np.log(y), 1)[0], 0.01, 2.0)
        return np.column_stack([np.zeros(n), np.clip(slope * rng.uniform(0.5, 1.5, n), *EXPONENT)])

    return _powers(
        {feature: symbol},
        lambda log_term, alpha: jnp.exp(log_term),
        name=name,
        formula=f"L = ({symbol}_c / {feature})^alpha_{symbol}",
        source=f"Kaplan et al. 2020, equation {equation}",
        curve=lambda p, x: (getattr(p, f"{symbol}_c") / getattr(x, feature)) ** getattr(p, f"alpha_{symbol}"),
        starts=starts,
    )


def _starts_of_two(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    share = rng.uniform(0.1, 0.95, n)
    alpha, beta = rng.uniform(0.03, 0.5, (2, n))
    return np.column_stack([np.log(share), alpha, np.log(1 - share), beta])


def _optimum_nd(p: dict, batch: dict) -> tuple:
    """L is a power of a sum of two terms and smallest where the sum is: its exponents are alpha_N / alpha_D and 1."""
    alpha = p["alpha_N"] / p["alpha_D"]
    return optimum_of_terms(alpha * np.log(p["N_c"]), alpha, np.log(p["D_c"]), np.ones_like(p["alpha_D"]))


def _optimum_ns(p: dict, batch: dict) -> tuple:
    """For training at the critical batch size (appendix B)."""
    from fitting.laws.kaplan_relations import Frontier  # it imports the laws of this module

    frontier = Frontier.of(p, batch)
    return np.log(frontier.n(1.0)), frontier.alpha_c / frontier.alpha_n


KAPLAN = (
    _one_power("kaplan-n", "N", "N", "1.1"),
    _one_power("kaplan-d", "D", "D", "1.2"),
    _one_power("kaplan-c", "C", "C", "3.3"),
    _one_power("kaplan-cmin", "C_min", "C", "1.3"),
    _powers(
        {"N": "N", "D": "D"},
        lambda log_a, log_b, alpha: jnp.exp(alpha * jnp.logaddexp(log_a / alpha, log_b / alpha)),
        name="kaplan-nd",
        formula="L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
        source="Kaplan et al. 2020, equation 1.5",
        curve=lambda p, x: ((p.N_c / x.N) ** (p.alpha_N / p.alpha_D) + p.D_c / x.D) ** p.alpha_D,
        starts=_starts_of_two,
        optimum=_optimum_nd,
    ),
    _powers(
        {"N": "N", "S_min": "S"},
        lambda log_a, log_b, alpha: jnp.exp(log_a) + jnp.exp(log_b),
        name="kaplan-ns",
        formula="L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S",
        source="Kaplan et al. 2020, equation 1.6",
        curve=lambda p, x: (p.N_c / x.N) ** p.alpha_N + (p.S_c / x.S_min) ** p.alpha_S,
        starts=_starts_of_two,
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
