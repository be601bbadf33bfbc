"""A real run that is preempted three times, and followed by a TensorBoard and a W&B tracker that are killed with it."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from ladder.rundir.record import Record
from tests.ladder.conftest import World
from tests.ladder.loop import training
from tests.launch.trackers import readers
from tests.launch.trackers.wandb_server import Server

pytestmark = [pytest.mark.proof, pytest.mark.usefixtures("quick_compile")]
WITH_WANDB = importlib.util.find_spec("wandb") is not None


@pytest.mark.parametrize(
    "to",
    [
        "tensorboard",
        pytest.param("wandb", marks=pytest.mark.skipif(not WITH_WANDB, reason="no wandb here: make trackers")),
    ],
)
def test_every_metric_of_a_run_that_is_preempted_three_times_is_written_once(tmp_path, to):
    world = World(tmp_path)
    (directory,) = world([world.rung()], tmp_path / "runs")
    follow = [
        sys.executable,
        "-m",
        "launch.cli",
        "track",
        str(directory),
        "--to",
        to,
        "--dir",
        str(tmp_path),
        "--follow",
    ]
    with Server() as server:
        environment = os.environ | server.environment | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        for at in ("metrics-published:2", "before-manifest:2", "step:20"):
            follower = subprocess.Popen(follow, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            training.kill(directory, at)
            follower.kill()
            follower.wait()
        follower = subprocess.Popen(follow, env=environment)
        assert training.run(directory) == 0
        assert follower.wait(timeout=120) == 0
        rows = [(row["step"], f"{row['task']}/{row['metric']}", row["value"]) for row in Record(directory).rows()]
        assert rows[-1][0] == 60 and len(rows) == len(set(rows))
        if to == "tensorboard":
            written = readers.tensorboard(tmp_path / "tiny" / directory.name)
            rows = [(step, name, float(np.float32(value))) for step, name, value in rows]
        else:
            folders = list(tmp_path.glob("wandb/offline-run-*"))
            sync = [sys.executable, "-m", "wandb", "sync", "--yes", *folders]
            subprocess.run(sync, env=environment, check=True, capture_output=True, cwd=tmp_path)
            history = server.history[directory.name]
            written = [(row["_step"], name, value) for row in history for name, value in row.items() if name[0] != "_"]
        print(f"{to}: {len(written)} values")
        assert sorted(point for point in written if point[1] != "tokens") == sorted(rows)
        assert len(written) == len(rows) + len({step for step, _, _ in rows})  # tokens, once a step
