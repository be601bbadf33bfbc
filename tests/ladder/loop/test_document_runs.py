"""A run with attention within documents: the same bits after a kill, masked validation text, a run_id of its own."""

import json
import random
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder.config import Data, Eval, Rung
from ladder.data.tokenizer import byte_tokenizer
from ladder.evaluation import score
from ladder.evaluation.evaluator import Evaluator
from ladder.loop import evaluate, group
from ladder.loop import run as training
from ladder.loop.run import open_run
from ladder.model.transformer import Hooks, functions
from ladder.rundir.record import Record
from launch import prepare
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import kill, run

STEPS, BATCH, SEQ, EOS = 12, 8, 32, 255

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    """Documents of 1 to 40 bytes: several in each window, many of them cut."""
    path, draw = tmp_path_factory.mktemp("text") / "short.jsonl", random.Random(0)
    texts = ["".join(draw.choices("abc ", k=draw.randint(1, 40))) for _ in range(800)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Data(text=(str(path),), validation=0.2, mask_documents=True)


def rung(world) -> Rung:
    length = {"batch_tokens": BATCH * SEQ, "tokens": STEPS * BATCH * SEQ, "save_every": 4}
    evaluation = Eval((str(world.requests),), every=STEPS, validation_tokens=1024)
    return world.rung(model=replace(world.rung().model, n_layers=1, init_std=0.5), eval=evaluation, **length)


@pytest.fixture(scope="module")
def uninterrupted(world, data, tmp_path_factory) -> Path:
    (directory,) = world([rung(world)], tmp_path_factory.mktemp("whole"), data)
    assert run(directory) == 0
    return directory


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bits(world, data, tmp_path, uninterrupted):
    (directory,) = world([rung(world)], tmp_path, data)
    kill(directory, "step:6")
    assert run(directory) == 0
    assert_same(directory, uninterrupted)


@pytest.mark.slow
def test_validation_is_masked_and_tasks_are_not(uninterrupted):
    """The recorded loss is that of each document alone in an unmasked model; so are the scores of the task."""
    record = Record(uninterrupted)
    recorded = {(row["task"], row["metric"]): row["value"] for row in record.rows() if row["step"] == STEPS}
    opened = open_run(record)
    f = functions(opened.rung.model, Hooks())
    params = opened.checkpoints.read(STEPS, opened.program.abstract_state)["params"]
    windows = np.asarray(opened.evaluator._data[1][0]).reshape(-1, SEQ + 1)
    windows = windows[windows[:, 0] != score.PADDING]
    alone, lengths = [], []
    for row in windows:
        begins = [0, *(np.flatnonzero(row[: SEQ - 1] == EOS) + 1)]
        for first, stop in zip(begins, [*begins[1:], SEQ], strict=True):
            alone.append(np.pad(row[first : stop + 1], (0, SEQ - stop + first)))
            lengths.append(stop - first)
    assert len(alone) > 2 * len(windows)

    @jax.jit
    def nats_BL(tokens_BL1):
        log_p = jax.nn.log_softmax(f.logits(params, f.hidden(params, tokens_BL1[:, :-1])))
        return -jnp.take_along_axis(log_p, tokens_BL1[:, 1:, None], axis=2)[..., 0]

    padded = np.concatenate([np.stack(alone), windows])
    nats, counted = np.asarray(nats_BL(padded)), np.arange(SEQ) < np.array(lengths)[:, None]
    assert recorded["validation", "loss"] == pytest.approx(nats[: len(alone)][counted].mean(), rel=1e-5)
    assert abs(nats[len(alone) :].mean() / recorded["validation", "loss"] - 1) > 1e-3
    unmasked = Evaluator(opened.rung.eval, f, byte_tokenizer(), SEQ)
    for row in unmasked.rows(params):
        assert recorded[row["task"], row["metric"]] == pytest.approx(row["value"], rel=1e-5)


@pytest.mark.slow
def test_its_evaluation_is_another_and_is_found_again(uninterrupted):
    [again] = evaluate.evaluate(uninterrupted)
    assert again.seconds is None and again.hash == Record(uninterrupted).done()["evaluation"]
    opened = open_run(Record(uninterrupted))
    other = replace(opened.rung, data=replace(opened.rung.data, mask_documents=False, eos_id=None))
    corpora = [opened.data.sources[0].corpus]
    assert training.evaluator(other, opened.program, corpora[0].tokenizer, corpora).hash != again.hash


def test_it_is_a_run_of_its_own(world, data):
    [masked], [plain] = (
        world.build([rung(world)], d).ladder.rungs for d in (data, replace(data, mask_documents=False))
    )
    assert (masked.data.corpus, masked.data.eos_id, plain.data.eos_id) == (plain.data.corpus, EOS, None)
    assert masked.run_id != plain.run_id


@pytest.mark.slow
def test_a_member_of_a_group_equals_its_run_alone(world, data, tmp_path, uninterrupted):
    built = world.build([rung(world)], data)
    members = group.members(built.ladder.rungs[0], "seeds=2")
    first = prepare.write_group(built, members, tmp_path)
    assert run(first) == 0
    of_group, alone = (
        {k: row for row in Record(d).rows() for k in [(row["step"], row["task"], row["metric"])]}
        for d in (first, uninterrupted)
    )
    assert of_group.keys() == alone.keys()
    for key, row in alone.items():
        assert of_group[key]["value"] == pytest.approx(row["value"], rel=1e-4), key
