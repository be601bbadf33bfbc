"""Repeated data, under-tuned runs, weights, the published grid of starts, and what Kaplan's figures need of curves."""

import numpy as np
import pytest
from scipy import optimize

from fitting.errors import InputError
from fitting.laws import kaplan_relations as kaplan
from fitting.laws.published import PUBLISHED
from fitting.loss_laws import allocation, loss_fit
from fitting.tables import loss_points
from fitting.tables.loss_points import LossPoints

MUENNIGHOFF = PUBLISHED["muennighoff", "muennighoff"]


def points(features, y, **more) -> LossPoints:
    features = {k: np.asarray(v, float) for k, v in features.items()}
    return LossPoints(features, np.asarray(y, float), np.arange(len(y)), "simulated", "", "loss", "params", **more)


def noisy(y, sd, seed=0):
    return y * np.exp(sd * np.random.default_rng(seed).standard_normal(len(y)))


def repeats(seed=0):
    """A grid like the paper's: sizes, unique tokens, and up to 60 epochs of them."""
    n, u, epochs = np.meshgrid(np.geomspace(7e6, 9e9, 7), [1e8, 4e8, 1.5e9], [1, 3, 10, 25, 60], indexing="ij")
    features = {"N": n.ravel(), "U": u.ravel(), "D": (u * epochs).ravel()}
    return features, noisy(MUENNIGHOFF.at(features), 0.005, seed)


@pytest.mark.slow
def test_repeated_data_is_recovered_from_the_published_constants():
    fitted = loss_fit.fit(points(*repeats()), "muennighoff", n_resamples=400).json()
    for name, true in MUENNIGHOFF.params.items():
        lo, hi = fitted["ci95"][name]
        assert lo < true < hi, name
        if name.startswith("R"):
            assert 0.7 * true < lo and hi < 1.4 * true
    assert fitted["converged"] > 0.99 and not fitted["flags"]


def test_what_to_train_when_data_must_be_repeated():
    """The optimum of the published constants, found by SciPy."""
    fitted = loss_fit.fit(points(*repeats()), "muennighoff", n_resamples=400)
    scarce, plenty = (allocation.repeated(fitted, [1e20], unique)[0] for unique in (1e8, 1e12))

    def lost(log_n, unique):
        n = np.exp([log_n])
        return MUENNIGHOFF.at({"N": n, "D": 1e20 / (6 * n), "U": [unique]})[0]

    for row, unique in ((scarce, 1e8), (plenty, 1e12)):
        best = optimize.minimize_scalar(lost, args=(unique,), bounds=np.log([1e6, 1e12]), method="bounded")
        lo, hi = row["n_params_ci95"]
        assert lo < np.exp(best.x) < hi and row["loss"] == pytest.approx(best.fun, rel=0.01)
        assert 6 * row["n_params"] * row["tokens"] == pytest.approx(1e20)
    assert scarce["epochs"] > 20 and plenty["epochs"] < 0.1 and scarce["loss"] > plenty["loss"]


def test_four_epochs_are_nearly_as_good_as_new_data_and_forty_are_not():
    """The paper's headline."""
    u, epochs = np.full(4, 25e9), np.array([4.0, 40.0, 400.0, 4000.0])
    loss = MUENNIGHOFF.at({"N": 0.04 * u, "D": epochs * u, "U": u})
    gap = loss / PUBLISHED["muennighoff", "chinchilla-tied"].at({"N": 0.04 * u, "D": epochs * u}) - 1
    assert gap[0] < 0.005 and gap[1] > 5 * gap[0]
    assert loss[2] == pytest.approx(loss[3], rel=1e-6)  # nothing is left in it


def test_without_repeats_their_worth_is_said_to_be_unknown():
    features, _ = repeats()
    features |= {"D": 1e4 * features["D"], "U": 1e4 * features["D"]}
    flags = loss_fit.fit(points(features, noisy(MUENNIGHOFF.at(features), 1e-3)), "muennighoff", n_resamples=2).flags
    assert [f for f in flags if f.startswith("no point depends on")] == [
        f"no point depends on {name}: its value is where the search started" for name in ("R_D", "R_N")
    ]


# Under-tuned runs ---------------------------------------------------------------------------------

LAW = {"E": 1.8, "A": 400.0, "alpha": 0.34, "B": 1500.0, "beta": 0.36}


