"""C_min recovers the law of the least compute, which the compute at large batches hides, and B_crit's uncertainty."""

import json

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.studies import catalogue, critical_batch
from fitting.studies.critical_batch import CriticalBatch
from fitting.studies.scaling import analysis
from tests.fitting.studies.simulated import table
from tests.fitting.studies.test_scaling import BUDGETS, SIZES, chinchilla

COV = ((0.02, 0.05), (0.05, 0.4))
TRUTH = CriticalBatch(2.4, np.log(3000.0), 4.8, COV, 4, (3.3, 2.05), ("text",))


def simulated(draw: int, noise: float = 0.001):
    """Runs whose loss is a law of N and D_min; the larger a model, the larger its batch, and the more it wastes."""
    rng, rows = np.random.default_rng(draw), []
    for n in SIZES:
        batch = 1024 * (n / SIZES[0]) ** 0.8
        for c_min in BUDGETS:
            d_min = c_min / (6 * n)
            loss = chinchilla(n, d_min)
            d = d_min * (1 + batch / TRUTH.at(loss))
            run = {"run": f"{n}-{c_min:g}", "n_params": n, "n_non_embedding": n, "size": f"n{n}", "corpus": "text"}
            run |= {"tokens": d, "flops": 6 * n * d, "batch_tokens": batch}
            rows.append(run | {"value": loss * np.exp(noise * rng.standard_normal())})
    return table(rows)


def measured(draw: int) -> CriticalBatch:
    """TRUTH as a study of batch sizes would have measured it."""
    by = np.random.default_rng(100 + draw).multivariate_normal(np.zeros(2), COV)
    return TRUTH._moved(by)


def true_exponents() -> tuple[float, float]:
    """(of N_opt, of L) along the best sizes between the least and the most C_min, on a grid of N."""
    n_m = np.geomspace(1e2, 1e8, 20_000)
    best = [(n_m[loss.argmin()], loss.min()) for c in BUDGETS[::2] for loss in [chinchilla(n_m, c / (6 * n_m))]]
    (n0, loss0), (n1, loss1) = best
    octaves = np.log(BUDGETS[2] / BUDGETS[0])
    return np.log(n1 / n0) / octaves, np.log(loss0 / loss1) / octaves


def statements(draw: int, batch, noise: float = 0.001):
    law = analysis.laws(whole := simulated(draw, noise), analysis.early_stopped(whole), batch)
    by_name = {claim.says: (claim, compare) for claim, compare in analysis._comparisons(law)}
    return [by_name[BY_SIZE], by_name[BY_LOSS]]


BY_SIZE = "The best size grows with the least compute as C_min^0.73"
BY_LOSS = "L of the best size for its least compute falls as C_min^-alpha_C"


def test_c_min_of_every_run_is_that_which_made_it():
    law = analysis.laws(whole := simulated(0, noise=0.0), analysis.early_stopped(whole), lambda: TRUTH)
    least = law.least()
    np.testing.assert_allclose(least.at_least().features["C"].reshape(-1, 3), np.tile(BUDGETS, (len(SIZES), 1)))
    assert len(least.grid().rows) == len(whole)
    outside = int(np.sum((least.points.y_n > TRUTH.measured[0]) | (least.points.y_n < TRUTH.measured[1])))
    assert outside > 0 and f"{outside} of the {len(whole)} runs" in least.notes[0]


@pytest.mark.slow
def test_without_noise_the_exponents_are_found_and_the_naive_one_is_not():
    law = analysis.laws(whole := simulated(0, noise=0.0), analysis.early_stopped(whole), lambda: TRUTH)
    least = law.least()
    of_size, of_loss = true_exponents()
    frontier = law.of_least()
    assert frontier.a_R[0] == pytest.approx(of_size, abs=0.01)
    assert analysis.falls_as(frontier, least.at_least().features["C"])[0] == pytest.approx(of_loss, rel=0.02)
    naive = law.frontiers[2]()
    assert abs(naive.a_R[0] - of_size) > 0.05


@pytest.mark.slow
def test_an_uncertain_critical_batch_size_widens_the_interval():
    known = CriticalBatch(**TRUTH.json() | {"cov": ((0.0, 0.0), (0.0, 0.0))})
    widths = []
    for batch in (known, TRUTH):
        claim, compare = statements(0, lambda batch=batch: batch)[0]
        lo, hi = claim.tried(compare).ends
        widths.append(hi - lo)
    assert widths[1] > 1.2 * widths[0]


@pytest.mark.slow
def test_the_intervals_hold_the_exponents_in_most_draws():
    held = []
    for draw in range(10):
        for (claim, compare), truth in zip(
            statements(draw, lambda draw=draw: measured(draw)), true_exponents(), strict=True
        ):
            lo, hi = claim.tried(compare).ends
            held.append(lo < truth < hi)
    assert sum(held) >= 17, held  # 95 % of 20 are 19


def test_the_file_of_the_batch_study_is_read_and_its_text_compared(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"measured": {critical_batch.KEY: TRUTH.json()}}))
    assert critical_batch.read(path) == TRUTH
    path.write_text(json.dumps({"measured": {critical_batch.KEY: TRUTH.json() | {"corpora": ["other"]}}}))
    why = {s.says: s.why for s in catalogue.analyse("scaling", simulated(0).select(n_params=7000.0), path).statements}
    assert "of runs on the corpus other, these runs read text" in why[BY_LOSS]
    path.write_text(json.dumps({"measured": {}}))
    with pytest.raises(InputError, match="ladder study batch"):
        critical_batch.read(path)
    with pytest.raises(InputError, match="not by shape"):
        catalogue.analyse("shape", simulated(0), path)
