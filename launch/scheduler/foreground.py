"""Run a ladder on this machine from a terminal, with a progress bar; all its processes have ended when it returns."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fitting.report.numbers import si
from ladder.errors import Preempted
from ladder.rundir.record import STOPPED
from launch.backends.local import Local
from launch.backends.protocol import Job
from launch.scheduler import jobs as run_jobs
from launch.scheduler import loop
from launch.scheduler.loop import Round
from launch.scheduler.status import Status

SECONDS = 0.25  # between two rounds of the loop


class Failed(Exception):
    """Runs failed or are stuck; `code` is the command's exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


@dataclass
class Outcome:
    """run_ids of the runs that ended in each state."""

    done: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # branches of a trunk that diverged


def train(
    directories: Sequence[Path],
    console: Console,
    backend: Local | None = None,
    follow: Callable[[Round], None] = lambda _: None,
) -> Outcome:
    """Train the runs of these directories; runs that stopped before are tried again. See `run`."""
    jobs = run_jobs.read(directories)
    loop.retry(jobs, STOPPED)
    return run(jobs, console, backend or Local(), follow)


def run(
    jobs: Sequence[Job], console: Console, backend: Local, follow: Callable[[Round], None] = lambda _: None
) -> Outcome:
    """Run all jobs to their end; called again, it resumes. follow: what else is shown each round.

    A run that diverged is recorded and its branches are skipped; a preempted run is tried again. Where a run fails, the
    others continue, and then Failed is raised. Ctrl-C and SIGTERM stop the running jobs, which save first, and raise
    Preempted. Preempted is also raised where another process submits this ladder.
    """
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with loop.submit_lease(loop.folder_of(jobs)) as lease, _progress(console) as progress:
            bar = progress.add_task("", total=None, running="")

            def show(round_: Round) -> None:
                _show(round_, jobs, progress, bar)
                follow(round_)

            try:
                last = loop.until_settled(jobs, backend, lease, SECONDS, show)
            except KeyboardInterrupt:
                backend.stop(jobs)
                raise Preempted("the same command goes on where this one ended") from None
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
    return _outcome(last)


def _outcome(last: Round) -> Outcome:
    states = ("failed", "damaged", "stuck")
    failed = [f"{r.run_id} {r.state}: {r.detail}" for r in last.runs.values() if r.state in states]
    if failed:
        raise Failed("\n  ".join(failed), 1 if {"failed", "damaged"} & {*last.states.values()} else 75)
    cancelled = [run_id for run_id, state in last.states.items() if state == "cancelled"]
    if cancelled:
        raise Preempted(f"{len(cancelled)} runs were cancelled; the same command resumes them")
    ends = ("done", "diverged", "skipped")
    return Outcome(*([run_id for run_id, state in last.states.items() if state == end] for end in ends))


def _show(round_: Round, jobs: Sequence[Job], progress: Progress, bar: TaskID) -> None:
    for line in round_.log:
        if not line.endswith(": submitted"):
            progress.print(line, markup=False)
    total = sum(job.flops for job in jobs)
    done = sum(job.flops * round_.runs[job.run_id].share for job in jobs)
    runs_done = sum(state == "done" for state in round_.states.values())
    running = [round_.runs[job.run_id] for job in jobs if round_.states[job.run_id] == "running"]
    progress.update(
        bar,
        total=total or len(jobs),
        completed=done if total else runs_done,
        description=f"{runs_done}/{len(jobs)} done",
        running="  ".join(map(_run_line, running)),
    )


def _run_line(run: Status) -> str:
    line = f"{run.run_id.rsplit('-', 1)[0]} step {run.step or 0:,}/{run.steps:,}"
    if run.loss is not None:
        line += f"  loss {run.loss:.3f}"
    if run.rate:
        line += f"  {si(run.rate, 4)} tokens/s"
    return line


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[running]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
        # The speed varies (start-up, evaluation): estimate the time left from the last ten minutes.
        speed_estimate_period=600,
    )
