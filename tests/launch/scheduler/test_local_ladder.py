"""A whole ladder in real processes on this machine (slow: it trains): killed, taken up again, to the bit the same."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ladder.rundir.record import Record
from launch.scheduler import loop, submission
from tests.launch import stand_ins

SUBMIT = """
import io, sys
from pathlib import Path
from rich.console import Console
from launch.scheduler import foreground, submission
there = submission.read(Path(sys.argv[1]))
foreground.run(there.jobs, Console(file=io.StringIO()), there.engine.open())
"""


def submitter(folder):
    return subprocess.Popen([sys.executable, "-c", SUBMIT, str(folder)])


def rows(there):
    return {job.run_id: list(Record(job.directory).rows()) for job in there.jobs}


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_nothing_had_been(tmp_path, monkeypatch):
    """The submitter is killed twice with kill -9, and once a run under it; the fit runs once."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    built = stand_ins.small_ladder(tmp_path)
    engine = submission.Engine(at_once=2)
    undisturbed = submission.write(built, False, tmp_path / "undisturbed", engine)
    assert submitter(tmp_path / "undisturbed" / "small").wait(timeout=300) == 0

    there = submission.write(built, False, tmp_path / "runs", engine)
    folder = tmp_path / "runs" / "small"
    trunk = Record(there.jobs[0].directory)
    first = submitter(folder)
    end = time.monotonic() + 120
    while not trunk.saved_steps():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(Record(trunk.directory)._read("job.json")["pid"], signal.SIGKILL)
    time.sleep(1)
    first.kill()
    first.wait()
    second = submitter(folder)
    time.sleep(3)
    second.kill()
    second.wait()
    assert submitter(folder).wait(timeout=300) == 0
    assert {run.state for run in loop.observe(there.jobs).values()} == {"done"}
    assert rows(there) == rows(undisturbed)
    fit = next(job for job in there.jobs if job.is_fit)
    assert [row["by"] for row in Record(fit.directory).attempts()] == ["submit", "train"]
