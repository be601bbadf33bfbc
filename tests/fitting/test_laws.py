"""Every law: its natural parameters mean what its formula says, and its starts are usable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting import bootstrap
from fitting.laws import INF, LAWS, Law, Param, residuals

FORMULAS = {
    "chinchilla": lambda p, x: p["E"] + p["A"] / x["N"] ** p["alpha"] + p["B"] / x["D"] ** p["beta"],
    "chinchilla-tied": lambda p, x: p["E"] + p["A"] / x["N"] ** p["alpha"] + p["B"] / x["D"] ** p["alpha"],
    "sigmoid": lambda p, x: p["b"] + p["a"] / (1 + np.exp(-p["k"] * (x["bpb"] - p["L0"]))),
}
FEATURES = {
    "N": np.geomspace(1e8, 1e10, 9),
    "D": np.geomspace(3e9, 1e12, 9)[[4, 0, 6, 2, 8, 1, 7, 3, 5]],
    "bpb": np.linspace(0.6, 1.8, 9),
}


def example(name):
    """(law, features, y, centre, starts_SP) with data that the law could describe."""
    law = LAWS[name]
    features = {k: FEATURES[k] for k in law.features}
    y = np.linspace(0.7, 0.3, 9) if name == "sigmoid" else np.linspace(3.0, 2.2, 9)
    centre = law.scale(features, y)
    x = law.coordinates(features, centre)
    return law, features, y, centre, law.starts(x, y / centre["y"], 50, np.random.default_rng(0))


@pytest.mark.parametrize("name", LAWS)
def test_the_form_is_the_formula_in_natural_parameters(name):
    law, features, _, centre, starts_SP = example(name)
    x = law.coordinates(features, centre)
    with jax.enable_x64(True):
        for start_P in starts_SP:
            ours = np.asarray(law.form(jnp.asarray(start_P), x)) * centre["y"]
            np.testing.assert_allclose(ours, FORMULAS[name](law.natural(start_P, centre), features), rtol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_starts_are_finite_within_bounds_and_some_lie_on_one(name):
    law, _, _, centre, starts_SP = example(name)
    assert starts_SP.shape == (50, len(law.params)) and np.isfinite(starts_SP).all()
    lo, hi = np.array(law.bounds).T
    assert ((starts_SP >= lo) & (starts_SP <= hi)).all()
    on = np.array([law.on_bound(s) for s in starts_SP])
    assert 0 < on.any(axis=1).sum() < 50
    natural = law.natural(starts_SP, centre)
    for param in law.params:
        assert (natural[param.name] >= param.bounds[0]).all() and (natural[param.name] <= param.bounds[1]).all()


@pytest.mark.parametrize("name", LAWS)
def test_half_the_squared_residuals_are_hubers_loss(name):
    law, features, y, centre, starts_SP = example(name)
    lane = law.coordinates(features, centre) | {"y": y / centre["y"]}
    for delta in (1e-3, 0.1, 10.0):
        with jax.enable_x64(True):
            r = np.asarray(residuals(law)(jnp.asarray(starts_SP[1]), {"delta": delta}, lane))
        fitted = FORMULAS[name](law.natural(starts_SP[1], centre), features)
        error = np.log(y) - np.log(fitted) if law.log_space else y - fitted
        u = np.abs(error)
        huber = np.where(u < delta, u**2 / 2, delta * (u - delta / 2))
        np.testing.assert_allclose(delta**2 * r**2 / 2, huber, rtol=1e-9)
        assert (np.sign(r) == np.sign(error)).all()


def test_a_parameter_on_its_bound_is_seen():
    law = LAWS["chinchilla"]
    inside = np.array([1.5, np.log(0.2 * 0.3), 0.3, np.log(0.3 * 0.3), 0.3])  # E = 1.5 - 0.2 - 0.3
    assert not law.on_bound(inside).any()
    assert law.on_bound(np.array([0.2, *inside[1:]])).tolist() == [True, False, False, False, False]
    assert law.on_bound(np.array([*inside[:4], 1.9999])).tolist() == [False, False, False, False, True]


def test_a_new_law_is_one_entry():
    power = Law(
        name="power",
        formula="y = c N^-a",
        features=("N",),
        params=(Param("c", "y", (0.0, INF)), Param("a", "1", (-INF, INF))),
        bounds=((-INF, INF), (-INF, INF)),
        scale=LAWS["chinchilla"].scale,
        coordinates=LAWS["chinchilla"].coordinates,
        form=lambda theta, x: jnp.exp(theta[..., 0] - theta[..., 1] * x["N"]),
        natural=lambda t, c: {"c": np.exp(t[..., 0] + t[..., 1] * c["N"]) * c["y"], "a": t[..., 1]},
        starts=lambda x, y, n, rng: np.zeros((n, 2)),
        log_space=True,
        source="Kaplan et al. 2020, eq. 1.1",
    )
    fitted = bootstrap.fit(power, {"N": FEATURES["N"]}, 40 * FEATURES["N"] ** -0.076, delta=1e-2, n_resamples=10)
    assert fitted.params(0) == pytest.approx({"c": 40, "a": 0.076}, rel=1e-6)
