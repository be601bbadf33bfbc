"""The loop around reconcile: look at the run directories and the engine, do what is due, look again."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import InputError, Preempted
from ladder.rundir.files import as_path
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record
from launch import run_log
from launch.backends.protocol import Backend, Busy, Job, Seen
from launch.scheduler import status
from launch.scheduler.reconcile import OVER, SETTLED, Delete, Mark, Submit, reconcile, standing
from launch.scheduler.status import Status

LEASE_SECONDS = 120.0


@dataclass(frozen=True)
class Round:
    """What was seen (before) and done. held: by how many jobs the engine knows; busy: what it could not answer."""

    runs: dict[str, Status]
    stands: dict[str, str]
    did: tuple[str, ...]
    held: int = 0
    busy: str = ""

    @property
    def settled(self) -> bool:
        """Nothing more will happen unasked, and the engine holds nothing of the ladder."""
        return not self.busy and not self.held and all(stand in SETTLED for stand in self.stands.values())


@contextmanager
def alone(folder: Path) -> Iterator[Lease]:
    """One submitter at a time for a ladder. Raises Preempted naming the other where there is one."""
    try:
        lease = Lease(folder / ".submit", LEASE_SECONDS).__enter__()
    except Preempted as error:
        raise Preempted(f"{error}".replace("trains this run", "submits this ladder already")) from None
    try:
        yield lease
    finally:
        lease.__exit__()


def folder_of(jobs: Sequence[Job]) -> Path:
    """The ladder's folder."""
    return as_path(jobs[0].directory).parent


def once(jobs: Sequence[Job], backend: Backend, now: Callable[[], float] = time.time) -> Round:
    """Look, and do what is due. Needs the ladder's lease (`alone`)."""
    # The engine first: a run that ends between the two looks is then seen as done with a job, never as neither.
    try:
        engine = backend.poll(jobs)
    except Busy as error:
        runs = observe(jobs)
        return Round(runs, standing(jobs, runs, {}), (), busy=str(error))
    runs, did, busy = observe(jobs), [], ""
    about = backend.room, backend.wait, backend.keeps_machines, backend.chains
    actions = reconcile(jobs, runs, engine, now(), *about)
    for action in actions:
        try:
            did.append(_do(action, backend))
        except Busy as error:
            busy = str(error)
    return Round(runs, standing(jobs, runs, engine), tuple(did), sum(map(len, engine.values())), busy)


def observe(jobs: Sequence[Job]) -> dict[str, Status]:
    return {job.run_id: status.of(job.directory) for job in jobs}


def until_settled(
    jobs: Sequence[Job], backend: Backend, lease: Lease, seconds: float, show: Callable[[Round], None]
) -> Round:
    """`once` every so many seconds, until nothing more will happen unasked."""
    while True:
        lease.renew()
        round_ = once(jobs, backend)
        show(round_)
        if round_.settled:
            return round_
        time.sleep(seconds)


def retry(jobs: Sequence[Job], states: Sequence[str]) -> list[str]:
    """Forget that runs ended in one of these states, and how often they were tried; a fit that went without one of
    them is due again. Returns their run_ids."""
    again = []
    for job in jobs:
        record = Record(job.directory)
        anew = job.is_fit and again and record.is_done()
        if anew or record.state().name in states:
            record.attempt("retry")
            for name in ("STOPPED.json", "DONE.json") if anew else ("STOPPED.json",):
                (record.directory / name).unlink(missing_ok=True)
            again.append(job.run_id)
    return again


def cancel(jobs: Sequence[Job], backend: Backend) -> list[str]:
    """Mark what is not over as cancelled, and stop its jobs; they save first. Returns what was cancelled."""
    cancelled = _cancelled(jobs)  # first, so that no one who watches submits them again
    engine = backend.poll(jobs)
    for job in jobs:
        for seen in engine.get(job.name, ()):
            backend.delete(job, seen)
    return list(dict.fromkeys(cancelled + _cancelled(jobs)))  # again: one that was just starting has wiped its mark


def _cancelled(jobs: Sequence[Job]) -> list[str]:
    found = [job for job in jobs if Record(job.directory).state().name not in OVER]
    for job in found:
        at = status.of(job.directory)
        reason = "by ladder cancel; ladder submit takes it up again"
        Record(job.directory).stop("cancelled", at.step, at.loss, reason)
    return [job.run_id for job in found]


def _do(action: Submit | Delete | Mark, backend: Backend) -> str:
    job = action.job
    if isinstance(action, Submit):
        backend.submit(job)
        Record(job.directory).attempt("submit")
        return f"{job.run_id}: submitted"
    if isinstance(action, Delete):
        backend.delete(job, action.seen)
        return f"{job.run_id}: " + _ended(action.seen)
    at = status.of(job.directory)
    said = run_log.last(job.directory, 3)
    with contextlib.suppress(Busy, InputError):  # a verdict does not wait for last words
        said = said or " | ".join(backend.logs(job)[-3:])
    reason = action.reason + (f"; it said: {said}" if said else "")
    Record(job.directory).stop(action.state, at.step, at.loss, reason)
    return f"{job.run_id}: {action.state}, {reason}"


def _ended(seen: Seen) -> str:
    if seen.phase == "ended" and seen.code == 0:
        return "done"
    why = seen.reason or ("" if seen.code is None else f"exit code {seen.code}")
    return f"{seen.phase} job removed" + (f", {why}" if why else "")
