"""`ladder design` against the best of all subsets, and its standard deviation against simulation."""

import json

import numpy as np
import pytest

import fitting
from fitting.errors import InputError
from fitting.forecasting import design
from fitting.inference import bootstrap
from fitting.inference.bootstrap import Resampling, Solver
from fitting.inference.measured import NOISE, SeedNoise
from fitting.laws.power_sum import CHINCHILLA
from fitting.tables.points import Target, ladder_points

TARGET = {"N": 6887575552.0, "D": 3945065873408.0}


@pytest.fixture(scope="module")
def fitted(published):
    points = ladder_points(published, None, "n_params")
    features = {k: points.features[k] for k in ("N", "D")}
    settings = {"solver": Solver(1e-2), "resampling": Resampling(4, method="residuals")}
    return points, bootstrap.fit(CHINCHILLA, features, points.bpb_Tn, **settings)


@pytest.fixture(scope="module")
def candidates(fitted):
    points, law = fitted
    return design.candidates(law, points.features, TARGET, points.features["flops"])


@pytest.fixture(scope="module")
def subsets(candidates):
    every = (np.arange(2**16)[:, None] >> np.arange(16)) & 1 > 0
    every = every[candidates.allowed(every)]
    return every, candidates.sd(every)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_within_2_percent_of_the_best_subset_and_better_than_rules_of_thumb(candidates, subsets, share):
    every, sd = subsets
    budget = share * candidates.flops_n.sum()
    affordable = every @ candidates.flops_n <= budget
    chosen, mine = design.best(candidates, budget)
    assert candidates.flops_n[chosen].sum() <= budget
    assert mine <= 1.02 * sd[affordable].min()
    cheapest = np.cumsum(np.sort(candidates.flops_n)) <= budget
    rules = {"cheapest first": np.isin(np.arange(16), np.argsort(candidates.flops_n)[cheapest])}
    for size in range(1, 4):
        smaller = candidates.size_n < size + 1
        if candidates.flops_n[smaller].sum() <= budget:
            rules[f"drop the largest, {size}"] = smaller
    for rule in rules.values():
        assert mine <= candidates.sd(rule)[0] * (1 + 1e-9)


def test_the_runs_of_a_table_are_candidates_by_the_law_fitted_to_them(fitted, candidates):
    runs = design.candidates_of(fitted[0], Target("7B-4T", TARGET["N"], TARGET["D"]))
    every = np.ones(16, bool)
    assert runs.sd(every)[0] == pytest.approx(candidates.sd(every)[0], rel=1e-9)
    assert np.array_equal(runs.flops_n, candidates.flops_n)


def test_the_standard_deviation_is_what_simulation_finds(fitted, candidates):
    points, law = fitted
    task = 0
    noise = 1e-3  # small, so that the law is linear in it
    rng = np.random.default_rng(0)
    features = {k: points.features[k] for k in ("N", "D")}
    truth = law.predict({k: np.append(v, TARGET[k]) for k, v in features.items()})[task, 0]
    y_Sn = truth[:-1] * np.exp(noise * rng.standard_normal((300, 16)))
    settings = {"solver": Solver(1.0, starts=8), "resampling": Resampling(1, method="residuals")}
    again = bootstrap.fit(CHINCHILLA, features, y_Sn, **settings)
    found = np.log(again.predict({k: [v] for k, v in TARGET.items()})[:, 0, 0]).std()
    only = design.Candidates(
        candidates.flops_n,
        candidates.size_n,
        candidates.length_n,
        candidates.jacobian_TnP[[task]],
        candidates.gradient_TP[[task]],
        np.array([noise]),
    )
    assert found == pytest.approx(only.sd(np.ones(16, bool))[0], rel=0.2)


def test_measured_noise_takes_the_place_of_that_around_the_law(fitted, candidates):
    """Twice the noise for one task doubles its part of the variance; noisier small runs count less."""
    points, _ = fitted
    n, every = points.features["N"], np.ones(16, bool)
    sizes = float(n.min()), float(n.max())
    same = SeedNoise(dict(zip(points.tasks, 2 * candidates.scale_T, strict=True)), {}, sizes, 1e9)
    assert design.with_noise(candidates, points.tasks, n, same).sd(every)[0] == pytest.approx(
        2 * candidates.sd(every)[0]
    )
    one = SeedNoise({points.tasks[0]: 0.5}, {}, sizes, 1e9)
    np.testing.assert_array_equal(
        design.with_noise(candidates, points.tasks, n, one).scale_T, [0.5, *candidates.scale_T[1:]]
    )
    falling = SeedNoise(same.sd, {}, sizes, sizes[1], exponent=-0.5)
    noisier = design.with_noise(candidates, points.tasks, n, falling)
    smallest = int(np.argmin(n))
    by = (sizes[0] / sizes[1]) ** -0.5
    np.testing.assert_allclose(noisier.jacobian_TnP[:, smallest] * by, candidates.jacobian_TnP[:, smallest])
    assert falling.relative(np.array([1.0, 1e15])) == pytest.approx([by, 1.0])  # not extrapolated


def test_the_noise_of_a_study_is_read(tmp_path):
    noise, path = SeedNoise({"piqa": 0.02}, {"piqa": 10.0}, (1e8, 1e9), 3e8, -0.2, ("text",)), tmp_path / "study.json"
    path.write_text(json.dumps({"measured": {NOISE: noise.json()}}))
    assert fitting.read_noise(path) == noise
    path.write_text(json.dumps({"measured": {NOISE: noise.json() | {"centre": -1}}}))
    with pytest.raises(InputError, match="damaged"):
        fitting.read_noise(path)
    path.write_text(json.dumps({"measured": {}}))
    with pytest.raises(InputError, match="ladder study noise"):
        fitting.read_noise(path)


@pytest.mark.slow
def test_a_design_says_whose_noise_it_takes(published, candidates):
    target, task = Target("7B-4T", TARGET["N"], TARGET["D"]), ladder_points(published, None, "n_params").tasks[0]
    result = fitting.design(published, target, 1e22, SeedNoise({task: 0.1}, {task: 10.0}, (1e8, 1e9), 3e8))
    assert result.lines()[0].startswith(f"noise between seeds, as measured: {task} 10 %; of ")
    assert result.rows[0]["sd"] > 2 * candidates.sd(np.ones(16, bool))[0]
    with pytest.raises(InputError, match="the measured noise is of other"):
        fitting.design(published, target, noise=SeedNoise({"other": 0.02}, {}, (1e8, 1e9), 3e8))


def test_a_budget_too_small_is_refused(candidates):
    with pytest.raises(InputError, match="no set of runs within it determines the law") as refused:
        design.best(candidates, candidates.flops_n.min())
    assert refused.value.argument == "budget"
