"""Compute-optimal allocation: the published figures, brute force, and simulated ladders with a known optimum."""

import numpy as np
import pytest
from scipy import optimize, stats

from fitting.errors import InputError
from fitting.laws import kaplan_relations as kaplan
from fitting.laws.catalogue import LAWS
from fitting.laws.published import PUBLISHED
from fitting.loss_laws import allocation, envelope, isoflop, loss_fit
from fitting.tables import loss_points
from fitting.tables.loss_points import LossPoints

LAW = {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 900.0, "beta": 0.34}


def simulated(n, c, law=LAW, noise=0.0, seed=0, groups=None) -> LossPoints:
    n, c = np.asarray(n, float), np.asarray(c, float)
    y = law["E"] + law["A"] / n ** law["alpha"] + law["B"] / (c / 6 / n) ** law["beta"]
    y = y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    groups = np.arange(len(n)) if groups is None else groups
    return LossPoints({"N": n, "D": c / (6 * n), "C": c}, y, groups, "simulated", "", "loss", "params")


def isoflop_grid(law=LAW, width=3.0, budgets=(1e18, 1e19, 1e20, 1e21), sizes=9, off=1.0):
    """Sizes spread by `width` to both sides of `off` times each budget's optimum."""
    k, a = LAWS["chinchilla"].optimum(law, kaplan.BATCH)
    c = np.repeat(budgets, sizes)
    return off * np.exp(k + a * np.log(c)) * np.tile(np.geomspace(1 / width, width, sizes), len(budgets)), c


