"""The study of noise recovers the noise it is given: its size, its law in N, and the share that branches share."""

from dataclasses import replace

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.studies import noise
from fitting.studies.ends import ends
from fitting.studies.results import DISAGREES, UNKNOWN
from tests.fitting.studies.simulated import chinchilla, table

SIZES, SEEDS = (10_000, 30_000, 90_000), 6


def simulated(draw: int, percent: float = 0.7, exponent: float = 0.0, share: float = 0.5, tasks: bool = False):
    """Trunks with two branches of the first size, full runs of the others. percent: at the first size."""
    rng, rows = np.random.default_rng(draw), []
    for n in SIZES:
        sd = percent / 100 * (n / SIZES[0]) ** exponent
        for seed in range(SEEDS):
            shared, multiples = rng.standard_normal(), (10, 20) if n == SIZES[0] else (20,)
            for multiple in multiples:
                own = rng.standard_normal()
                z = np.sqrt(share) * shared + np.sqrt(1 - share) * own
                run = {
                    "run": f"{n}-{multiple}-{seed}",
                    "size": f"d{n}",
                    "n_params": n,
                    "tokens": multiple * n,
                    "seed": seed,
                }
                run |= {"kind": "branch", "parent": f"t{seed}"} if n == SIZES[0] else {}
                loss, step = chinchilla(n, multiple * n) * np.exp(sd * z), multiple * n / 1000
                rows += [
                    run | {"value": loss * np.exp(0.01 * rng.standard_normal()), "step": step - k, "final": "false"}
                    for k in (2, 1)
                ]
                rows.append(run | {"value": loss, "step": step})
                if tasks:
                    quiz = run | {"task": "quiz", "step": step, "n_docs": 100}
                    rows.append(quiz | {"value": loss, "stderr": 0.02 * loss})
                    rows.append(quiz | {"metric": "acc", "value": rng.binomial(100, 0.4) / 100, "stderr": 0.049})
    return table(rows)


def held(ends_and_truth) -> int:
    return sum(lo < truth < hi for (lo, hi), truth in ends_and_truth)


def test_intervals_hold_the_noise_its_law_and_the_shared_variance():
    draws = [ends(simulated(draw, 0.7, -0.3, 0.5)) for draw in range(60)]
    first_size = [rows.select(size="d10000") for rows in draws]
    assert held((noise.pooled(rows)[1], 0.7) for rows in first_size) >= 52
    assert held((noise.of_size(rows).of(np.array([0.0, 1.0]))[1], -0.3) for rows in draws) >= 52
    pairs = [noise.shared(noise.branch_pairs(rows))[1] for rows in draws]
    assert held((interval, 0.5) for interval in pairs) >= 52


def test_tables_figure_and_verdicts():
    study = noise.analyse(simulated(0, percent=3.0, tasks=True))
    assert [s.verdict for s in study.statements] == [DISAGREES, UNKNOWN]  # six trunks cannot tell a correlation
    assert [len(grid.rows) for grid in study.tables] == [1, 4, 1, 3, 2]
    assert study.tables[2].rows[0][:2] == ["quiz", "100"]
    assert "too much alike" in study.tables[3].notes[1]  # one task says nothing of how noise depends on the docs
    assert study.tables[4].rows[0][3] == "1.00"
    assert len(study.figures) == 2


def test_the_noise_is_measured_for_designs_and_fits():
    whole = simulated(0, percent=1.0, tasks=True)
    measured = noise.analyse(whole).measured["noise_between_seeds"]
    pooled = noise.pooled(ends(whole))[0] / 100
    assert measured["sd"] == {"validation": pytest.approx(pooled), "quiz": pytest.approx(pooled)}
    assert measured["dof"] == {"validation": 15, "quiz": 15} and measured["sizes"] == (10_000, 90_000)
    assert measured["exponent"] == 0  # not determined
    falling = [noise.analyse(simulated(draw, 3.0, -1.0)).measured["noise_between_seeds"] for draw in range(2)]
    assert all(-1.8 < of_draw["exponent"] < -0.2 for of_draw in falling)


def test_trunks_of_sizes_with_one_seed_say_nothing_of_what_branches_share():
    whole = simulated(0)
    rows = ends(whole)
    other = ends(simulated(1)).select(kind="branch", seed=0.0)
    other = replace(
        other, columns=other.columns | {"n_params": np.full(2, 5000.0), "parent": np.array(["t9", "t9"], object)}
    )
    columns = {name: np.concatenate([column, other[name]]) for name, column in rows.columns.items()}
    assert noise.shared(noise.branch_pairs(replace(rows, columns=columns))) == noise.shared(noise.branch_pairs(rows))


def test_what_is_missing_is_said():
    one_size = noise.analyse(simulated(0).select(size="d30000"))
    assert "no law of the noise" in one_size.notes[0]
    assert "0 trunks of one size with two finished branches each" in one_size.statements[1].why
    with pytest.raises(InputError, match="differ only in their seed"):
        noise.analyse(simulated(0).select(seed=0.0))
