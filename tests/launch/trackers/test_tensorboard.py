"""TensorBoard's files hold every published value once, whatever is killed and resumed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import cli
from launch.trackers import batch
from launch.trackers.tensorboard import TensorBoard
from launch.trackers.tracker import Run
from tests.launch.trackers import readers, simulated

NAME = "d8-1xC-s0-01234567"
actions = st.one_of(
    st.tuples(st.just("train"), st.integers(1, 45)),  # steps
    st.tuples(st.just("resume"), st.integers(0, 5)),  # at one of the steps where it saved
    st.tuples(st.just("track"), st.just(0)),
    st.tuples(st.just("track, killed"), st.just(0)),
)


def points(folder: Path) -> list[tuple[int, str, float]]:
    return sorted(readers.tensorboard(folder / "mine" / NAME))


def as_float32(points):
    """TensorBoard keeps values in 32 bits."""
    return [(step, name, float(np.float32(value))) for step, name, value in points]


def track(folder: Path, directory: Path) -> None:
    tracker, run = TensorBoard(folder), Run.read(directory)
    if (new := batch.after(run.directory, tracker.last(run))) is not None:
        tracker.write(run, new)


@settings(max_examples=20, deadline=None)
@given(st.lists(actions, min_size=4, max_size=14))
def test_a_value_is_written_once_whatever_the_order_of_saves_resumptions_and_kills(sequence):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        run = simulated.Run(Path(folder))
        for action, number in sequence:
            match action:
                case "train":
                    run.train(run.step + number)
                case "resume":
                    run.resume(run.saved()[number % len(run.saved())])
                case "track":
                    track(Path(folder) / "tb", run.directory)
                case "track, killed":
                    patch.setattr(os, "replace", _killed)
                    try:
                        track(Path(folder) / "tb", run.directory)
                    except KeyboardInterrupt:
                        pass
                    finally:
                        patch.undo()
        run.train(max(*run.saved(), run.step, 250) + 10)
        track(Path(folder) / "tb", run.directory)
        assert points(Path(folder) / "tb") == as_float32(run.points())


def _killed(*_):
    raise KeyboardInterrupt


def test_killed_with_a_batch_that_is_written_but_not_renamed(tmp_path):
    run = simulated.Run(tmp_path / "runs")
    command = [
        sys.executable,
        "-m",
        "launch.cli",
        "track",
        "mine",
        "--to",
        "tensorboard",
        "--dir",
        str(tmp_path / "tb"),
    ]
    command += ["--root", str(tmp_path / "runs")]
    run.train(15)
    run.train(35)
    assert cli.main(command[3:]) == 0
    run.train(70)
    killed = subprocess.run(command, env=os.environ | {"LADDER_KILL_AT": "batch-written"}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert points(tmp_path / "tb")[-1][0] == 30
    run.resume(15)
    run.train(50)  # in one segment: what was written, and what was not
    run.train(90)
    assert cli.main(command[3:]) == 0
    assert points(tmp_path / "tb") == as_float32(run.points())


def test_tensorboard_itself_reads_them(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard here: make trackers"
    )
    run = simulated.Run(tmp_path)
    for until in (35, 70, 90):
        run.train(until)
        track(tmp_path / "tb", run.directory)
    accumulator = accumulators.EventAccumulator(str(tmp_path / "tb" / "mine" / NAME))
    accumulator.Reload()
    read = [
        (event.step, tag, event.value) for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)
    ]
    assert sorted(read) == as_float32(run.points())
    written = (run.directory / "metrics" / "000000000-000000035.jsonl").stat().st_mtime
    assert accumulator.Scalars("train/loss")[0].wall_time == written


@pytest.mark.parametrize(("to", "package"), {"tensorboard": "tensorboardX", "wandb": "wandb"}.items())
def test_without_the_package(to, package, tmp_path, monkeypatch, capsys):
    simulated.Run(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.proto", None)
    assert cli.main(["track", str(tmp_path / "mine"), "--to", to, "--dir", str(tmp_path / "out")]) == 2
    error = f"error: --to {to} needs the package {package}; install it with: pip install {package}\n"
    assert capsys.readouterr().err == error
