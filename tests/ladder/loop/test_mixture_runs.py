"""A ladder that trains on a mixture: the same batches for every layout, the same bits after kills, a row per source."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Eval, Phase, Rung
from ladder.data.batches import Batches
from ladder.loop.run import open_run
from ladder.rundir.record import Record
from launch.scheduler import status
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import kill, run
from tests.ladder.parallel.test_processes import assert_same_bits, state

STEPS, BATCH, SEQ = 20, 16, 32

pytestmark = pytest.mark.usefixtures("quick_compile")


def rungs(world) -> tuple[Rung, Rung]:
    """Two sizes of 20 steps of 16 windows."""
    evaluation = Eval(every=10, validation_tokens=1024)
    model = replace(world.rung().model, n_layers=1)
    length = {"batch_tokens": BATCH * SEQ, "tokens": STEPS * BATCH * SEQ, "save_every": 5, "eval": evaluation}
    small = world.rung(model=model, **length)
    return small, replace(small, size="m", model=replace(model, d_model=24))


@pytest.fixture(scope="module")
def uninterrupted(world, tmp_path_factory) -> Path:
    small, _ = rungs(world)
    (directory,) = world([small], tmp_path_factory.mktemp("whole"), world.mixture())
    assert run(directory) == 0
    return directory


def test_killed_and_resumed_gives_the_same_bits_and_shows_waits_for_data(world, tmp_path, uninterrupted, monkeypatch):
    small, _ = rungs(world)
    (directory,) = world([small], tmp_path, world.mixture())
    kill(directory, "step:12")
    read = Batches.__call__

    def slowly(self, step):
        time.sleep(0.6 * (step == 17))
        return read(self, step)

    monkeypatch.setattr(Batches, "__call__", slowly)
    assert run(directory) == 0
    assert_same(directory, uninterrupted)
    rows = [json.loads(line) for line in (directory / "timing.jsonl").read_text().splitlines()]
    data = {row["step"]: row["data"] for row in rows if row["phase"] == "checkpoint"}
    assert {step: row["steps"] for step, row in data.items()} == dict.fromkeys((5, 10, 15, 20), 5)
    # Part of a wait may be the device's own; a stall is written in milliseconds.
    assert 0.01 <= data[20]["stalls"]["17"] <= data[20]["seconds"] + 0.001 < 5
    [shown] = status.read(directory)
    assert shown.data_seconds >= data[20]["seconds"]
    for seconds, columns in ((0.5, 0), (2.0, 1)):
        table = status.table([replace(shown, data_seconds=seconds)])
        assert [column.header for column in table.columns].count("data wait") == columns


def test_a_run_records_validation_and_epochs_of_each_source(uninterrupted):
    record = Record(uninterrupted)
    last = {(row["task"], row["metric"]): row["value"] for row in record.rows() if row["step"] == STEPS}
    loss = {name: last[name, "loss"] for name in ("validation", "validation/words", "validation/numbers")}
    opened = open_run(record)
    shares = [share / 65536 for share in opened.rung.data.shares]
    mean = shares[0] * loss["validation/words"] + shares[1] * loss["validation/numbers"]
    assert loss["validation"] == pytest.approx(mean, rel=1e-12)
    assert loss["validation/words"] < loss["validation/numbers"] - 0.1
    epochs = json.loads((uninterrupted / "DONE.json").read_text())["epochs_of_sources"]
    for i, (name, corpus) in enumerate(zip(("words", "numbers"), (s.corpus for s in opened.data.sources), strict=True)):
        assert epochs[name] == pytest.approx(shares[i] * STEPS * BATCH / corpus.windows["train"], abs=0.05)
    assert record.done()["epochs"] == max(epochs.values())
    assert record.read_config()["derived"]["corpus"] == opened.rung.data.content


def test_a_batch_has_each_source_by_its_share(uninterrupted):
    data = open_run(Record(uninterrupted)).data
    of_words = 0
    for step in range(STEPS):
        text = data(step)["tokens"].astype(np.uint8)
        of_words += sum(bytes(row.tolist()).translate(None, b"\xff 0123456789") != b"" for row in text)
    assert abs(of_words - 0.7 * STEPS * BATCH) <= 1


@pytest.mark.slow
def test_phases_across_a_kill_and_from_a_trunk_to_its_branch(world, tmp_path):
    """From step 16 on, where the decay starts, a full run reads other weights, and so does a branch of a trunk."""
    annealed = replace(world.mixture(), phases=(Phase((0.1, 0.9)),))
    full = replace(rungs(world)[0], data=annealed)
    trunk = replace(full, kind="trunk", multiple=None, tokens=16 * BATCH * SEQ, save_at=(16,))
    branch = replace(full, kind="branch", parent=trunk.identity, parent_step=16)
    directories = world((full, trunk, branch), tmp_path, annealed)
    kill(directories[0], "step:18")
    for directory in directories:
        assert run(directory) == 0
    assert_same_bits(state(directories[2], STEPS), state(directories[0], STEPS))
    data = open_run(Record(directories[2])).data
    of_words = [
        (data.mixture.locate(range(*part))[0] == 0).mean() for part in ((0, 16 * BATCH), (16 * BATCH, 20 * BATCH))
    ]
    assert of_words == pytest.approx([0.7, 0.1], abs=1 / 64)
    whole = open_run(Record(directories[0])).data
    for at in range(STEPS):
        np.testing.assert_array_equal(data(at)["tokens"], whole(at)["tokens"])
