"""A user's own law, and laws of which some parameters are fixed or bounded."""

import warnings

import numpy as np
import pytest

import fitting

TRUE = {"E": 1.8, "A": 400.0, "alpha": 0.34, "B": 1500.0, "beta": 0.36}
OWN = fitting.Law(
    lambda p, x: p.E + p.A / x.N**p.alpha + p.B / x.D**p.beta,
    params={"E": "floor", "A": "scale", "alpha": "exponent", "B": "scale", "beta": "exponent"},
    name="mine",
)
FREE, POSITIVE = (-np.inf, np.inf), (0.0, np.inf)


def points(noise=0.0) -> dict:
    """40 runs of Chinchilla's law with known parameters."""
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(*np.log([1e7, 1e10]), 40)), np.exp(rng.uniform(*np.log([1e9, 1e12]), 40))
    y = TRUE["E"] + TRUE["A"] / n ** TRUE["alpha"] + TRUE["B"] / d ** TRUE["beta"]
    return {"N": n, "D": d, "y": y * np.exp(noise * rng.standard_normal(40))}


@pytest.fixture(scope="module")
def built_in() -> fitting.Fit:
    return fit(points(noise=0.003), law="chinchilla")


def fit(data, **settings) -> fitting.Fit:
    """Without warnings, which are asserted as flags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fitting.FitWarning)
        return fitting.fit(**data, **{"resamples": 40} | settings)


@pytest.mark.parametrize(
    "settings",
    [{"law": OWN}, {"bounds": {"alpha": (0.1, 1.0)}}],
    ids=["own law", "bounds that do not bind"],
)
def test_the_fit_is_that_of_the_built_in_law(settings, built_in):
    found = fit(points(noise=0.003), **settings)
    assert found.law.features == ("N", "D")  # of the own law: seen from its formula
    assert found.params == pytest.approx(built_in.params, rel=1e-4)
    assert found.stderr == pytest.approx(built_in.stderr, rel=1e-2)
    assert found.json()["objective"] == pytest.approx(built_in.json()["objective"], rel=1e-6)
    far = {"N": 7e10, "D": 1.4e12}
    assert float(found.predict(**far)) == pytest.approx(float(built_in.predict(**far)), rel=1e-4)
    assert not [flag for flag in found.flags if "bound" in flag]


def test_an_own_law_may_have_features_of_its_own_and_need_no_logarithm():
    """A parabola in the learning rate, whose least squares NumPy knows."""
    rate, rng = np.linspace(0.1, 2.0, 25), np.random.default_rng(1)
    y = 3.0 + 0.5 * (rate - 1.2) ** 2 + 0.01 * rng.standard_normal(25)
    params = [
        fitting.Param("least", "other", "{y}", FREE),
        fitting.Param("bend", "scale", "{y}", POSITIVE),
        fitting.Param("best", "other", "1", FREE),
    ]
    law = fitting.Law(lambda p, x: p.least + p.bend * (x.rate - p.best) ** 2, params, log_space=False)
    found = fit({"rate": rate, "y": y}, law=law, huber_delta=1.0).params
    c2, c1, c0 = np.polyfit(rate, y, 2)
    best = -c1 / (2 * c2)
    assert found == pytest.approx({"least": c0 - c2 * best**2, "bend": c2, "best": best}, rel=1e-5)


@pytest.mark.parametrize("law,fixed", [("chinchilla", {"E": 1.8}), (OWN, {"alpha": 0.34, "beta": 0.36})])
def test_fixed_parameters_stay_and_the_others_are_fitted(law, fixed):
    found = fit(points(noise=1e-7), law=law, fixed=fixed)
    assert found.params == pytest.approx(TRUE, rel=1e-4)
    for name, value in fixed.items():
        assert found.params[name] == value and (found.samples[name] == value).all()
        assert found.stderr[name] == 0 and found.conf_int()[name] == (value, value)
    assert all(found.stderr[name] > 0 for name in TRUE if name not in fixed)


@pytest.mark.parametrize(
    "law,bounds,ends",
    [
        ("chinchilla", {"E": (0.0, 1.5), "beta": (0.4, 0.6)}, {"E": 1.5, "beta": 0.4}),
        (OWN, {"alpha": (0.1, 0.3)}, {"alpha": 0.3}),
    ],
)
def test_bounds_that_bind_are_respected_and_flagged(law, bounds, ends):
    with pytest.warns(fitting.FitWarning) as warned:
        found = fitting.fit(**points(noise=0.003), law=law, bounds=bounds, resamples=40)
    for name, end in ends.items():
        assert found.params[name] == pytest.approx(end, rel=2e-3)
        values = np.append(found.params[name], found.samples[name])
        assert ((values >= bounds[name][0]) & (values <= bounds[name][1])).all()
        assert f"parameter at its bound: {name}" in found.flags
    assert [str(w.message) for w in warned if w.category is fitting.FitWarning] == found.flags


def test_a_small_unit_of_the_loss_puts_no_parameter_on_a_bound(built_in):
    """E is 1.8e-4 then, and as far from 0 as before."""
    data = points(noise=0.003)
    found = fit(data | {"y": 1e-4 * data["y"]}, bounds={"alpha": (0.1, 1.0)})
    assert found.params["E"] == pytest.approx(1e-4 * built_in.params["E"], rel=1e-4)
    assert not [flag for flag in found.flags if "bound" in flag]
    assert found.bootstrap.dof_T == pytest.approx(built_in.bootstrap.dof_T)


def test_a_small_scale_is_not_on_its_bound():
    x = np.geomspace(1.0, 1e4, 40)
    y = (2 + 5e-4 * x**0.7) * np.exp(0.001 * np.random.default_rng(0).standard_normal(40))
    law = fitting.Law(lambda p, x: p.E + p.c * x.X**p.a, {"E": "floor", "c": "scale", "a": "exponent"})
    found = fit({"X": x, "y": y}, law=law)
    assert found.params["c"] == pytest.approx(5e-4, abs=4 * found.stderr["c"]) and found.stderr["c"] < 5e-5
    assert not [flag for flag in found.flags if "bound" in flag]


@pytest.mark.parametrize("law", ["chinchilla", OWN], ids=["built-in", "own"])
@pytest.mark.parametrize(
    "settings,message",
    [
        ({"fixed": {"E": -0.1}}, "fixed: E = -0.1 is not within 0 to inf"),
        ({"fixed": {"gamma": 0.3}}, "has no parameter 'gamma'; it has E, A, alpha, B, beta"),
        ({"fixed": TRUE}, "every parameter is fixed, so there is nothing to fit"),
        ({"bounds": {"gamma": (0.0, 1.0)}}, "has no parameter 'gamma'; it has E, A, alpha, B, beta"),
        ({"bounds": {"alpha": (0.5, 0.2)}}, "bounds: alpha: 0.5 is not below 0.2"),
    ],
)
def test_what_cannot_be_fixed_or_bounded_is_said_in_one_line(law, settings, message):
    with pytest.raises(fitting.InputError) as error:
        fit(points(), law=law, **settings)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert [error.value.argument] == list(settings)


def test_a_role_that_does_not_exist_is_said_in_one_line():
    with pytest.raises(fitting.InputError, match="E is 'offset'; roles are floor, scale, exponent, other") as error:
        fitting.Law(lambda p, x: p.E + x.N, params={"E": "offset"})
    assert error.value.argument == "params"
