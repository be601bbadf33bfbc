"""The grid posterior against known laws, against the study's prototype, and its penalised fits against SciPy."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from fitting.forecasting import penalised, posterior, sigmoid_posterior
from fitting.forecasting.relevance import relevance, without_outliers
from fitting.inference.calibration import QUANTILE, calibration, half_width_of_mean
from fitting.laws.forms import FORMS, KAPLAN, PRODUCT, SUM

PROTOTYPE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "forecast_prototype"
N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e8, 1e9, 4), np.geomspace(4e9, 1e11, 4)))
TARGET = 7e9, 1.4e11
LAWS = {  # published: Hoffmann et al. 2022; Kaplan et al. 2020 with a floor; a power of N D
    "sum": lambda n, d: 1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28,
    "kaplan": lambda n, d: 1.5 + ((8.8e13 / n) ** (0.076 / 0.095) + 5.4e13 / d) ** 0.3 / 4,
    "product": lambda n, d: 1.2 + 900 * (n * d) ** -0.17,
}


@pytest.fixture(scope="module")
def prototype():
    """The study's code, an independent implementation; where it is missing, the test is skipped with a message."""
    if not PROTOTYPE.exists():
        pytest.skip("the prototype of the forecast study is not beside the repository")
    sys.path.insert(0, str(PROTOTYPE))
    try:
        import direct
        import step1
        import step2
    finally:
        sys.path.remove(str(PROTOTYPE))
    return step1, step2, direct


@pytest.mark.parametrize("name", LAWS)
def test_a_known_law_is_extrapolated_and_lies_in_the_interval(name):
    y = LAWS[name](N, D) * np.exp(0.003 * np.random.default_rng(0).standard_normal(16))
    forecast = posterior.fit(N, D, y, *TARGET).forecast(*TARGET)
    error = np.log(LAWS[name](*TARGET)) - forecast.log_loss
    assert abs(error) < 0.04 and abs(error) < forecast.half_width


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_the_forecast_is_that_of_the_prototype(prototype, noise):
    step1, _, direct = prototype
    y = LAWS["sum"](N, D) * np.exp(noise * np.random.default_rng(1).standard_normal(16))
    n_t, d_t = (np.array([value]) for value in TARGET)
    theirs = step1.fit_task(N, D, y, n_t, d_t, direct.CONFIG, rt=np.log(d_t[0] / n_t[0]))
    ours = posterior.fit(N, D, y, *TARGET)
    [mean], [sd] = ours.predict([TARGET[0]], [TARGET[1]])
    # To 1e-3: the prototype's sum form squares f / y - 1 where ours squares ln(f / y).
    assert mean == pytest.approx(theirs["mean"][0], abs=1e-3)
    assert sd == pytest.approx(theirs["sd"][0], rel=0.05) and ours.noise == pytest.approx(theirs["n3"], rel=0.05)
    assert np.array(list(ours.form_weights.values())) == pytest.approx(theirs["fw"], abs=0.05)


def test_the_sigmoids_are_those_of_the_prototype(prototype):
    _, step2, direct = prototype
    loss = np.linspace(0.6, 1.4, 20)
    acc = 0.25 + 0.6 / (1 + np.exp(6 * (loss - 0.8))) + 0.01 * np.random.default_rng(0).standard_normal(20)
    for settings, shape in ((direct.HILL, sigmoid_posterior.HILL), (direct.LOGISTIC, sigmoid_posterior.LOGISTIC)):
        theirs = step2.fit(loss, acc, np.ones(20), 0.25, step2.DEF2 | settings)
        ours = sigmoid_posterior.fit(loss, acc, np.ones(20), 0.25, shape)
        mean, sd, noise = theirs(np.array([0.4, 0.5, 0.9]))
        assert ours.predict([0.4, 0.5, 0.9])[0] == pytest.approx(mean, abs=1e-9)
        assert ours.predict([0.4, 0.5, 0.9])[1] == pytest.approx(sd, abs=1e-9) and ours.noise == pytest.approx(noise)


def test_weights_are_those_of_the_recipe():
    """w = C^1 (kernel of width 1.25 in ln D/N + 0.02), largest 1; residuals beyond 2.5 robust sd are weighed down."""
    n, d = np.array([1e8, 1e8, 1e9]), np.array([2e9, 2e10, 2e10])
    raw = n * d / 2e19 * (np.exp(-0.5 * (np.log([20, 200, 20]) - np.log(20)) ** 2 / 1.25**2) + 0.02)
    assert relevance(n, d, 1e10, 2e11) == pytest.approx(raw / raw.max())
    assert without_outliers(np.ones(3), np.array([0.0, 0.001, 0.1])) == pytest.approx([1, 1, 2.5 * 0.003 / 0.1])