def test_chinchillas_points_give_the_published_exponent_and_tokens_per_parameter(shared):
    """N_opt ~ C^.514 (.480 to .556); at 5.76e23 FLOPs 17.9 tokens per parameter (7.6 to 35.9); Epoch's resamples."""
    rng = np.random.RandomState(42)
    counts_Rn = np.stack([np.bincount(rng.choice(np.arange(240), 240), minlength=240) for _ in range(4000)])
    points = loss_points.read(str(shared("chinchilla_points.csv")))
    frontier = allocation.of_law(loss_fit.fit(points, resamples_Rn=counts_Rn))
    result = frontier.json([5.76e23])
    exponents, [row] = result["exponents"], result["allocations"]
    assert [f"{v:.3f}" for v in (exponents["N"], *exponents["N_ci95"])] == ["0.514", "0.480", "0.556"]
    assert exponents["N"] + exponents["D"] == pytest.approx(1)
    assert [f"{v:.1f}" for v in (row["tokens_per_param"], *row["tokens_per_param_ci95"])] == ["17.9", "7.6", "35.9"]
    assert 6 * row["n_params"] * row["tokens"] == pytest.approx(5.76e23)
    assert row["flags"] == ["far extrapolation: 44 times the largest run's compute"]
    best = optimize.minimize_scalar(
        lambda x: LAWS["chinchilla"].at(_params(points), {"N": [np.exp(x)], "D": [5.76e23 / 6 / np.exp(x)]})[0],
        bounds=np.log([1e9, 1e13]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert row["n_params"] == pytest.approx(np.exp(best.x), rel=1e-3) and row["loss"] == pytest.approx(best.fun)
    assert row["loss_ci95"][0] < row["loss"] < row["loss_ci95"][1]


def _params(points):
    return loss_fit.fit(points, n_resamples=2).bootstrap.params(0)


@pytest.mark.parametrize("who,law", [p for p in PUBLISHED if p[1] in ("chinchilla", "chinchilla-tied", "kaplan-nd")])
def test_the_closed_form_is_the_least_loss_of_a_budget(who, law):
    said, c = PUBLISHED[who, law], 3e21
    k, a = LAWS[law].optimum(said.params, kaplan.BATCH)
    at = [
        np.log(said.at({"N": [n], "D": [c / 6 / n]})[0]) for n in np.exp(k + a * np.log(c)) * np.exp([-1e-3, 0, 1e-3])
    ]
    assert at[1] < min(at[0], at[2]) and abs(at[0] - at[2]) < 0.01 * (at[0] + at[2] - 2 * at[1])


def test_kaplans_allocation_is_his_frontier():
    [row] = allocation.of_published("kaplan").json([1e21])["allocations"]
    frontier = kaplan.Frontier()
    assert row["n_params"] == pytest.approx(frontier.n(1e21)) and row["steps"] == pytest.approx(frontier.steps(1e21))
    assert row["batch_tokens"] == pytest.approx(frontier.batch_tokens(1e21)) and row["loss"] == pytest.approx(
        frontier.loss(1e21)
    )
    message = "'me' published no law with an optimum in N and D; known are: kaplan, hoffmann, besiroglu, muennighoff"
    with pytest.raises(InputError, match=message) as error:
        allocation.of_published("me")
    assert error.value.argument == "published"


def test_hoffmanns_constants_give_his_exponents():
    result = allocation.of_published("hoffmann").json([1e21])
    assert f"{result['exponents']['N']:.2f}" == "0.46" and result["exponents"]["N_ci95"] is None


def test_a_law_of_kaplans_can_be_fitted_and_allocated():
    rng = np.random.default_rng(0)
    n, s = np.exp(rng.uniform(*np.log([1e6, 1e9]), 40)), np.exp(rng.uniform(*np.log([2e3, 1e5]), 40))
    y = PUBLISHED["kaplan", "kaplan-ns"].at({"N": n, "S_min": s})
    points = LossPoints({"N": n, "S_min": s, "C": n * s * 3e6}, y, np.arange(40), "simulated", "", "loss", "n")
    frontier = allocation.of_law(loss_fit.fit(points, "kaplan-ns", n_resamples=20))
    [row] = frontier.json([1e20])["allocations"]
    assert row["n_params"] == pytest.approx(kaplan.Frontier().n(1e20), rel=1e-4)
    assert row["loss"] == pytest.approx(kaplan.Frontier().loss(1e20), rel=1e-5)


def test_laws_without_an_optimum_are_refused():
    points = simulated(*isoflop_grid())
    known = "chinchilla, chinchilla-tied, kaplan-nd, kaplan-ns"
    with pytest.raises(InputError, match=f"power-c: has no optimum in N and D; these laws have: {known}$") as error:
        allocation.of_law(loss_fit.fit(points, "power-c", n_resamples=2))
    assert error.value.argument == "law"
    flat = simulated(*isoflop_grid(), LAW | {"B": 1e-9}, noise=1e-4)
    with pytest.raises(InputError, match="no interior minimum: the fit holds"):
        allocation.of_law(loss_fit.fit(flat, n_resamples=2))


def test_of_few_runs_the_interval_is_students_by_the_delta_method():
    """With a large delta the fit is least squares, whose covariance SciPy knows."""
    n, c = isoflop_grid(width=8.0, budgets=(1e18, 1e20, 1e22), sizes=5)
    points = simulated(n, c, noise=0.001)
    x, z = np.log(points.features["N"] / 1e8), np.log(points.features["D"] / 1e10)

    def log_loss(_, e, a, alpha, b, beta):
        return np.log(e + a * np.exp(-alpha * x) + b * np.exp(-beta * z))

    found, cov = optimize.curve_fit(log_loss, x, np.log(points.y_n), p0=(1.7, 0.8, 0.34, 0.4, 0.34))
    alpha, beta = found[2], found[4]
    slope = np.array([0, 0, -beta, 0, alpha]) / (alpha + beta) ** 2
    half = stats.t.ppf(0.975, 15 - 5) * np.sqrt(slope @ cov @ slope)
    result = allocation.of_law(loss_fit.fit(points, delta=1.0, n_resamples=4000)).json([1e22])
    assert result["exponents"]["N"] == pytest.approx(beta / (alpha + beta), abs=1e-5)
    lo, hi = result["exponents"]["N_ci95"]
    assert (lo, hi) == pytest.approx((beta / (alpha + beta) - half, beta / (alpha + beta) + half), abs=0.06 * half)
    [row] = result["allocations"]
    lo, hi = row["n_params_ci95"]
    assert np.sqrt(lo * hi) == pytest.approx(row["n_params"]) and result["interval"] == "Wald, Student's t"


# Approach 2 --------------------------------------------------------------------------------------


def test_parabolas_find_the_optimum_of_a_symmetric_law():
    n, c = isoflop_grid()
    exact = isoflop.isoflop(simulated(n, c), 100, 0)
    assert exact.a_R[0] == pytest.approx(0.5, abs=1e-3) and len(exact.minima) == 4 and not exact.notes
    inside, widths = 0, []
    for seed in range(60):
        found = isoflop.isoflop(simulated(n, c, noise=0.002, seed=seed), 300, seed).json([1e21])["exponents"]
        inside += found["N_ci95"][0] < 0.5 < found["N_ci95"][1]
        widths.append(found["N_ci95"][1] - found["N_ci95"][0])
    assert 53 <= inside <= 60 and np.median(widths) < 0.1


def test_the_bias_of_parabolas_is_seen():
    """None on a centred grid of a symmetric law; of the size if it is off centre; of the exponent if it drifts."""
    lopsided, drift = LAW | {"beta": 0.25, "B": 90.0}, np.repeat([0.1, 0.3, 1.0, 3.0], 9)
    grids = {"centred": (LAW, 1.0, 3.0, 1.0), "off": (lopsided, 3.0, 12.0, 1.0), "drifts": (lopsided, 1.0, 12.0, drift)}
    bias = {}
    for name, (law, off, wide, times) in grids.items():
        n, c = isoflop_grid(law, wide, off=off)
        points = simulated(n * times, c, law)
        bias[name] = np.abs(isoflop.isoflop_bias(points, loss_fit.fit(points, n_resamples=2)))
    assert bias["centred"].max() < 1e-3
    assert bias["off"][0] < 1e-3 < 0.03 < bias["off"][1]
    assert bias["drifts"][0] > 0.03


def test_a_budget_without_an_interior_minimum_is_refused():
    n, c = isoflop_grid()
    small = n * np.where(c == 1e21, 0.05, 1.0)
    frontier = isoflop.isoflop(simulated(small, c), 50, 0)
    [note] = frontier.notes
    assert note.startswith("1e+21 FLOPs: no interior minimum: it would be at") and note.endswith("train larger")
    assert len(frontier.minima) == 3
    with pytest.raises(InputError, match=r"0 budgets with a minimum between their sizes.*train smaller"):
        isoflop.isoflop(simulated(n * 30, c), 50, 0)
    with pytest.raises(InputError, match="3 sizes; a parabola needs 4"):
        isoflop.isoflop(simulated(*isoflop_grid(sizes=3)), 50, 0)


def test_budgets_can_be_named():
    n, c = isoflop_grid(budgets=(1e20, 1.15e20, 1e21))
    assert len(isoflop.isoflop(simulated(n, c), 50, 0, (1e20, 1e21)).minima) == 2
    assert len(isoflop.isoflop(simulated(n, c), 50, 0).minima) == 3


# Approach 1 --------------------------------------------------------------------------------------


def curves(sizes, noise=0.0, seed=0):
    n = np.repeat(sizes, 40)
    c = 6 * n * np.tile(np.geomspace(1e7, 3e11, 40), len(sizes))
    return simulated(n, c, noise=noise, seed=seed, groups=np.repeat([f"{s:.3g}" for s in sizes], 40))


def test_the_envelope_of_curves_finds_the_optimum():
    frontier = envelope.envelope(curves(np.geomspace(1e6, 1e10, 13)), 200, 0)
    result = frontier.json([1e20])
    assert result["exponents"]["N"] == pytest.approx(0.5, abs=0.02)
    low, high = result["exponents"]["N_ci95"]
    assert low < 0.5 < high and high - low < 0.2
    k, a = LAWS["chinchilla"].optimum(LAW, kaplan.BATCH)
    assert result["allocations"][0]["n_params"] == pytest.approx(np.exp(k + a * np.log(1e20)), rel=0.15)


def test_an_envelope_of_two_sizes_is_refused():
    with pytest.raises(InputError, match="no interior minimum: the best run is always of the smallest or the largest"):
        envelope.envelope(curves([1e7, 1e8, 1e8]), 20, 0)
