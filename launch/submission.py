"""What was submitted, and to which engine: submit.json beside the run directories, so that watch, logs and cancel need
neither the ladder's code nor flags."""

import json
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import InputError
from ladder.files import read_json, write_atomic
from launch import jobs, prepare
from launch.backends import Backend
from launch.backends.local import Local
from launch.jobs import Job

FILE = "submit.json"


@dataclass(frozen=True)
class Submission:
    jobs: tuple[Job, ...]
    engine: dict

    def backend(self) -> Backend:
        return Local(self.engine.get("at_once", 1), self.engine.get("processes", 1))


def write(built: prepare.Built, targets: bool, root: Path) -> tuple[Job, ...]:
    """Write the run directories of a ladder, its fit's, and submit.json; returns the jobs."""
    rungs = built.ladder.all if targets else built.ladder.rungs
    directories = prepare.write(built, rungs, root)
    fit = prepare.write_fit(built, rungs, root)
    folder = root / built.ladder.name
    value = {"runs": [path.name for path in directories], "fit": fit.name if fit else None}
    write_atomic(folder / FILE, json.dumps({"schema_version": 1} | value, indent=2) + "\n")
    return jobs.of(directories, fit)


def read(folder: Path) -> Submission:
    try:
        value = read_json(folder / FILE)
    except FileNotFoundError:
        raise InputError(f"{folder}: nothing was submitted from here; start with ladder submit") from None
    try:
        runs, fit = [folder / run for run in value["runs"]], value["fit"]
    except (KeyError, TypeError):
        raise InputError(f"{folder / FILE}: damaged; ladder submit writes it again") from None
    return Submission(jobs.of(runs, folder / "fit" / fit if fit else None), value.get("engine", {}))
