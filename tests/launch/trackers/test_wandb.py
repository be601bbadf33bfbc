"""W&B holds every published value once, offline and online, whatever is killed. Its own programs send to a server
of ours."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ladder.rundir.record import Record
from launch.scheduler import submission
from tests.launch import stand_ins
from tests.launch.trackers import simulated
from tests.launch.trackers.wandb_server import Server

pytestmark = pytest.mark.slow
pytest.importorskip("wandb", reason="no wandb here: make trackers")
NAME = "d8-1xC-s0-01234567"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Server() as server:
        homes = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}
        homes = {name: str(tmp_path / folder) for name, folder in homes.items()}
        for name, value in (server.environment | homes | {"WANDB_SILENT": "true"}).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def run(tmp_path):
    return simulated.Run(tmp_path / "runs", steps=90)


def track(tmp_path, mode: str, kill_at: str = "", run: str = "runs/mine") -> subprocess.CompletedProcess:
    """`ladder track` in a process of its own, as W&B reads its settings once in a process."""
    command = [sys.executable, "-m", "launch.cli", "track", str(tmp_path / run), "--to", "wandb"]
    environment = os.environ | {"WANDB_MODE": mode, "LADDER_KILL_AT": kill_at}
    return subprocess.run([*command, "--dir", str(tmp_path)], env=environment, capture_output=True, text=True)


def sync(tmp_path) -> None:
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *tmp_path.glob("wandb/offline-run-*")]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)


def points(server: Server) -> list[tuple[int, str, float]]:
    rows = server.history[NAME]
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})
    return sorted((row["_step"], name, value) for row in rows for name, value in row.items() if name[0] != "_")


def test_offline_folders_together_hold_every_value_once(run, server, tmp_path):
    run.train(15)
    run.train(35)
    assert track(tmp_path, "offline", "batch-written").returncode == -signal.SIGKILL  # not yet moved
    assert track(tmp_path, "offline").stdout.startswith("10 values written; 0 of 1 runs are over")
    run.train(70)
    assert track(tmp_path, "offline", "batch-moved").returncode == -signal.SIGKILL  # the cursor is not yet written
    run.resume(15)
    run.train(75)  # in one segment: what was written, and what was not
    run.train(90)
    run.finish()
    assert track(tmp_path, "offline").stdout.startswith("7 values written; 1 of 1 runs are over")
    assert not [path.name for path in (tmp_path / "wandb").iterdir() if ".part." in path.name]
    sync(tmp_path)
    assert points(server) == run.points()
    said, written = server.runs[NAME], (run.directory / "metrics" / "000000000-000000015.jsonl").stat().st_mtime
    assert (said["groupName"], said["project"], said["jobType"]) == ("mine", "ladder", "full")
    assert said["tags"] == ["d8", "1xC", "seed 0", "full", "train"]
    assert json.loads(said["config"])["batch_tokens"]["value"] == 64
    assert server.history[NAME][0]["_timestamp"] == pytest.approx(written)
    clean = [sys.executable, "-m", "wandb", "clean", "--min-hours", "0", "--force"]
    subprocess.run(clean, check=True, capture_output=True, cwd=tmp_path)
    assert not list(tmp_path.glob("wandb/offline-run-*"))
    assert track(tmp_path, "offline").stdout.startswith("0 values written")


def test_online_the_server_says_what_it_has(run, server, tmp_path):
    run.train(35)
    assert track(tmp_path, "online").returncode == 0
    assert points(server) == run.points()
    run.train(70)
    assert track(tmp_path, "online").returncode == 0
    assert points(server) == run.points()
    del server.history[NAME][-2:]  # as if the process had been killed before it had sent them
    run.resume(35)
    run.train(90)
    run.finish()
    assert track(tmp_path, "online").returncode == 0
    assert points(server) == run.points()
    changed = track(tmp_path, "offline")
    assert changed.returncode == 2 and "written with WANDB_MODE=online, and now it is offline" in changed.stderr


def test_switched_off_it_says_so(run, server, tmp_path):
    run.train(10)
    disabled = track(tmp_path, "disabled")
    assert (disabled.returncode, disabled.stderr.count("\n")) == (2, 1)
    assert "set it to online or offline" in disabled.stderr


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_the_page_of_the_fit_is_an_artifact_once(server, tmp_path, mode):
    built = stand_ins.small_ladder(tmp_path)
    submitted = submission.write(built, False, tmp_path / "runs", submission.BackendConfig())
    *trained, fit = submitted.jobs
    for job in trained:
        Record(job.directory).stop("diverged", 1, None, "loss nan")
    assert track(tmp_path, mode, run="runs/small").returncode == 0
    (Path(fit.directory) / "report.html").write_text("<html>what the target will score</html>")
    Record(fit.directory).finish(step=0, loss=None)
    for _ in range(2):
        assert track(tmp_path, mode, run="runs/small").returncode == 0
    if mode == "offline":
        sync(tmp_path)
    (artifact,) = server.artifacts
    assert (artifact["artifactTypeName"], artifact["runName"]) == ("report", fit.run_id)
    assert artifact["artifactCollectionName"] == f"small-{fit.run_id}"
    assert (server.runs[fit.run_id]["groupName"], server.runs[fit.run_id]["jobType"]) == ("small", "fit")
