"""Rung.unique_tokens: a run reads the first tokens of one order of its text, again and again."""

from dataclasses import replace

import numpy as np
import pytest

from ladder.config import Ladder
from ladder.data.batches import Batches
from ladder.data.sources import build
from ladder.errors import InputError
from launch import epochs, plan, prepare

SEQ_LEN = 32  # of world.rung


def windows(rung, corpus, passes: int) -> np.ndarray:
    """[passes, windows, L+1]: what the run reads in each pass over its subset."""
    n = rung.unique_tokens // SEQ_LEN
    batches = Batches(corpus, "train", n, rung.seed, subsets=rung.subsets)
    return np.array([batches(step)["tokens"] for step in range(passes)])


def test_it_repeats_the_first_windows_and_a_larger_set_holds_a_smaller_one(world):
    rungs = [world.rung(unique_tokens=n * SEQ_LEN) for n in (40, 100)]
    built = world.build(rungs)
    small, large = built.ladder.rungs
    corpus = build(small.data, SEQ_LEN, world.folder / "corpora")[0]
    first, second = windows(small, corpus, 2)
    rows = {row.tobytes() for row in first}
    assert len(rows) == 40 and rows == {row.tobytes() for row in second}
    assert rows <= {row.tobytes() for row in windows(large, corpus, 1)[0]}


def test_it_enters_the_run_id_before_and_after_the_corpus_is_built(world):
    whole, part, other = world.rung(), world.rung(unique_tokens=3200), world.rung(unique_tokens=6400)
    assert len({whole.run_id, part.run_id, other.run_id}) == 3
    assert "unique" not in whole.run_id and replace(part, unique_tokens=None).run_id == whole.run_id
    built = world.build([whole, part, other])
    assert len({rung.run_id for rung in built.ladder.rungs}) == 3
    again = Ladder("again", (built.ladder.rungs[1],))  # what a job does with its config.json
    assert again.rungs[0].subsets == built.ladder.rungs[1].subsets != ()


def test_the_plan_counts_the_passes(world):
    rung = world.rung(unique_tokens=100 * SEQ_LEN)
    uses = plan.make(Ladder("tiny", (rung,))).rungs[0].sources
    assert uses[0].epochs == rung.steps * rung.batch_tokens / (100 * SEQ_LEN)
    built = world.build([rung])
    assert epochs.uses(built.ladder.rungs[0], [10**9])[0].unique_tokens == 100 * SEQ_LEN
    prepare.check_batch(built.ladder.rungs[0], built)


def test_what_cannot_be(world):
    with pytest.raises(InputError, match=r"but its text has [\d,]+ tokens for training"):
        world.build([world.rung(unique_tokens=10**9)])
    with pytest.raises(InputError, match=r"must be at least model.seq_len = 32"):
        world.rung(unique_tokens=8)
    with pytest.raises(InputError, match=r"without data.sources"):
        world.rung(unique_tokens=3200, data=world.mixture())
    with pytest.raises(InputError, match="exclude each other"):
        target = world.rung(name="big", multiple=2)
        data = replace(target.data, simulate_epochs_of="big")
        Ladder("tiny", (world.rung(unique_tokens=3200, data=data),), (target,))
