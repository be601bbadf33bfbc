"""`ladder design` against the best of all subsets, and its standard deviation against simulation."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.inference import bootstrap
from fitting.laws.power_sum import CHINCHILLA
from fitting.tables.points import ladder_points
from fitting.task_laws import design

TARGET = {"N": 6887575552.0, "D": 3945065873408.0}


@pytest.fixture(scope="module")
def fitted(published):
    points = ladder_points(published, None, "n_params")
    features = {k: points.features[k] for k in ("N", "D")}
    return points, bootstrap.fit(CHINCHILLA, features, points.bpb_Tn, delta=1e-2, n_resamples=4, method="residuals")


@pytest.fixture(scope="module")
def made(fitted):
    points, law = fitted
    return design.candidates(law, points.features, TARGET, points.features["flops"])


@pytest.fixture(scope="module")
def subsets(made):
    every = (np.arange(2**16)[:, None] >> np.arange(16)) & 1 > 0
    every = every[made.allowed(every)]
    return every, made.sd(every)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_within_2_percent_of_the_best_subset_and_better_than_rules_of_thumb(made, subsets, share):
    every, sd = subsets
    budget = share * made.flops_n.sum()
    affordable = every @ made.flops_n <= budget
    chosen, mine = design.best(made, budget)
    assert made.flops_n[chosen].sum() <= budget
    assert mine <= 1.02 * sd[affordable].min()
    cheapest = np.cumsum(np.sort(made.flops_n)) <= budget
    rules = {"cheapest first": np.isin(np.arange(16), np.argsort(made.flops_n)[cheapest])}
    for size in range(1, 4):
        smaller = made.size_n < size + 1
        if made.flops_n[smaller].sum() <= budget:
            rules[f"drop the largest, {size}"] = smaller
    for rule in rules.values():
        assert mine <= made.sd(rule)[0] * (1 + 1e-9)


def test_the_standard_deviation_is_what_simulation_finds(fitted, made):
    points, law = fitted
    task = 0
    noise = 1e-3  # small, so that the law is linear in it
    rng = np.random.default_rng(0)
    features = {k: points.features[k] for k in ("N", "D")}
    truth = law.predict({k: np.append(v, TARGET[k]) for k, v in features.items()})[task, 0]
    y_Sn = truth[:-1] * np.exp(noise * rng.standard_normal((300, 16)))
    again = bootstrap.fit(CHINCHILLA, features, y_Sn, delta=1.0, n_resamples=1, method="residuals", n_starts=8)
    found = np.log(again.predict({k: [v] for k, v in TARGET.items()})[:, 0, 0]).std()
    only = design.Candidates(
        made.flops_n, made.size_n, made.length_n, made.jacobian_TnP[[task]], made.gradient_TP[[task]], np.array([noise])
    )
    assert found == pytest.approx(only.sd(np.ones(16, bool))[0], rel=0.2)


def test_a_budget_too_small_is_refused(made):
    with pytest.raises(InputError, match="no set of runs within it determines the law"):
        design.best(made, made.flops_n.min())
