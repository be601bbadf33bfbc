"""The loop around reconcile: read the run directories, poll the backend, do what is due, repeat."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record
from launch import run_log
from launch.backends.protocol import Backend, Busy, Job, Seen
from launch.scheduler import status
from launch.scheduler.reconcile import OVER, SETTLED, Delete, Mark, Submit, ladder_states, reconcile
from launch.scheduler.status import Status

PAUSE_RATIO = 30  # pause after a round, as a multiple of the time that it took
MOST_PAUSE = 2.0  # seconds


@dataclass(frozen=True)
class Round:
    """runs, states (of ladder_states), n_jobs (at the backend): before the actions. log: a line for each action done.
    busy: the backend's last Busy."""

    runs: dict[str, Status]
    states: dict[str, str]
    log: tuple[str, ...]
    n_jobs: int = 0
    busy: str = ""

    @property
    def settled(self) -> bool:
        """Nothing more will happen without the user, and the backend has no job of the ladder."""
        return not self.busy and not self.n_jobs and all(state in SETTLED for state in self.states.values())


@contextmanager
def submit_lease(folder: Path) -> Iterator[Lease]:
    """Let only one submitter at a time work on a ladder. Raises Preempted, naming the other one, where there is one."""
    with Lease(folder / ".submit", holder_does="submits this ladder already") as lease:
        yield lease


def folder_of(jobs: Sequence[Job]) -> Path:
    return as_path(jobs[0].directory).parent


def once(jobs: Sequence[Job], backend: Backend, now: Callable[[], float] = time.time) -> Round:
    """One round: look, and do what is due. Needs the ladder's `submit_lease`."""
    # The backend first: a run that ends between the two reads is then seen as done with a job, never as neither.
    try:
        seen_by_name = backend.poll(jobs)
    except Busy as error:
        runs = observe(jobs)
        return Round(runs, ladder_states(jobs, runs, {}), (), busy=str(error))
    runs, log, busy = observe(jobs), [], ""
    traits = backend.max_jobs, backend.retry_delay, backend.keeps_machines, backend.chains
    for action in reconcile(jobs, runs, seen_by_name, now(), *traits):
        try:
            log.append(_execute(action, backend))
        except Busy as error:
            busy = str(error)
    n_jobs = sum(map(len, seen_by_name.values()))
    return Round(runs, ladder_states(jobs, runs, seen_by_name), tuple(log), n_jobs, busy)


def observe(jobs: Sequence[Job]) -> dict[str, Status]:
    return status.read_jobs(jobs)


def until_settled(
    jobs: Sequence[Job], backend: Backend, lease: Lease, seconds: float, show: Callable[[Round], None]
) -> Round:
    """Repeat `once`, with a pause of `seconds`, until the round is settled.

    The pause is longer, up to MOST_PAUSE, where a round takes long: the runs may need this machine's cores.
    """
    while True:
        began = time.monotonic()
        lease.check()
        round_ = once(jobs, backend)
        show(round_)
        if round_.settled:
            return round_
        time.sleep(max(seconds, min(MOST_PAUSE, PAUSE_RATIO * (time.monotonic() - began))))


def retry(jobs: Sequence[Job], states: Sequence[str]) -> list[str]:
    """Forget that runs ended in one of these states, and how often they were tried; a fit that was done without one of
    them is due again. Returns their run_ids."""
    retried = []
    for job in jobs:
        record = Record(job.directory)
        refit = job.is_fit and retried and record.is_done()
        if refit or record.state().name in states:
            record.attempt("retry")
            for name in ("STOPPED.json", "DONE.json") if refit else ("STOPPED.json",):
                (record.directory / name).unlink(missing_ok=True)
            retried.append(job.run_id)
    return retried


def cancel(jobs: Sequence[Job], backend: Backend) -> list[str]:
    """Mark the runs that are not over as cancelled, and stop their jobs; they save first. Returns the run_ids."""
    cancelled = _mark_cancelled(jobs)  # first, so that no `ladder watch` submits them again
    seen_by_name = backend.poll(jobs)
    for job in jobs:
        for seen in seen_by_name.get(job.name, ()):
            backend.delete(job, seen)
    return list(dict.fromkeys(cancelled + _mark_cancelled(jobs)))  # again: a run that was starting removed its mark


def _mark_cancelled(jobs: Sequence[Job]) -> list[str]:
    not_over = [job for job in jobs if Record(job.directory).state().name not in OVER]
    for job in not_over:
        run = status.read_run(job.directory)
        Record(job.directory).stop("cancelled", run.step, run.loss, "by ladder cancel; ladder submit resumes it")
    return [job.run_id for job in not_over]


def _execute(action: Submit | Delete | Mark, backend: Backend) -> str:
    """Do it; returns a line that says what was done."""
    job = action.job
    if isinstance(action, Submit):
        backend.submit(job)
        Record(job.directory).attempt("submit")
        return f"{job.run_id}: submitted"
    if isinstance(action, Delete):
        backend.delete(job, action.seen)
        return f"{job.run_id}: " + _deleted(action.seen)
    run = status.read_run(job.directory)
    output = run_log.last(job.directory, 3)
    with contextlib.suppress(Busy, InputError):  # the run is marked even where its output cannot be read
        output = output or " | ".join(backend.logs(job)[-3:])
    reason = action.reason + (f"; last output: {output}" if output else "")
    Record(job.directory).stop(action.state, run.step, run.loss, reason)
    return f"{job.run_id}: {action.state}, {reason}"


def _deleted(seen: Seen) -> str:
    if seen.phase == "ended" and seen.code == 0:
        return "done"
    reason = seen.reason or ("" if seen.code is None else f"exit code {seen.code}")
    return f"{seen.phase} job removed" + (f", {reason}" if reason else "")
