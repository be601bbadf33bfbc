"""Laws of the loss from arrays and data frames: what is taken, what comes back, what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import fitting

N, RATIO = np.repeat(np.geomspace(1e7, 3e9, 5), 4), np.tile(np.geomspace(5, 100, 4), 5)
D = N * RATIO
LOSS = (1.8 + 480 / N**0.35 + 2000 / D**0.37) * np.exp(0.002 * np.random.default_rng(0).standard_normal(20))
TRUE = {"E": 1.8, "A": 480, "alpha": 0.35, "B": 2000, "beta": 0.37}


def fitted(**settings):
    return fitting.fit(N=N, D=D, y=LOSS, **({"resamples": 20} | settings))


def test_columns_of_any_library_are_the_same_points():
    import pandas
    import pyarrow

    columns = {"size": N, "D": D, "nll": LOSS}
    expected = fitted().params
    for data in (columns, pandas.DataFrame(columns), pyarrow.table(columns)):
        fit = fitting.fit(data, N="size", D="D", y="nll", resamples=20)
        assert fit.params == expected


def test_a_missing_value_is_said_with_its_row():
    import pandas

    frame = pandas.DataFrame({"params": N, "tokens": D, "loss": LOSS})
    frame.loc[3, "loss"] = np.nan
    with pytest.raises(fitting.InputError, match="data, row 3: loss"):
        fitting.fit(frame, N="params", D="tokens", y="loss")


def test_a_dictionary_needs_no_pandas():
    code = (
        "import sys, numpy as np, fitting\n"
        "runs = fitting.runs_table({'run': ['a', 'b'], 'n_params': [1e6, 2e6], 'tokens': [1e7, 2e7], 'step': [1, 2],"
        " 'task': ['t', 't'], 'metric': ['bpb', 'bpb'], 'value': [1.0, 0.9]})\n"
        "assert len(runs) == 2 and 'pandas' not in sys.modules\n"
        "sys.modules['pandas'] = None\n"
        "from fitting.api.results import to_frame\n"
        "try: to_frame([{'a': 1}])\n"
        "except fitting.InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "to_frame makes a pandas.DataFrame: pip install pandas\n", done.stderr


def test_errors_covariance_and_intervals_agree():
    """For an exponent, Wald's interval is the estimate +- Student's t times the standard error."""
    fit = fitted(groups=np.repeat(range(10), 2), resamples=200, fixed={"E": 1.8})
    assert fit.bootstrap.method == "residuals" and fit.stderr["E"] == 0
    np.testing.assert_allclose(np.sqrt(np.diag(fit.cov)), list(fit.stderr.values()), rtol=1e-9)
    lower, upper = fit.conf_int(0.95)["alpha"]
    half = stats.t.ppf(0.975, fit.bootstrap.dof_T[0]) * fit.stderr["alpha"]
    assert (upper - lower) / 2 == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize(
    "settings", [{}, {"fixed": {"E": 1.8}}, {"bounds": {"alpha": (0.3, 0.4)}}, {"groups": np.repeat(range(5), 4)}]
)
def test_json_keeps_a_fit_to_the_bit(settings, tmp_path):
    fit = fitted(**settings)
    fit.to_json(tmp_path / "fit.json")
    again = fitting.from_json(tmp_path / "fit.json")
    assert (again.params, again.stderr, again.conf_int(0.9), again.flags, str(again)) == (
        fit.params, fit.stderr, fit.conf_int(0.9), fit.flags, str(fit),
    )  # fmt: skip
    assert all(again.samples[name].tobytes() == fit.samples[name].tobytes() for name in fit.params)
    there, here = (f.predict(N=7e9, D=2e12) for f in (again, fit))
    assert there == here and again.N_opt(1e22) == fit.N_opt(1e22)


def test_json_of_a_law_of_ones_own_needs_the_law(tmp_path):
    law = fitting.Law(lambda p, x: p.E + p.A / x.N**p.alpha, params={"E": "floor", "A": "scale", "alpha": "exponent"})
    fit = fitting.fit(N=N[::4], y=1.8 + 480 / N[::4] ** 0.35, law=law, resamples=5)
    assert fit.params == pytest.approx({"E": 1.8, "A": 480, "alpha": 0.35}, rel=1e-3)
    fit.to_json(tmp_path / "fit.json")
    assert fitting.from_json(tmp_path / "fit.json", law=law).predict(N=1e10) == fit.predict(N=1e10)
    with pytest.raises(fitting.InputError, match="of a law of your own; give it as law="):
        fitting.from_json(tmp_path / "fit.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(fitting.InputError, match=r"other.json: not a fit that to_json wrote"):
        fitting.from_json(tmp_path / "other.json")


def test_budgets_are_allocated_from_fits_parabolas_and_publications():
    budgets = np.repeat([1e18, 1e19, 1e20], 7)
    sizes = 0.09 * budgets**0.5 * np.tile(np.geomspace(0.3, 3, 7), 3)
    loss = 1.8 + 480 / sizes**0.35 + 2000 / (budgets / 6 / sizes) ** 0.35
    parabolas = fitting.isoflop({"C": budgets, "N": sizes, "y": loss}, C="C", N="N", y="y", resamples=20)
    assert parabolas.exponents["N"].mean == pytest.approx(0.5, abs=0.01) and parabolas.plot().has_data()
    with pytest.raises(fitting.InputError, match="IsoFLOP has no law of the loss"):
        parabolas.loss_opt(1e22)
    for source in (parabolas, fitted(), "besiroglu"):
        row = fitting.allocate(source, C=1e22).rows[0]
        assert row["n_params"] * row["tokens"] == pytest.approx(1e22 / 6)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"y": None}, "y: the loss is missing"),
        ({"N": "params"}, "N: a column's name without a table"),
        ({"N": -N}, "data, row 0: N is -1e[+]07; it must be positive"),
        ({"N": N[:3]}, "columns of different lengths: .*'N': 3, 'D': 20"),
        ({"law": "chinchila"}, "no law of the loss is called 'chinchila'"),
        ({"huber_delta": 0}, "Huber's threshold is 0; it must be positive"),
        ({"resamples": 1}, "1 resamples: a standard error needs at least 2"),
        ({"fixed": {"F": 1.0}}, "F"),
    ],
)
def test_wrong_input_is_one_line(arguments, message):
    with pytest.raises(fitting.InputError, match=message) as error:
        fitting.fit(**({"N": N, "D": D, "y": LOSS} | arguments))
    assert "\n" not in str(error.value) and "--" not in str(error.value)


@pytest.mark.parametrize(
    "question,message",
    [
        (lambda fit: fit.predict(N=1e9), "give N, D, not N"),
        (lambda fit: fit.predict(N=1e9, D=0), "D: must be positive numbers"),
        (lambda fit: fit.predict(N=1e9, D=1e10, interval="both"), 'use "mean" or "run"'),
        (lambda fit: fit.conf_int(95), "level = 95: a share between 0 and 1"),
        (lambda fit: fit.profile("gamma"), "gamma"),
    ],
)
def test_wrong_questions_are_one_line(question, message):
    with pytest.raises(fitting.InputError, match=message):
        question(fitted())
