"""The rule of skipped steps, beside the same rule on lists in numpy."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from configs.wsd import trunk_and_branches
from ladder.config import Ladder, Optimizer
from ladder.errors import InputError
from ladder.optim import skip_step

PLAIN = Optimizer(0.01, 1024)


def by_list(sigma: float, window: int, losses, norms) -> list[bool]:
    """Whether each step is skipped: torch.std_mean's mean and std of the finite steps before, at most `window`."""
    known, skipped = [], []
    for pair in zip(losses, norms, strict=True):
        finite = all(map(math.isfinite, pair))
        skip = not finite
        if finite and len(known) + 1 >= max(2, window // 2):
            before = np.array(known[-window:], np.float64)
            skip = bool((np.array(pair) - before.mean(0) > sigma * before.std(0, ddof=1)).any())
        skipped.append(skip)
        known += [pair] * finite
    return skipped


def by_ring(sigma: float, window: int, losses_SL, norms_SL) -> tuple[np.ndarray, dict]:
    """(bool[S, L], the last states) of S series of L steps."""
    optimizer = replace(PLAIN, skip_step_sigma=sigma, skip_step_window=window)

    def step(state, pair):
        skip, state = skip_step.update(optimizer, state, *pair)
        return state, skip

    def series(losses_L, norms_L):
        return jax.lax.scan(step, skip_step.init(optimizer), (losses_L, norms_L))

    state, skipped_SL = jax.jit(jax.vmap(series))(np.float32(losses_SL), np.float32(norms_SL))
    return np.asarray(skipped_SL), jax.device_get(state)


@pytest.mark.parametrize("sigma, window", [(2.0, 8), (6.0, 16), (3.3, 9)])
def test_the_rule_is_that_of_lists(sigma, window):
    draw, shape = np.random.default_rng(window), (200, 80)
    losses = np.float32(3 + 0.1 * draw.standard_normal(shape) + 5 * (draw.random(shape) < 0.05))
    norms = np.float32(np.exp(0.3 * draw.standard_normal(shape)) * np.where(draw.random(shape) < 0.05, 30, 1))
    losses[draw.random(shape) < 0.03], norms[draw.random(shape) < 0.03] = np.nan, np.inf
    skipped, state = by_ring(sigma, window, losses, norms)
    for i in range(len(losses)):
        assert skipped[i].tolist() == by_list(sigma, window, losses[i], norms[i])
        finite = np.isfinite(losses[i]) & np.isfinite(norms[i])
        assert state["skipped"][i] == skipped[i].sum() and state["recorded"][i] == finite.sum()
        assert state["not_finite"][i] == np.argmax(finite[::-1])


def test_huge_values_do_not_overflow_and_a_lasting_change_is_followed():
    draw = np.random.default_rng(0)
    losses = 3 + 0.1 * draw.standard_normal(300)
    losses[100], losses[250:] = 1e38, 2e37
    skipped, _ = by_ring(6.0, 128, losses[None], np.ones((1, 300)))
    expected = by_list(6.0, 128, np.minimum(losses, skip_step.LARGEST), np.ones(300))
    assert skipped[0].tolist() == expected and 2 < sum(expected[250:]) < 10 and sum(expected) == 1 + sum(expected[250:])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"skip_step_sigma": 0.0}, "skip_step_sigma = 0.0: must be positive"),
        ({"skip_step_sigma": math.inf}, "skip_step_sigma = inf: must be positive"),
        ({"skip_step_sigma": 6.0, "skip_step_window": 7}, "skip_step_window = 7: must be 8 to"),
        ({"skip_step_window": 64}, "skip_step_window = 64: has no effect without"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        replace(PLAIN, **settings)


def test_only_a_run_that_skips_has_another_run_id():
    assert "skip_step_sigma" not in PLAIN.set_fields and "skip_step_window" not in PLAIN.set_fields
    assert replace(PLAIN, skip_step_sigma=6.0).set_fields == PLAIN.set_fields | {
        "skip_step_sigma": 6.0,
        "skip_step_window": 128,
    }
    assert skip_step.init(PLAIN) == {}


def test_a_branch_skips_as_its_trunk_does(world):
    trunk, branch = trunk_and_branches(world.rung(save_every=0), [0.02])
    skips = replace(branch, optimizer=replace(branch.optimizer, skip_step_sigma=6.0))
    with pytest.raises(InputError, match=r"and its trunk differ in optimizer\.skip_step_sigma; make them equal"):
        Ladder("tiny", (trunk, skips))
