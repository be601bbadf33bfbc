"""A ladder on this machine from a terminal: a progress bar, and everything ended or saved when it returns."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ladder.errors import Preempted
from ladder.rundir.record import STOPPED
from launch import terminal
from launch.backends.local import Local
from launch.backends.protocol import Job
from launch.scheduler import jobs as jobs_of
from launch.scheduler import loop
from launch.scheduler.loop import Round

SECONDS = 0.25  # between two looks


class Failed(Exception):
    """Runs ended in a way that trying again does not mend; `code` is the command's exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


@dataclass
class Outcome:
    """run_ids by how they ended."""

    done: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # branches of what diverged


def train(directories: Sequence[Path], console: Console, backend: Local | None = None) -> Outcome:
    """Train the runs of these directories; what failed before is tried anew. See `run`."""
    jobs = jobs_of.of(directories)
    loop.retry(jobs, STOPPED)
    return run(jobs, console, backend or Local())


def run(jobs: Sequence[Job], console: Console, backend: Local) -> Outcome:
    """Run all jobs to their end. Again = resume.

    A run that diverged is recorded and its branches are skipped; one that was preempted is tried again. Where others
    fail, the rest goes on, and then Failed is raised. Ctrl-C and SIGTERM stop what runs, let it save, and raise
    Preempted; so does another submitter of this ladder.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with loop.alone(loop.folder_of(jobs)) as lease, _progress(console) as progress:
            bar = progress.add_task("", total=None, now="")
            try:
                last = loop.until_settled(jobs, backend, lease, SECONDS, lambda r: _show(r, jobs, progress, bar))
            except KeyboardInterrupt:
                backend.stop(jobs)
                raise Preempted("stopped; the same command takes it up again") from None
    finally:
        signal.signal(signal.SIGTERM, before)
    return _outcome(last)


def _outcome(last: Round) -> Outcome:
    by = {stand: [run_id for run_id, s in last.stands.items() if s == stand] for stand in {*last.stands.values()}}
    bad = [f"{run_id} {s.state}: {s.detail}" for run_id, s in last.runs.items() if s.state in ("failed", "stuck")]
    if bad:
        raise Failed("\n  ".join(bad), 75 if by.get("stuck") and not by.get("failed") else 1)
    return Outcome(by.get("done", []), by.get("diverged", []), by.get("skipped", []))


def _show(round_: Round, jobs: Sequence[Job], progress: Progress, bar: TaskID) -> None:
    for line in round_.did:
        if not line.endswith(": submitted"):
            progress.print(line, markup=False)
    total = sum(job.flops for job in jobs)
    done = sum(job.flops * round_.runs[job.run_id].share for job in jobs)
    over = sum(stand == "done" for stand in round_.stands.values())
    running = [round_.runs[job.run_id] for job in jobs if round_.stands[job.run_id] == "running"]
    progress.update(
        bar,
        total=total or len(jobs),
        completed=done if total else over,
        description=f"{over}/{len(jobs)} done",
        now="  ".join(map(_now, running)),
    )


def _now(run) -> str:
    now = f"{run.run_id.rsplit('-', 1)[0]} step {run.step or 0:,}/{run.steps:,}"
    if run.loss is not None:
        now += f"  loss {run.loss:.3f}"
    if run.rate:
        now += f"  {terminal.count(run.rate)} tokens/s"
    return now


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[now]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
        # Rates are uneven (start-up, evaluation): estimate the time left from the last ten minutes.
        speed_estimate_period=600,
    )
