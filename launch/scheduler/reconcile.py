"""(jobs, what their run directories say, what the engine says) -> what to do now. Pure: no clock, no disk, no network.

Done is what a run directory calls done. A run that nobody trains and that is not over is submitted again, whatever
became of its last job; three tries without a new checkpoint are enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ladder.rundir.record import STOPPED
from launch.backends.protocol import TRIES, TRY_AGAIN, Job, Seen
from launch.scheduler.status import Status

OVER = ("done", *STOPPED)
_COMING = ("done", "queued", "running")
SETTLED = (*OVER, "skipped", "blocked")  # nothing more happens to these unasked


@dataclass(frozen=True)
class Submit:
    job: Job


@dataclass(frozen=True)
class Delete:
    """Of an engine, not of a run directory."""

    job: Job
    seen: Seen


@dataclass(frozen=True)
class Mark:
    """Write STOPPED.json: the run is `state` because of `reason`."""

    job: Job
    state: str
    reason: str


Action = Submit | Delete | Mark
Jobs, Runs, Engine = Sequence[Job], Mapping[str, Status], Mapping[str, tuple[Seen, ...]]


def reconcile(
    jobs: Jobs,
    runs: Runs,
    engine: Engine,
    now: float,
    room: int | None = None,
    wait: float = 0.0,
    keeps_machines: bool = False,
    chains: bool = False,
) -> list[Action]:
    """What brings the ladder nearer to its end.

    runs: by run_id. engine: by job name. now: seconds since 1970. room, wait, keeps_machines, chains: the Backend's.
    """
    stands = standing(jobs, runs, engine)
    used = sum(stands[job.run_id] in ("queued", "running") for job in jobs)
    actions = []
    for job in jobs:
        run, seen = runs[job.run_id], engine.get(job.name, ())
        follows = chains and stands[job.run_id] == "waiting" and all(stands[i] in _COMING for i, _ in job.after)
        if stands[job.run_id] == "ready" or follows:
            full = room is not None and used >= room
            patience = wait * 2 ** (run.tries - 1) if run.tries else 0.0
            if not full and now >= run.last_try + patience:
                actions.append(Submit(job))
                stands[job.run_id] = "queued"
                used += 1
        else:
            actions += _tidy(job, run, seen, keeps_machines)
    return actions


def standing(jobs: Jobs, runs: Runs, engine: Engine) -> dict[str, str]:
    """Where every run stands: done or one of STOPPED; running or queued; ended (its job is gone, what it holds is
    not); ready; waiting for another; skipped, its trunk diverged; blocked by one that failed."""
    stands: dict[str, str] = {}
    for job in jobs:
        run, phases = runs[job.run_id], [seen.phase for seen in engine.get(job.name, ())]
        if run.state in OVER:
            stands[job.run_id] = run.state
        elif run.state == "running" or "running" in phases:
            stands[job.run_id] = "running"
        elif "queued" in phases or "unknown" in phases:
            stands[job.run_id] = "queued"
        elif phases or run.tries >= TRIES:
            stands[job.run_id] = "ended"
        else:
            stands[job.run_id] = _waiting(job, runs, stands)
    return stands


def _waiting(job: Job, runs: Runs, stands: Mapping[str, str]) -> str:
    missing = []
    for run_id, step in job.after:
        over = stands[run_id] in ("done", "diverged", "skipped")
        there = step in runs[run_id].saved or stands[run_id] == "done"
        if not (over if step is None else there):
            missing.append(stands[run_id])
    if {"diverged", "skipped"} & {*missing}:
        return "skipped"
    if {"failed", "stuck", "cancelled", "blocked"} & {*missing}:
        return "blocked"
    return "waiting" if missing else "ready"


def _tidy(job: Job, run: Status, seen: Sequence[Seen], keeps_machines: bool) -> list[Action]:
    """For a run that is not to be submitted now: what it has at the engine and should not have."""
    if "unknown" in [s.phase for s in seen]:
        return []
    if run.state in OVER:
        # A job whose run is over ends by itself, unless it waits, hangs or is a machine that knows no end.
        ends = run.state not in ("stuck", "cancelled") and not keeps_machines
        return [Delete(job, s) for s in seen if not (s.phase == "running" and ends)]
    live = sorted((s for s in seen if s.phase in ("running", "queued")), key=lambda s: s.phase != "running")
    begun = run.state == "running" or any(s.phase == "running" for s in live)
    if run.tries > TRIES or (run.tries == TRIES and not begun):
        if run.state == "running" and not seen:
            return []  # trained by hand, not through us
        return [Mark(job, "stuck", _stuck(run, seen)), *(Delete(job, s) for s in seen)]
    gone = [s for s in seen if s.phase == "ended"]
    actions: list[Action] = [Delete(job, s) for s in gone + live[1:]]
    if not live and run.state != "running":
        actions = [Mark(job, *verdict) for verdict in map(_verdict, gone) if verdict][:1] + actions
    return actions


def _verdict(seen: Seen) -> tuple[str, str] | None:
    """(state, reason) where the way a job ended says that trying again cures nothing."""
    if seen.code is None or seen.code in TRY_AGAIN or seen.code < 0:
        return None
    if seen.code == 78:
        return "diverged", seen.reason or "exit code 78"
    if seen.code == 0:
        return "failed", "ended with exit code 0, yet wrote no DONE.json"
    return "failed", seen.reason or f"exit code {seen.code}"


def _stuck(run: Status, seen: Sequence[Seen]) -> str:
    last = next((s.reason for s in seen if s.reason), "")
    where = "any checkpoint" if run.durable is None else f"a checkpoint after step {run.durable:,}"
    return f"{run.tries} tries without {where}" + (f"; last: {last}" if last else "")