def chinchilla(features, p=LAW):
    return p["E"] + p["A"] / features["N"] ** p["alpha"] + p["B"] / features["D"] ** p["beta"]


def under_tuned():
    """Runs of a known law, of which three in ten lie 1 to 6 % above what their size and data can reach."""
    rng = np.random.default_rng(0)
    features = {"N": np.exp(rng.uniform(17, 22, 80)), "D": np.exp(rng.uniform(21, 25, 80))}
    badly = rng.uniform(size=80) < 0.3
    y = noisy(chinchilla(features), 0.001) * np.where(badly, 1 + rng.uniform(0.01, 0.06, 80), 1.0)
    return features, y, badly


def test_an_asymmetric_penalty_finds_the_law_of_the_well_tuned_runs():
    features, y, _ = under_tuned()
    true, off = chinchilla(features), {}
    for penalty in (1.0, 10.0):
        fitted = loss_fit.fit(points(features, y), delta=0.1, penalty=penalty, n_resamples=50)
        off[penalty] = np.mean(fitted.values(features)[0] / true - 1)
        assert fitted.json()["settings"]["overestimate_penalty"] == penalty
    assert off[1.0] > 0.008 and abs(off[10.0]) < off[1.0] / 3


def test_the_penalty_is_the_one_that_scipy_minimises():
    features, y, _ = under_tuned()

    def objective(t):
        error = np.log(y) - np.log(np.exp(t[0]) + np.exp(t[1] - t[2] * x) + np.exp(t[3] - t[4] * z))
        huber = np.where(np.abs(error) < 0.02, error**2 / 2, 0.02 * (np.abs(error) - 0.01))
        return np.sum(np.where(error < 0, 4.0, 1.0) * huber)

    x, z = np.log(features["N"] / 1e8), np.log(features["D"] / 1e10)
    start = np.log([1.8, 0.8, 1.0, 0.4, 1.0]) * [1, 1, 0, 1, 0] + [0, 0, 0.34, 0, 0.36]
    best = optimize.minimize(objective, start, method="BFGS", options={"gtol": 1e-9})
    fitted = loss_fit.fit(points(features, y), delta=0.02, penalty=4.0, n_resamples=2)
    assert fitted.json()["objective"] == pytest.approx(best.fun, rel=1e-5)
    assert fitted.bootstrap.params(0)["alpha"] == pytest.approx(best.x[2], rel=1e-3)


def test_weights_count_a_point_so_often():
    features, y, badly = under_tuned()
    times = np.where(badly, 1, 3)
    weighted = loss_fit.fit(points(features, y, weights_n=1.0 * times), n_resamples=2)
    counted = loss_fit.fit(points(features, y), resamples_Rn=np.stack([times, np.ones(80, int)]))
    for name, value in weighted.bootstrap.params(0).items():
        assert value == pytest.approx(counted.bootstrap.resampled(0)[name][0], rel=1e-5)
    assert weighted.json()["settings"]["weighted"]


