"""NaN and spikes at chosen steps: caught at that step, repeated by `ladder replay` bit for bit, and in no fit."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting.errors import InputError as FitInputError
from fitting.tables import runs_table
from ladder.config import Eval
from ladder.errors import DamagedError, InputError
from ladder.loop import step
from ladder.loop.run import open_run
from ladder.optim import skip_step
from ladder.parallel import sharding
from ladder.replay.repeat import replay
from ladder.rundir import replays
from ladder.rundir.record import Record
from launch import cli
from launch.scheduler import status
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import run

pytestmark = pytest.mark.usefixtures("quick_compile")
WINDOW = 16


@pytest.fixture
def poison(monkeypatch):
    """poison({directory: {step: factor}}): the nats of the batch of a step of a run are multiplied by the factor, in
    training and wherever else that batch is scored: as if the batch were at fault."""
    nats = step._nats

    def key(targets_BL):
        return (jnp.asarray(targets_BL) * (1 + jnp.arange(targets_BL.size).reshape(targets_BL.shape))).sum()

    def patch(faults: dict[Path, dict[int, float]]) -> None:
        keys = {}
        for directory, factors in faults.items():
            batches = open_run(Record(directory)).data
            keys |= {int(key(batches(at - 1)["tokens"][:, 1:])): factor for at, factor in factors.items()}

        def poisoned(head_DV, x_BLD, targets_BL):
            nats_BL, log_z_BL = nats(head_DV, x_BLD, targets_BL)
            factor = jnp.ones(())
            for poisonous, value in keys.items():
                factor = jnp.where(key(targets_BL) == poisonous, value, factor)
            return nats_BL * factor, log_z_BL

        monkeypatch.setattr(step, "_nats", poisoned)

    return patch


def small(world, **changes):
    """A rung that compiles quickly."""
    return world.rung(model=replace(world.rung().model, n_layers=1), eval=Eval(validation_tokens=0), **changes)


def skipping(world, **changes):
    plain = small(world, **changes)
    return replace(plain, optimizer=replace(plain.optimizer, skip_step_sigma=6.0, skip_step_window=WINDOW))


def skipped_at(directory: Path) -> dict[int, float]:
    """{step: how many steps were skipped up to it}, of the metrics."""
    return {row["step"]: row["value"] for row in Record(directory).rows() if row["metric"] == "skipped"}


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check_diverged(directory: Path, at: int) -> None:
    """The run ends at the step, the step is repeated, and the run is in no table."""
    assert run(directory) == 78
    assert Record(directory).stopped()["step"] == at and replays.steps(directory) == [at]
    before = files(directory)
    result = replay(directory)
    assert (result.step, result.same, result.differs) == (at, True, ())
    assert math.isnan(result.loss) and all(math.isnan(row.loss) for row in result.rows)
    assert result.starts_from == max((saved for saved in Record(directory).saved_steps() if saved < at), default=0)
    assert any(part.not_finite for part in result.parts)
    assert files(directory) == before
    for unfinished in (False, True):
        with pytest.raises(FitInputError, match="no finished run among 1 run directories"):
            runs_table.read(directory, unfinished)


def test_a_nan_ends_the_run_and_its_step_is_repeated(world, tmp_path, poison, capsys):
    (directory,) = world([small(world, save_every=10)], tmp_path)
    poison({directory: {23: math.nan}})
    assert run(directory) == 78
    assert f"to repeat it: ladder replay {directory}" in capsys.readouterr().err
    assert Record(directory).stopped()["step"] == 23
    for unfinished in (False, True):
        with pytest.raises(FitInputError, match="no finished run among 1 run directories"):
            runs_table.read(directory, unfinished)
    assert cli.main(["replay", str(directory), "--json", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr().out
    assert "step 23, repeated from the checkpoint of step 20 (not skipped)" in shown
    assert "the same bits as in the run" in shown and "layer 0" in shown and "['embedding']" in shown
    assert json.loads((tmp_path / "r.json").read_text())["loss"] == replays.bits(math.nan)
    bundle = directory / "replay/23.json"
    bundle.write_text(bundle.read_text().replace('"batch": 22', '"batch": 21'))
    with pytest.raises(DamagedError, match="does not match the hash"):
        replays.read(directory, 23)


@pytest.mark.slow
def test_what_is_not_as_it_was_in_the_run_is_said(world, tmp_path, poison, capsys):
    (directory,) = world([small(world, save_every=10)], tmp_path)
    poison({directory: {23: math.nan}})
    check_diverged(directory, 23)
    poison({})  # the batch was at fault in the run, and is not now
    assert cli.main(["replay", str(directory)]) == 1
    assert "other bits than in the run: loss nan, gradient norm nan" in capsys.readouterr().out
    bundle = replays.read(directory, 23)
    bundle["rows"][2]["sha256"], bundle["tokens_sha256"], bundle["devices"] = "0" * 16, "0" * 64, "8 x TPU v5e"
    replays._write(directory, 23, bundle)
    assert replay(directory).differs == (
        "rows 2 of the batch have other tokens",
        f"devices: 8 x TPU v5e in the run, {replays.machine()['devices']} here",
    )
    assert replay(directory, 20).same and replay(directory, 20).recorded.keys() == {"loss", "grad_norm"}
    assert replay(directory, 7).same is None


@pytest.fixture
def skipped(world, tmp_path, poison):
    """A run with a NaN at step 12 and spikes at 37 and 58, all skipped."""
    (directory,) = world([skipping(world)], tmp_path / "skips")
    poison({directory: {12: math.nan, 37: 20.0, 58: 20.0}})
    assert run(directory) == 0
    return directory


def test_skipped_steps_are_counted(skipped):
    assert skipped_at(skipped) == {10: 0, 12: 1, 20: 1, 30: 1, 37: 2, 40: 2, 50: 2, 58: 3, 60: 3}
    assert Record(skipped).done()["skipped"] == 3 and status.read_run(skipped).skipped == 3
    assert replays.steps(skipped) == [12, 37, 58]
    assert set(runs_table.read(skipped)["skipped_share"]) == {3 / 60}


@pytest.mark.slow
def test_skipped_steps_are_repeated_and_resumed_exactly(skipped, tmp_path):
    for at in (12, 37, 58):
        result = replay(skipped, at)
        assert result.same and result.skipped and math.isnan(result.loss) == (at == 12)
    again = Path(shutil.copytree(skipped, tmp_path / skipped.name))  # stopped after step 15, and resumed
    (again / "DONE.json").unlink()
    for saved in ("45", "60"):
        shutil.rmtree(again / "checkpoints" / saved)
    assert run(again) == 0
    assert_same(again, skipped)


@pytest.mark.slow
def test_nan_in_too_many_steps_in_a_row_ends_the_run(world, tmp_path, poison):
    (directory,) = world([skipping(world)], tmp_path)
    most = skip_step.MOST_NOT_FINITE
    poison({directory: dict.fromkeys(range(20, 20 + most + 1), math.inf)})
    assert run(directory) == 78
    assert Record(directory).stopped()["step"] == 20 + most
    assert replays.steps(directory) == [*range(20, 20 + most + 1)]
    assert replays.read(directory, 20 + most)["outcome"] == "diverged" and replay(directory).same


@pytest.mark.slow
def test_members_of_a_group_skip_on_their_own(world, tmp_path, poison):
    from launch import prepare

    built = world.build([skipping(world)])
    rungs = [replace(built.ladder.all[0], seed=seed) for seed in (0, 1)]
    first = prepare.write_group(built, rungs, tmp_path)
    poison({first: {25: math.nan}})
    assert run(first) == 0
    counts = {}
    for directory in first.parent.glob("s-*"):
        counts[directory] = {
            row["step"]: row["value"] for row in Record(directory).rows() if row["metric"] == "skipped"
        }
    assert len(counts) == 2 and counts.pop(first)[25] == 1
    assert 25 not in next(iter(counts.values()))


@pytest.mark.slow
def test_a_skipped_step_changes_neither_parameters_nor_moments(world):
    rung = replace(skipping(world), mesh=replace(world.rung().mesh, accumulation=2))
    program = step.build(rung, sharding.make_mesh(rung.mesh))
    tokens = np.random.default_rng(0).integers(0, 256, (4, 33), np.int32)
    state, _ = program.train_step(program.init(), program.put({"tokens": tokens}, 0.01))
    before = jax.device_get(state)
    state = state | {"params": jax.tree.map(lambda x: x, state["params"])}
    state["skips"] = state["skips"] | {"recorded": jnp.int32(WINDOW), "losses": jnp.full(WINDOW, 1e-3)}
    state, metrics = program.train_step(state, program.put({"tokens": tokens}, 0.01))
    assert metrics["skip"] and metrics["skipped"] == 1 and metrics["not_finite"] == 0 and state["step"] == 2
    for name in ("params", "optimizer"):
        jax.tree.map(np.testing.assert_array_equal, before[name], jax.device_get(state[name]))


def test_a_step_that_does_not_exist_is_one_line(world, tmp_path):
    (directory,) = world([small(world)], tmp_path)
    with pytest.raises(InputError, match="no step of this run diverged or was skipped; name one"):
        replay(directory)
    with pytest.raises(InputError, match="has no step 61; its steps are 1 to 60"):
        replay(directory, 61)


@pytest.mark.chaos
def test_nan_at_ten_points(world, tmp_path, poison):
    """Ten seeds, a fault in one batch of each: they share one compiled program."""
    steps = [1, 2, 5, 10, 15, 16, 30, 31, 45, 60]
    directories = world([small(world, seed=i) for i in range(len(steps))], tmp_path)
    poison({directory: {at: math.nan} for directory, at in zip(directories, steps, strict=True)})
    for directory, at in zip(directories, steps, strict=True):
        check_diverged(directory, at)
        print(f"NaN at step {at}: diverged there, repeated with the same bits, in no table")


@pytest.mark.chaos
def test_spikes_at_ten_points(world, tmp_path, poison):
    steps = [9, 10, 14, 15, 16, 30, 31, 45, 50, 60]
    directories = world([skipping(world, seed=i) for i in range(len(steps))], tmp_path)
    poison({directory: {at: 20.0} for directory, at in zip(directories, steps, strict=True)})
    for directory, at in zip(directories, steps, strict=True):
        assert run(directory) == 0
        assert at in replays.steps(directory)
        result = replay(directory, at)
        assert (result.step, result.same, result.skipped, result.differs) == (at, True, True, ())
        print(f"spike at step {at}: skipped, repeated with the same bits; skipped in all: {replays.steps(directory)}")
