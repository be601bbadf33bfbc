"""A whole ladder in real processes on this machine: killed, resumed, and bit-identical at the end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ladder.rundir.files import read_sealed
from ladder.rundir.record import Record
from launch.scheduler import loop, submission
from tests.launch import stand_ins

SUBMIT = """
import io, sys
from pathlib import Path
from rich.console import Console
from launch.scheduler import foreground, submission
submitted = submission.read(Path(sys.argv[1]))
foreground.run(submitted.jobs, Console(file=io.StringIO()), submitted.config.open())
"""


def submitter(folder):
    return subprocess.Popen([sys.executable, "-c", SUBMIT, str(folder)])


def rows(submitted):
    return {job.run_id: list(Record(job.directory).rows()) for job in submitted.jobs}


@pytest.mark.chaos
def test_killed_twice_it_ends_as_if_nothing_had_been(tmp_path, monkeypatch):
    """The submitter is killed twice with kill -9, and once a run under it; the fit runs once."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    built = stand_ins.small_ladder(tmp_path)
    config = submission.BackendConfig(at_once=2)
    undisturbed = submission.write(built, False, tmp_path / "undisturbed", config)
    assert submitter(tmp_path / "undisturbed" / "small").wait(timeout=300) == 0

    submitted = submission.write(built, False, tmp_path / "runs", config)
    folder = tmp_path / "runs" / "small"
    trunk = Record(submitted.jobs[0].directory)
    first = submitter(folder)
    end = time.monotonic() + 120
    while not trunk.saved_steps():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(read_sealed(trunk.directory / "job.json")["pid"], signal.SIGKILL)
    time.sleep(1)
    first.kill()
    first.wait()
    second = submitter(folder)
    time.sleep(3)
    second.kill()
    second.wait()
    assert submitter(folder).wait(timeout=300) == 0
    assert {run.state for run in loop.observe(submitted.jobs).values()} == {"done"}
    assert rows(submitted) == rows(undisturbed)
    fit = next(job for job in submitted.jobs if job.is_fit)
    assert [row["by"] for row in Record(fit.directory).attempts()] == ["submit", "train"]
