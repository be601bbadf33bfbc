"""Noise against the number of docs: seeds that answer the same docs, with scores of single docs that are not kept."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.studies import noise_docs
from tests.fitting.studies.simulated import table

SEED, BETWEEN, WITHIN = 0.02, 0.5, 0.3  # sd of ln bpb: of a seed, between docs, of a seed at a doc
SHARE = WITHIN**2 / (BETWEEN**2 + WITHIN**2)
DOCS = {"short": 50, "middle": 200, "long": 1000}
SEEDS = 8


def simulated(draw: int, docs=DOCS, seeds: int = SEEDS):
    rng, rows = np.random.default_rng(draw), []
    for n in (10_000, 30_000, 90_000):
        of_seed = SEED * rng.standard_normal(seeds)
        run = {"n_params": n, "tokens": 20 * n, "size": f"d{n}"}
        for task, n_docs in docs.items():
            of_doc = BETWEEN * rng.standard_normal(n_docs)
            score = 1.0 + of_seed[:, None] + of_doc + WITHIN * rng.standard_normal((seeds, n_docs))
            for seed in range(seeds):
                end = run | {"run": f"{n}-{seed}", "seed": seed, "task": task, "n_docs": n_docs}
                rows.append(end | {"value": score[seed].mean(), "stderr": score[seed].std(ddof=1) / np.sqrt(n_docs)})
        rows += [run | {"run": f"{n}-{seed}", "seed": seed, "value": 1 + of_seed[seed]} for seed in range(seeds)]
    return table(rows)


def test_the_seeds_part_and_the_docs_part_are_told_apart_in_most_draws():
    found = [noise_docs.separated(noise_docs.read(simulated(draw))) for draw in range(40)]
    of_seed, of_docs = (np.array(part) for part in zip(*found, strict=True))
    assert ((of_seed[:, 1] < SEED) & (of_seed[:, 2] > SEED)).sum() >= 35  # 95 % of 40 are 38
    assert ((of_docs[:, 1] < SHARE) & (of_docs[:, 2] > SHARE)).sum() >= 35
    assert np.median(of_seed[:, 0]) == pytest.approx(SEED, rel=0.15)
    assert np.median(of_docs[:, 0]) == pytest.approx(SHARE, rel=0.4)


def test_the_limits_of_a_task_hold_what_unlimited_docs_would_leave():
    groups = noise_docs.read(simulated(0, seeds=120))
    assert len(groups) == 9
    for group in groups:
        assert group.variance - group.sampling**2 <= SEED**2 * 1.2 and group.variance * 1.2 >= SEED**2
    (seeds, docs, limits) = zip(*((row[3], row[1], row[6]) for row in noise_docs.grids(groups)[0].rows), strict=True)
    assert set(seeds) == {"120"} and docs[:3] == ("50", "50", "50") and all(" to " in limit for limit in limits)


def test_what_cannot_be_told_is_said():
    assert noise_docs.grids(noise_docs.read(simulated(0).select(task="validation"))) == ()
    alike = noise_docs.read(simulated(0, docs={"a": 200, "b": 220}))
    with pytest.raises(InputError, match="too much alike"):
        noise_docs.separated(alike)
    assert "no results of single docs" in noise_docs.grids(alike)[0].notes[0]
    with pytest.raises(InputError, match="3 seeds"):
        noise_docs.separated(noise_docs.read(simulated(0, seeds=3)))
