"""Train a run directory: in this process, or in one that kills itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from ladder.rundir.record import Record
from launch import cli


def command(directory: Path) -> list[str]:
    return [sys.executable, "-m", "launch.cli", "train", str(directory)]


def run(directory: Path, *flags: str) -> int:
    """Train in this process; returns the exit code."""
    return cli.main(["train", str(directory), *flags])


def kill(directory: Path, at: str) -> None:
    """Train in a process that kills itself at a named phase (ladder/rundir/kill_points.py)."""
    killed = subprocess.run(command(directory), env=os.environ | {"LADDER_KILL_AT": at}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not Record(directory).is_done()
