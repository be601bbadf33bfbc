"""The ladders of the studies: what is varied, what is held, and that they stay small on a CPU."""

from collections import Counter

import pytest

from configs import loader
from configs.studies import makers, scaling, shape
from ladder.config import Model
from ladder.flops import flops_per_token
from ladder.loop import group
from ladder.sizes import n_non_embedding, n_params
from launch import plan
from launch.study import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_study_at_cpu_size_is_small_and_has_no_target(name):
    ladder = loader.load(f"study-{name}")
    assert len(ladder.rungs) <= 45 and not ladder.targets
    assert plan.make(ladder).flops < 1.5e13  # ten minutes at 2.5e10 a second, which two cores reach
    assert all(n_params(rung.model) < 500_000 for rung in ladder.rungs)


@pytest.mark.parametrize("name", ["study-shape", "study-shape-tpu"])
def test_all_shapes_have_the_same_number_of_parameters_and_settings(name):
    rungs = loader.load(name).rungs
    counts = [n_non_embedding(rung.model) for rung in rungs]
    assert max(counts) / min(counts) < 1.01
    assert len({(rung.tokens, rung.batch_tokens, rung.optimizer) for rung in rungs}) == 1
    seeds = Counter(rung.size for rung in rungs)
    assert seeds.most_common(1)[0][1] == 4 and sum(seeds.values()) == len(seeds) + 3
    aspects = [r.model.d_model / r.model.n_layers for r in rungs if r.size.startswith(("aspect", "base"))]
    assert max(aspects) / min(aspects) >= 40


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_the_feed_forward_takes_the_parameters_that_are_left(layers):
    model = Model("olmo2", 64, layers, 4, 1, 256, 128)
    d_ff = shape.d_ff_for(n := 500_000, model)
    off = [abs(n_non_embedding(Model("olmo2", 64, layers, 4, w, 256, 128)) - n) for w in (d_ff - 1, d_ff, d_ff + 1)]
    assert off[1] == min(off)


def test_every_branch_has_a_cosine_run_of_its_length():
    rungs = loader.load("study-branches").rungs
    lengths = {kind: Counter((r.size, r.steps, r.seed) for r in rungs if r.kind == kind) for kind in ("branch", "full")}
    assert lengths["branch"] == lengths["full"]
    schedules = {r.kind: r.optimizer.schedule for r in rungs}
    assert schedules == {"trunk": "wsd", "branch": "wsd", "full": "cosine"}


def test_seeds_trained_at_once_are_those_of_the_study():
    rungs = [r for r in loader.load("study-noise").rungs if r.size == "d24"]
    assert [r.run_id for r in group.members(rungs[0], "seeds=6")] == [r.run_id for r in rungs]


def test_batches_of_one_size_differ_in_batch_and_rate_only():
    rungs = loader.load("study-batch").rungs
    assert len({r.model for r in rungs}) == 1 and {r.kind for r in rungs} == {"trunk"}
    batches = Counter(r.batch_tokens for r in rungs)
    assert len(batches) >= 6 and set(batches.values()) == {2}


def test_a_budget_is_spent_by_four_sizes_at_least():
    rungs = loader.load("study-scaling").rungs
    spent = [flops_per_token(r.model) * r.tokens for r in rungs if r.kind == "branch"]
    assert all(sum(abs(c / budget - 1) < 0.01 for c in spent) >= 4 for budget in (1.2e11, 3.6e11, 1.1e12))
    unique = Counter(r.unique_tokens for r in rungs if r.unique_tokens)
    assert set(unique.values()) == {3} and len(unique) == 3


def test_a_maker_of_your_own():
    """Another model and batch, as a user would write it."""

    def make(size, model, multiple, seed):
        rung = makers.cpu(size, model, multiple, seed)
        return makers.evaluated(rung, 5)

    ladder = scaling.scaling("mine", make, makers.demo_models(16, 24), (3.6e11,), ("d16",), (64_000,))
    assert [r.kind for r in ladder.rungs] == ["trunk", "branch", "trunk", "branch", "full"]
