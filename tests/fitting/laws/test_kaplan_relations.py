"""Kaplan et al. 2020 against the figures of their own text, and the closed forms against brute force."""

import numpy as np
import pytest
from scipy import optimize

from fitting.laws import kaplan_relations as kaplan
from fitting.laws.kaplan_relations import Frontier
from fitting.laws.published import PF_DAY, PUBLISHED


def test_exponents_follow_from_one_another():
    """B.7 and 1.8. Of Table 3's digits 0.052 and 0.68; the text's 0.71 is its rounded 0.054 over 0.076."""
    frontier = Frontier()
    assert 0.052 <= frontier.alpha_c <= 0.054 and f"{frontier.alpha_c:.3f}" == "0.052"
    assert 0.0515 <= Frontier(alpha_n=0.076).alpha_c <= 0.054
    of_n = PUBLISHED["kaplan", "kaplan-n"].params["alpha_N"]
    assert 0.054 / of_n == pytest.approx(0.71, abs=0.005)
    powers = frontier.exponents()
    assert sum(powers.values()) == pytest.approx(1) and powers["N"] == pytest.approx(0.71, abs=0.035)
    assert powers["B"] == pytest.approx(kaplan.TABLE_6["B"][1], abs=0.02)
    assert powers["S"] == pytest.approx(kaplan.TABLE_6["S_min"][1], abs=0.05)


def test_efficient_training_stops_ten_percent_above_convergence():
    assert Frontier().excess == pytest.approx(0.10, abs=0.005)  # B.5


def test_efficient_against_converged_training():
    against = Frontier().against(0.02)  # B.12 to B.14
    assert {k: f"{v:.2g}" for k, v in against.items()} == {"N": "2.7", "S": "0.13", "C": "0.35"}
    assert f"{1 / against['S']:.1f}" == "7.6" and 1 - against["C"] == pytest.approx(0.65, abs=0.005)


def test_a_wrong_size_costs_little():
    """B.16: 0.6 to 2.2 times the best size for at most a fifth more compute; 2.2 times saves 45 % of the steps."""
    frontier = Frontier()
    assert frontier.extra_compute([0.6, 1.0, 2.2]) == pytest.approx([1.16, 1.0, 1.20], abs=0.006)
    assert 1 - frontier.fewer_steps(2.2) == pytest.approx(0.45, abs=0.005)
    assert np.isnan(frontier.extra_compute(0.2))


@pytest.mark.parametrize("c", [1e19, 1e21, 1e23])
def test_the_closed_forms_are_the_best_split_of_a_budget(c):
    """Brute force: the N, at B = B_crit(L), with which the loss that C reaches is least."""
    f = Frontier()

    def reached(log_n):
        n = np.exp(log_n)
        least = (f.n_c / n) ** f.alpha_n
        return optimize.brentq(lambda loss: np.log(f.compute(n, loss) / c), least * (1 + 1e-9), 1e3)

    bounds = np.log([f.n(c) / 1.8, f.n(c) * 5])
    best = optimize.minimize_scalar(reached, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    loss, n = best.fun, np.exp(best.x)
    assert f.loss(c) == pytest.approx(loss, rel=1e-8) and f.n(c) == pytest.approx(n, rel=1e-3)
    assert loss == pytest.approx((1 + f.excess) * (f.n_c / n) ** f.alpha_n, rel=1e-4)  # B.5
    assert f.steps(c) == pytest.approx(c / (6 * n * f.b_star / loss ** (1 / f.alpha_b)), rel=1e-3)
    assert 6 * f.n(c) * f.tokens(c) == pytest.approx(c, rel=1e-12)
    for times in (0.7, 2.0):  # B.16 from B.15
        assert f.extra_compute(times) == pytest.approx(f.compute(times * f.n(c), f.loss(c)) / c, rel=1e-9)


def test_the_laws_contradict_each_other_where_the_paper_says():
    """Section 6.3: C ~ 1e4 PF-days, N ~ 1e12, D ~ 1e12, L ~ 1.7, "an order of magnitude either way"."""
    at = kaplan.contradiction()
    assert at["C"] / PF_DAY == pytest.approx(1e4, rel=0.2) and at["N"] == pytest.approx(1e12, rel=0.2)
    assert at["D"] / 1e12 > 0.1 and f"{at['L']:.1f}" == "1.7"
    both = [
        PUBLISHED["kaplan", "kaplan-cmin"].at({"C_min": [at["C"]]}),
        PUBLISHED["kaplan", "kaplan-d"].at({"D": [at["D"]]}),
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-9) and both[0] == pytest.approx(at["L"])


def test_data_needed_to_avoid_overfitting():
    n = np.array([1e7, 1e9])
    assert kaplan.enough_tokens(n) / n**0.74 == pytest.approx(5e3, rel=0.12)  # 4.4
    assert kaplan.enough_tokens(8e9) / kaplan.enough_tokens(1e9) == pytest.approx(5, rel=0.08)
    assert kaplan.overfitting(n, kaplan.enough_tokens(n)) == pytest.approx(0.02)
    full = PUBLISHED["kaplan", "kaplan-nd"]
    ratio = full.at({"N": n, "D": [2e9, 2e9]}) / full.at({"N": n, "D": [1e30, 1e30]})
    assert kaplan.overfitting(n, 2e9) == pytest.approx(ratio - 1, rel=1e-6)  # 4.3
    # 5.7: where L(N, S) without overfitting would reach the loss at which the finite data set ends.
    stop = kaplan.earliest_stop(1e8, 1e8)
    gap = (kaplan.NS["S_c"] / stop) ** kaplan.NS["alpha_S"]
    assert gap == pytest.approx(
        float(full.at({"N": [1e8], "D": [1e8]})[0] - full.at({"N": [1e8], "D": [1e30]})[0]), rel=1e-6
    )


def test_batch_size():
    loss = 3.0
    b = kaplan.critical_batch(loss)
    assert kaplan.critical_batch(loss * 0.87) / b == pytest.approx(2, abs=0.07)  # doubles with every 13 % of the loss
    assert kaplan.fewest_steps(1000, b, loss) == pytest.approx(500)  # at B_crit twice the fewest steps ...
    assert kaplan.least_compute(1e18, b, loss) == pytest.approx(5e17)  # ... and twice the least compute
    assert kaplan.fewest_steps(1000, 1e3 * b, loss) == pytest.approx(1000, rel=2e-3)
    assert kaplan.least_compute(1e18, b / 1e3, loss) == pytest.approx(1e18, rel=2e-3)


def test_learning_rate_falls_to_zero_at_about_1e10_parameters():
    assert kaplan.learning_rate(1.5e9) == pytest.approx(2.9e-4, rel=0.02)
    assert kaplan.learning_rate(1e10) == pytest.approx(2.7e-5, rel=0.05) and kaplan.learning_rate(1.3e10) < 0