def test_units_do_not_matter():
    """Loss in bits or nats, N in parameters or millions: the same forecast."""
    y = LAWS["sum"](N, D)
    one = posterior.fit(N, D, y, *TARGET).forecast(*TARGET)
    other = posterior.fit(N / 1e6, D / 1e6, y / np.log(2), TARGET[0] / 1e6, TARGET[1] / 1e6)
    again = other.forecast(TARGET[0] / 1e6, TARGET[1] / 1e6)
    assert again.log_loss + np.log(np.log(2)) == pytest.approx(one.log_loss, abs=1e-9)
    assert again.half_width == pytest.approx(one.half_width, rel=1e-6)


@pytest.mark.parametrize(("floor", "off"), [("families", 0.105), ("uniform", 0.058)])
def test_without_a_floor_a_uniform_prior_of_it_errs_less(floor, off):
    """The true law has E = 0. The target has a hundred times the compute of the largest run."""
    y = 400 * N**-0.25 + 400 * D**-0.25
    truth = np.log(400 * 1e10**-0.25 + 400 * 1e12**-0.25)
    forecast = posterior.fit(N, D, y, 1e10, 1e12, posterior.FLOORS[floor]).forecast(1e10, 1e12)
    assert forecast.log_loss - truth == pytest.approx(off, abs=0.003)


def test_every_form_is_its_formula_and_falls():
    for form, law in ((SUM, 2 + 3 / 4**0.5 + 5 / 9**0.5), (PRODUCT, 2 + 3 / (4**0.5 * 9**0.5))):
        assert form.loss(4.0, 9.0, 2.0, 3.0, 5.0, 0.5, 0.5) == pytest.approx(law)
    assert KAPLAN.loss(4.0, 9.0, 2.0, 3.0, 5.0, 0.25, 0.5) == pytest.approx(2 + (3 / 4**0.5 + 5 / 9) ** 0.5)
    for form in FORMS:
        losses = form.loss(np.geomspace(1, 100, 5), 2.0, 1.0, 1.0, 1.0, 0.3, 0.3)
        assert (np.diff(losses) < 0).all()


def test_penalised_fits_are_scipys(prototype):
    del prototype
    y = LAWS["sum"](N, D)[None] * np.exp(0.01 * np.random.default_rng(2).standard_normal((2, 16)))
    y[1, 3] = np.nan
    priors = posterior.PRIORS, posterior.FLOORS["uniform"]
    laws = [
        posterior.fit(N[ok], D[ok], y_n[ok], *TARGET, prior)
        for y_n, prior in zip(y, priors, strict=True)
        for ok in [~np.isnan(y_n)]
    ]
    arguments = N, D, y, laws, np.arange(16), 3, 0
    fitted = penalised.fit(*arguments)
    assert fitted.converged == 1.0 and fitted.theta_FTRP.shape == (3, 2, 4, 5)
    for f, t, r in ((0, 0, 0), (1, 1, 2), (2, 0, 3), (1, 0, 0)):
        residuals = penalised.residuals_of(*arguments, f, t, r)
        theirs = optimize.least_squares(residuals, laws[t].best_FP[f], xtol=1e-12, ftol=1e-12, gtol=1e-12)
        ours = fitted.theta_FTRP[f, t, r]
        assert 0.5 * np.sum(residuals(ours) ** 2) <= theirs.cost * (1 + 1e-6)
        assert ours == pytest.approx(theirs.x, abs=2e-3)
    means = np.array([law.forecast(*TARGET).log_loss for law in laws])
    weights_TF = np.array([list(law.form_weights.values()) for law in laws])
    best_T = np.einsum("tf,ft->t", weights_TF, fitted.log_loss(*TARGET)[:, :, 0])
    assert best_T == pytest.approx(means, abs=0.02)  # the penalised optimum beside the posterior mean


def test_constants_have_a_source_and_a_mean_is_narrower_than_its_parts():
    constants = calibration()
    assert constants.loss_half_width(0.01, 0.0) == pytest.approx(0.01 * constants.loss_noise)
    assert constants.loss_half_width(0.0, -0.2) == constants.loss_half_width(0.0, 0.2) > 0
    wide = constants.loss_half_width(0.001, 0.01, 0.3)
    assert wide == pytest.approx(QUANTILE * 0.3, rel=0.01)  # the runs say nothing: the prior's width
    assert half_width_of_mean([1.0, 1.0], 1.0) == 1.0
    assert half_width_of_mean([1.0, 1.0], 0.0) == pytest.approx(np.sqrt(0.5))


def test_a_long_table_is_read_in_parts(monkeypatch):
    y = LAWS["sum"](N, D)
    whole = posterior.fit(N, D, y, *TARGET).forecast(*TARGET)
    monkeypatch.setattr(posterior, "AT_ONCE", 5)
    assert posterior.fit(N, D, y, *TARGET).forecast(*TARGET).log_loss == pytest.approx(whole.log_loss, abs=1e-12)
