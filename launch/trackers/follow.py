"""Give a tracker what the run directories of a ladder have published, once or until all runs are over."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fitting.files import OF_THE_MACHINE
from ladder.errors import InputError
from ladder.rundir.files import as_path, is_local
from launch.scheduler import status, submission
from launch.scheduler.reconcile import SETTLED, ladder_states
from launch.trackers import batch
from launch.trackers.tracker import Run, Tracker


@dataclass
class Progress:
    """What `follow` has done so far. runs: how many there are; over: how many of them end no more by themselves;
    values: how many values were written. left_out: {run_id: why}, of runs that cannot be read. busy: why the bucket
    could not be read just now."""

    runs: int = 0
    over: int = 0
    values: int = 0
    busy: str = ""
    left_out: dict[str, str] = field(default_factory=dict)


def follow(folder: Path, tracker: Tracker, again: bool, show: Callable[[Progress], None]) -> Progress:
    """Write what is new of every run in `folder` (a ladder's, or one run directory) to the tracker.

    again: look for more every few seconds, until every run and the fit are over. show: called after each look.
    A bucket that does not answer is asked again. What is wrong in one run directory does not stop the others.
    """
    progress, ended = Progress(), set()
    while True:
        try:
            settled = _look(folder, tracker, progress, ended)
            progress.busy = ""
        except OSError as error:
            if not again or is_local(folder) or error.errno in OF_THE_MACHINE:
                raise
            settled, progress.busy = False, str(error)
        show(progress)
        if settled or not again:
            return progress
        time.sleep(2.0 if is_local(folder) else 30.0)


def _look(folder: Path, tracker: Tracker, progress: Progress, ended: set[str]) -> bool:
    """Write what is new; whether all runs and the fit are over. ended: runs that are done and written, which are not
    looked at again."""
    runs = {run.run_id: run for run in status.read(folder)}  # before their metrics: a run that is over writes no more
    states, fit = _states(folder, runs)
    progress.runs, progress.over = len(runs), sum(states[run_id] in SETTLED for run_id in runs)
    for run_id in [run_id for run_id in runs if run_id not in ended | progress.left_out.keys()]:
        directory = folder if (folder / "config.json").exists() else folder / run_id
        try:
            run = Run.read(directory)
            new = batch.after(run.directory, tracker.last(run))
        except InputError as error:
            progress.left_out[run_id] = str(error)
            continue
        if new is not None:
            tracker.write(run, new)
            progress.values += sum(len(step.values) for step in new.steps)
        if states[run_id] in SETTLED:
            tracker.end(run, states[run_id])
        if states[run_id] == "done":  # the others may be tried again
            ended.add(run_id)
    if fit is not None and states[fit.name] == "done" and fit.name not in ended:
        if (fit / "report.html").exists():
            tracker.page(Run.read(fit))
        ended.add(fit.name)
    return all(state in SETTLED for state in states.values())


def _states(folder: Path, runs: dict[str, status.Status]) -> tuple[dict[str, str], Path | None]:
    """({run_id: state} of the runs and the fit, the fit directory). A run that waits for one that failed is "blocked"
    or "skipped", as far as submit.json says who waits for whom."""
    states = {run_id: run.state for run_id, run in runs.items()}
    try:
        jobs = submission.read(folder).jobs
    except submission.NothingSubmitted:
        return states, None
    known = status.of_planned(jobs)
    fit = next((as_path(job.directory) for job in jobs if job.is_fit), None)
    return states | ladder_states(jobs, known, {}), fit
