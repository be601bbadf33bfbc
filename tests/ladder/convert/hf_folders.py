"""Run directories with one checkpoint that nobody trained, to export: `export` is what `ladder export --to hf` does."""

from dataclasses import replace
from pathlib import Path

import jax

from ladder.config import Data, Model
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.record import Record
from launch import cli
from tests.ladder.conftest import World

STEP = 3


def write_run(world: World, root: Path, model: Model, params: dict, tokenizer: str = "bytes") -> Path:
    """A run directory with these parameters as the checkpoint of step 3, whose validation loss is 1.25."""
    data = Data(text=(str(world.text),), validation=0.2, tokenizer=tokenizer)
    rung = replace(world.rung(), model=model)
    (directory,) = world([rung], root, data=data)
    record = Record(directory)
    row = {"step": STEP, "tokens": STEP * rung.batch_tokens, "kind": rung.kind, "task": "a|b", "metric": "loss"}
    record.log([row | {"value": 1.25, "stderr": None, "n_docs": None}])
    record.publish(STEP)
    checkpoints = Checkpoints(directory / "checkpoints")
    checkpoints.start(STEP, {"params": jax.tree.map(jax.numpy.asarray, params)})
    checkpoints.commit(STEP, record.listing)
    return directory


def export(directory, folder, *arguments) -> int:
    return cli.main(["export", str(directory), "--to", "hf", str(folder), *arguments])