def test_weights_are_read_from_a_column(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("params,tokens,loss,w,excluded\n1e7,1e9,3,1,0\n1e8,1e9,2.5,2,0\n1e9,1e9,2,3,1\n")
    assert loss_points.read(path, weights="w").weights_n.tolist() == [1, 2]
    path.write_text("params,tokens,loss,w\n1e7,1e9,3,0\n")
    with pytest.raises(InputError, match=r"wide.csv:2: w is 0; it must be positive"):
        loss_points.read(path, weights="w")


# The published starts -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_published_grid_of_starts_finds_the_same_optimum():
    features, y, _ = under_tuned()
    of = points(features, y)
    grid, ours = (loss_fit.fit(of, n_resamples=2, grid=g) for g in (True, False))
    assert grid.json()["settings"]["starts"] == 4500
    assert {len(v) for v in loss_fit.published_grid().values()} == {4500}
    assert grid.bootstrap.params(0) == pytest.approx(ours.bootstrap.params(0), rel=1e-5)
    assert grid.bootstrap.agree_T[0] < ours.bootstrap.agree_T[0]  # most of the grid is wasted


@pytest.mark.parametrize("settings", [{"law": "kaplan-nd"}, {"fixed": {"E": 1.8}}, {"bounds": {"E": (1.0, 2.0)}}])
def test_the_published_grid_is_for_the_whole_law_only(settings):
    features, y, _ = under_tuned()
    with pytest.raises(InputError, match="2022 is for the whole law chinchilla") as error:
        loss_fit.fit(points(features, y), grid=True, **settings)
    assert error.value.argument == "starts"


# Curves -------------------------------------------------------------------------------------------


def curves(n, batch, run, steps=None):
    """Kaplan's learning curves: L(N, S_min), S_min from S and B."""
    said = PUBLISHED["kaplan", "kaplan-ns"]
    s = np.geomspace(100, 1e6, 300)
    low = said.at({"N": np.full(300, n), "S_min": s})
    s = s * (1 + kaplan.critical_batch(low) / batch)
    return {"N": np.full(300, n), "S": s, "B": np.full(300, batch), "L": low}, np.full(300, run)


def of_curves(*made) -> LossPoints:
    features = {k: np.concatenate([f[k] for f, _ in made]) for k in made[0][0]}
    groups = np.concatenate([run for _, run in made])
    return LossPoints(features, features["L"], groups, "simulated", "", "loss", "n")


def test_steps_to_a_loss_against_size_are_kaplans():
    sizes = np.geomspace(1e6, 1e9, 6)
    of = of_curves(*(curves(n, 1e15, f"run{i}") for i, n in enumerate(sizes)))
    found = loss_points.reached(of, 3.7)
    expected = kaplan.steps_to(3.7, sizes)
    assert np.isnan(expected[0]) and found.features["N"].tolist() == sizes[1:].tolist()
    np.testing.assert_allclose(found.y_n, expected[1:], rtol=1e-3)
    assert found.quantity == "steps to loss 3.7" and found.left_out == ("1 of 6 runs: their curves do not cross 3.7",)
    with pytest.raises(InputError, match="6 of 6 runs: their curves do not cross 1"):
        loss_points.reached(of, 1.0)


def test_a_batch_size_sweep_gives_the_critical_batch():
    """5.1 to 5.4: steps to a loss against the batch size."""
    of = of_curves(*(curves(1e9, b, f"run{b:.0f}") for b in np.geomspace(1e4, 1e7, 7)))
    for loss in (3.4, 4.4):
        fitted = loss_fit.fit(loss_points.reached(of, loss), "batch", n_resamples=2).bootstrap.params(0)
        assert fitted["S_min"] == pytest.approx(float(kaplan.steps_to(loss, 1e9)), rel=3e-3)
        assert fitted["B_crit"] == pytest.approx(kaplan.critical_batch(loss), rel=3e-3)


def test_curves_and_other_tasks_of_a_runs_table(tmp_path):
    rows = ["run,n_params,tokens,step,task,metric,value,batch_tokens,final"]
    for i, n in enumerate((1e6, 2e6, 4e6, 8e6)):
        for step in (100, 200, 400, 800):
            for task, more in (("validation", 0.0), ("books", 0.3)):
                loss = 2 + 30 * n**-0.3 + 40 / step + more
                rows.append(f"r{i},{n:.0f},{step * 64},{step},{task},bpb,{loss},64,{str(step == 800).lower()}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows) + "\n")
    found = loss_points.read(path, reach=2.65)
    assert found.quantity == "steps to bpb of validation 2.65" and len(found) == 4
    np.testing.assert_allclose(found.y_n, 40 / (0.65 - 30 * found.features["N"] ** -0.3), rtol=0.1)
    other = loss_points.read(path, task="books", against="validation")
    fitted = loss_fit.fit(other, "transfer", n_resamples=2)
    assert fitted.bootstrap.params(0)["offset"] == pytest.approx(0.3)
    for settings, argument, message in (
        ({"against": "books", "reach": 2.8}, "against", "against: is for the ends of runs, not for curves"),
        ({"against": "books", "curves": True}, "against", "against: is for the ends of runs, not for curves"),
        ({"weights": "w"}, "weights", "a runs table; weights and labels are columns of a wide table"),
        ({"labels": ("tuning",)}, "weights", "a runs table; weights and labels are columns of a wide table"),
        ({"y": "loss"}, "y", "a runs table; task and metric say what is fitted"),
    ):
        with pytest.raises(InputError, match=message) as error:
            loss_points.read(path, **settings)
        assert error.value.argument == argument
