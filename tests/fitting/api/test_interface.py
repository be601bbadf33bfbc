"""The public interface: `import fitting` on the paper's runs, as the tutorial does, and what both faces import."""

import json
import subprocess
import sys

import numpy as np
import pytest

import fitting

TASK = "hellaswag_val"
TARGET = fitting.Target("7B-4T", N=6887575552, D=3945065873408)


@pytest.fixture(scope="module")
def runs():
    from tests.fitting.conftest import SHARED

    path = SHARED / "olmo_ladder_runs.csv.gz"
    if not path.exists():
        pytest.skip("the paper's published runs are not beside the repository")
    return fitting.read_runs(path)


@pytest.fixture(scope="module")
def ends(runs):
    """N, D and bpb at the end of each of the sixteen runs, as arrays."""
    rows = runs.select(split="train", final=True, task=TASK, metric="bpb")
    return rows["n_params"], rows["tokens"], rows["value"]


def test_a_law_is_fitted_to_arrays_and_answers_questions(ends, tmp_path):
    n, d, bpb = ends
    with pytest.warns(fitting.FitWarning):
        fit = fitting.fit(N=n, D=d, y=bpb, law="chinchilla", resamples=200, seed=0)
    assert (
        list(fit.params)
        == list(fit.stderr)
        == list(fit.samples)
        == list(fit.conf_int())
        == ["E", "A", "alpha", "B", "beta"]
    )
    assert fit.cov.shape == (5, 5) and fit.samples["E"].shape == (200,) and fit.residuals.shape == (16,)
    law = fit.params["E"] + fit.params["A"] / n ** fit.params["alpha"] + fit.params["B"] / d ** fit.params["beta"]
    np.testing.assert_allclose(fit.residuals, np.log(bpb / law), atol=1e-9)
    assert fit.dropped == () and fit.converged > 0.95 and "alpha" in str(fit) and "<table" in fit._repr_html_()
    run, mean = (fit.predict(N=7e9, D=2e12, level=0.8, interval=kind) for kind in ("run", "mean"))
    assert run.mean == mean.mean and run.lower < mean.lower < mean.mean < mean.upper < run.upper and run.sd > mean.sd
    grid = fit.predict(N=[[1e9], [7e9]], D=[1e11, 1e12, 2e12])
    assert grid.mean.shape == grid.lower.shape == (2, 3) and grid.mean[1, 2] == pytest.approx(run.mean)
    assert fit.N_opt(C=1e22).mean * fit.D_opt(C=1e22).mean == pytest.approx(1e22 / 6)
    assert fit.N_opt(C=[1e21, 1e22]).mean[1] == pytest.approx(fit.N_opt(C=1e22).mean)
    assert fit.loss_opt(C=1e22).mean == pytest.approx(fit.predict(N=fit.N_opt(1e22).mean, D=fit.D_opt(1e22).mean).mean)
    assert fit.exponents["N"].mean + fit.exponents["D"].mean == pytest.approx(1)
    profile = fit.profile("E", values=np.linspace(0.2, 0.6, 5))
    assert profile.plot().has_data() and fit.plot().has_data()
    assert len(fitting.allocate(fit, C=[1e22, 5.76e23]).to_frame()) == 2
    fit.to_json(tmp_path / "fit.json")
    again = fitting.from_json(tmp_path / "fit.json")
    assert all(np.array_equal(again.samples[name], fit.samples[name]) for name in fit.params)
    assert again.params == fit.params and again.flags == fit.flags and again.conf_int() == fit.conf_int()


def test_tasks_are_predicted_and_shown(runs, tmp_path):
    forecast = fitting.forecast(runs, [TARGET], tasks=[TASK], resamples=100)
    entry = forecast["7B-4T", TASK]
    lower, upper = entry.accuracy_interval
    assert 0.6 < lower < entry.accuracy < upper < 0.95 and entry.bpb == pytest.approx(0.673, rel=0.03) and entry.flags
    frame = forecast.to_frame()
    assert frame.task.tolist() == [TASK] and frame.measured_bpb[0] == entry.measured_bpb
    forecast.to_html(tmp_path / "r.html")
    assert "7B-4T" in (tmp_path / "r.html").read_text()
    assert all(forecast.plot("7B-4T", TASK, step=step).has_data() for step in (1, 2))
    assert json.loads(json.dumps(forecast.json()))["predictions"][0]["acc"] == entry.accuracy
    rows = fitting.compare(forecast, forecast, TARGET).rows
    assert {row["task"] for row in rows} >= {TASK} and all(abs(row["difference"]) < 1e-12 for row in rows)
    with pytest.raises(KeyError, match="not predicted; there are '7B-4T', 'hellaswag_val'"):
        forecast["13B", TASK]
    with pytest.raises(fitting.InputError, match="n_non_embedding"):
        fitting.forecast(runs, [fitting.Target("7B", N=6.9e9, D=3.9e12, n_is="n_non_embedding"), TARGET])


def test_runs_are_chosen_for_a_budget(runs):
    design = fitting.design(runs, TARGET, C=7e20)
    assert design.rows[0]["budget"] == 7e20 >= design.rows[0]["flops"] and "190M" in str(design)


def test_both_packages_and_the_help_import_no_jax():
    code = (
        "import sys, fitting, ladder\n"
        "from ladder import Model, Rung, Ladder\n"
        "from launch.cli.entry import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'pandas', 'matplotlib', 'scipy', 'flax'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["fitting", "ladder"])
def test_every_public_name_is_there_and_documented(package):
    module = __import__(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert value is not None and (isinstance(value, dict) or value.__doc__), name
    assert dir(module) == sorted(module.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'; it has "):
        module.nothing  # noqa: B018
