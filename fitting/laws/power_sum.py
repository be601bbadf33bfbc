"""Loss as an irreducible loss and power terms: L = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022), or one term alone.

At their centre, the data determine the level and the slope of each term well, and the exponents (the curvatures)
weakly; E follows from all. So theta = (level, then ln slope and exponent of each term), and E is the level minus
slope / exponent of each term. Where both terms share an exponent, theta = (level, ln slope in N, ln slope in D, alpha).
"""

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import FREE, INF, NO_E, Law, Param, floor, level
from fitting.laws.forms import SUM

EXPONENT, EXPONENT_OF_ONE_TERM = (0.0, 2.0), (1e-3, 3.0)
# T is the position of the predicted token: Kaplan et al. 2020, appendix D.5.
UNITS = {"N": "parameters", "D": "tokens", "C": "FLOPs", "S": "steps", "T": "tokens"}


def _power_sum(names: tuple[tuple[str, str, str], ...], bounds: tuple[float, float], **about) -> Law:
    """L = E + the sum of terms scale / feature^exponent.

    names: (scale, feature, exponent) of each term. bounds: of each exponent.
    """

    def at_centre(theta, xp=jnp):
        """Return E, the terms at the centre of the data, and their exponents."""
        alphas = [theta[..., i] for i in range(2, theta.shape[-1], 2)]
        terms = [xp.exp(theta[..., 2 * i + 1]) / alpha for i, alpha in enumerate(alphas)]
        left = theta[..., 0]
        for term in terms:
            left = left - term
        return floor(left, xp), terms, alphas

    def form(theta: jax.Array, x: dict) -> jax.Array:
        loss, terms, alphas = at_centre(theta)
        for term, alpha, (_, feature, _) in zip(terms, alphas, names, strict=True):
            loss = loss + term * jnp.exp(-alpha * x[feature])
        return loss

    def natural(theta: np.ndarray, centre: dict) -> dict:
        e, terms, alphas = at_centre(theta, np)
        params = {"E": e * centre["y"]}
        for term, alpha, (scale, feature, exponent) in zip(terms, alphas, names, strict=True):
            params |= {scale: term * np.exp(alpha * centre[feature]) * centre["y"], exponent: alpha}
        return params

    def theta(params: dict, centre: dict) -> np.ndarray:
        alphas = [params[exponent] for _, _, exponent in names]
        terms = [
            params[scale] * np.exp(-params[exponent] * centre[feature]) / centre["y"]
            for scale, feature, exponent in names
        ]
        return _theta(level(params["E"] / centre["y"], sum(terms)), terms, alphas)

    params = [Param("E", "floor", "{y}", (0.0, INF))]
    for scale, feature, exponent in names:
        params.append(Param(scale, "scale", f"{{y}} * {UNITS[feature]}^{exponent}", (0.0, INF)))
        params.append(Param(exponent, "exponent", "1", bounds))
    return Law(
        features=tuple(feature for _, feature, _ in names),
        params=tuple(params),
        bounds=(FREE, *(FREE, bounds) * len(names)),
        form=form,
        natural=natural,
        theta=theta,
        **about,
    )


def _theta(level_at_centre, terms, alphas) -> np.ndarray:
    columns = [level_at_centre]
    for term, alpha in zip(terms, alphas, strict=True):
        columns += [np.log(term * alpha), alpha]
    return np.stack(columns, axis=-1)


def _starts(e, terms, alphas) -> np.ndarray:
    """Starts of which every fourth has E = 0."""
    level_at_centre = level(e, sum(terms))
    level_at_centre[::4] = NO_E
    return _theta(level_at_centre, terms, alphas)


def _starts_of_two(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    # The mean of y is split at random between E and the two terms; the exponents cover all published ones. 99.9 % of
    # such starts reach the optimum on Chinchilla's points; of Hoffmann's grid 5.5 % do.
    e, *terms = rng.dirichlet((6.0, 2.0, 2.0), n).T * np.mean(y)
    return _starts(e, terms, rng.uniform(0.1, 0.8, (2, n)))


def _starts_of_one(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    term, alpha = rng.uniform(0.1, 0.8, n) * np.mean(y), rng.uniform(0.05, 0.8, n)
    return _starts(np.mean(y) - term, [term], [alpha])


def optimum_of_terms(log_a, alpha, log_b, beta) -> tuple:
    """(k, a) of ln N_opt = k + a ln C, where A/N^alpha + B/D^beta is smallest at C = 6 N D.

    N_opt = G (C/6)^a, a = beta / (alpha + beta), G = (alpha A / beta B)^(1 / (alpha + beta)) (Hoffmann et al. 2022,
    equation 4).
    """
    a = beta / (alpha + beta)
    log_g = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)
    return log_g - a * np.log(6), a


CHINCHILLA = _power_sum(
    (("A", "N", "alpha"), ("B", "D", "beta")),
    EXPONENT,
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. 2022, approach 3; Bhagia et al. 2024, step 1",
    curve=lambda p, x: SUM.loss(x.N, x.D, p.E, p.A, p.B, p.alpha, p.beta),
    starts=_starts_of_two,
    optimum=lambda p, batch: optimum_of_terms(np.log(p["A"]), p["alpha"], np.log(p["B"]), p["beta"]),
)
POWERS = tuple(
    _power_sum(
        (("A", feature, "alpha"),),
        EXPONENT_OF_ONE_TERM,
        name=f"power-{feature.lower()}",
        formula=f"L = E + A/{feature}^alpha",
        source="a power law with an irreducible loss; Henighan et al. 2020",
        curve=lambda p, x, feature=feature: p.E + p.A / getattr(x, feature) ** p.alpha,
        starts=_starts_of_one,
    )
    for feature in UNITS
)


def _untied(theta, xp=jnp):
    """theta of CHINCHILLA from that of TIED."""
    return xp.stack([theta[..., i] for i in (0, 1, 3, 2, 3)], axis=-1)


def _natural_tied(theta: np.ndarray, centre: dict) -> dict:
    natural = CHINCHILLA.natural(_untied(theta, np), centre)
    return {name: natural[name] for name in ("E", "A", "B", "alpha")}


def tied_starts(x: dict, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    at_centre, slope_n, alpha, slope_d, beta = _starts_of_two(x, y, n, rng).T
    return np.column_stack([at_centre, slope_n, slope_d, (alpha + beta) / 2])


TIED = Law(
    name="chinchilla-tied",
    formula="L = E + A/N^alpha + B/D^alpha",
    source="Muennighoff et al. 2023: one exponent, found equal when fitted apart; a short ladder cannot tell two apart",
    features=CHINCHILLA.features,
    params=(
        *CHINCHILLA.params[:2],
        Param("B", "scale", "{y} * tokens^alpha", (0.0, INF)),
        Param("alpha", "exponent", "1", EXPONENT),
    ),
    curve=lambda p, x: SUM.loss(x.N, x.D, p.E, p.A, p.B, p.alpha, p.alpha),
    bounds=(FREE, FREE, FREE, EXPONENT),
    form=lambda theta, x: CHINCHILLA.form(_untied(theta), x),
    natural=_natural_tied,
    starts=tied_starts,
    theta=lambda p, centre: CHINCHILLA.theta(p | {"beta": p["alpha"]}, centre)[..., [0, 1, 3, 2]],
    optimum=lambda p, batch: optimum_of_terms(np.log(p["A"]), p["alpha"], np.log(p["B"]), p["alpha"]),
)
