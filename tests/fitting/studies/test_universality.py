"""Learning curves of simulated trunks give back the law that made them, and the tokens to a loss; convergence too."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.studies.results import UNKNOWN
from fitting.studies.scaling import analysis, convergence, universality
from tests.fitting.studies.simulated import table
from tests.fitting.studies.test_least_compute import TRUTH
from tests.fitting.studies.test_scaling import BUDGETS, SIZES, chinchilla
from tests.fitting.studies.test_scaling import simulated as scaled

LAW = {"N_c": 2e7, "alpha_N": 0.11, "S_c": 150.0, "alpha_S": 0.6}
ROWS = 30


def loss_of(n, s_min):
    """Kaplan et al. 2020, equation 5.6."""
    return (LAW["N_c"] / n) ** LAW["alpha_N"] + (LAW["S_c"] / s_min) ** LAW["alpha_S"]


def simulated(draw: int, noise: float = 0.0, sizes=SIZES):
    """noise: of a whole curve's S_min, as a share."""
    rng, rows = np.random.default_rng(draw), []
    for n in sizes:
        batch, slower = 1024 * (n / SIZES[0]) ** 0.5, np.exp(noise * rng.standard_normal())
        for s_min in np.geomspace(100, 4000, ROWS):
            loss = loss_of(n, s_min * slower)
            steps = s_min * (1 + TRUTH.at(loss) / batch)
            run = {"run": f"t{n}", "n_params": n, "n_non_embedding": n, "kind": "trunk", "final": "false"}
            rows.append(run | {"batch_tokens": batch, "step": steps, "tokens": steps * batch, "value": loss})
        rows.append(rows[-1] | {"run": f"early{n}", "kind": "branch", "final": "true"})
    return table(rows)


@pytest.mark.slow
def test_the_law_of_size_and_steps_is_found():
    found = universality.law(universality.curves(simulated(0), TRUTH))
    for name in ("alpha_N", "alpha_S"):
        assert found.params[name] == pytest.approx(LAW[name], rel=0.01)
    assert found.misfit < 1e-3


@pytest.mark.slow
def test_its_intervals_hold_the_exponents_in_most_draws():
    held = []
    for draw in range(10):
        found = universality.law(universality.curves(simulated(draw, 0.03), TRUTH))
        held += [lo < LAW[name] < hi for name, (lo, hi) in found.ends.items()]
    assert sum(held) >= 17, held  # 95 % of 20 are 19


def test_tokens_to_a_loss_are_those_of_the_law():
    found = universality.curves(simulated(0), TRUTH)
    for loss in universality.losses(found):
        reached = universality.tokens_to(found, loss)
        assert len(reached) >= universality.LEAST_SIZES
        for n, tokens in reached.items():
            s_min = LAW["S_c"] / (loss - (LAW["N_c"] / n) ** LAW["alpha_N"]) ** (1 / LAW["alpha_S"])
            assert tokens == pytest.approx(s_min * TRUTH.at(loss), rel=0.02)  # D_min = S_min B_crit
    exponent, (lo, hi) = universality.efficiency(found).of(np.array([0.0, 1.0]))
    assert lo < exponent < hi < 0
    assert len(universality.parts(simulated(0), None)[1]) == 1


def test_what_curves_cannot_tell_is_said():
    told = {s.says: s for s in universality.parts(simulated(0), None)[0]}
    assert "ladder study batch" in told[universality.OF_N.says].why
    assert told[universality.SAMPLES.says].verdict == "agrees"  # also without B_crit
    assert {s.verdict for s in universality.parts(simulated(0, sizes=SIZES[:3]), lambda: TRUTH)[0]} == {UNKNOWN}
    with pytest.raises(InputError, match="3 sizes"):
        universality.curves(simulated(0, sizes=SIZES[:3]), TRUTH)


@pytest.mark.slow
def test_the_best_size_stops_as_far_above_convergence_as_its_law_says():
    n_m, held = np.geomspace(1e3, 1e7, 20_000), 0
    for draw in range(4):
        whole = scaled(chinchilla, draw, noise=0.001)
        law = analysis.laws(whole, analysis.early_stopped(whole))
        c = law.frontiers[2]().largest
        n = n_m[chinchilla(n_m, c / (6 * n_m)).argmin()]
        truth = 100 * (chinchilla(n, c / (6 * n)) / chinchilla(n, 1e30) - 1)
        lo, hi = convergence.statement(law.fresh, law.frontiers[2]).ends
        held += lo < truth < hi
    assert held >= 3
    by_budget, others = convergence.grids(law.fresh(), law.frontiers[2](), np.array(BUDGETS))
    assert len(by_budget.rows) == len(BUDGETS)
    assert others.rows[2][0] == "1" and float(others.rows[2][4]) == pytest.approx(0, abs=0.01)
    assert all(float(row[4]) >= -0.01 for row in others.rows)
