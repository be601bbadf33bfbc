"""(jobs, what run directories say, what the backend reports) -> what to do now. Pure: no clock, no disk, no network.

A run is done only when its run directory says so. A run that is not over and that nobody trains is submitted again,
however its last job ended; after three tries without a new checkpoint it is stuck.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.backends.protocol import TRIES, TRY_AGAIN, Job, Seen
from launch.scheduler.status import OVER, Status

SETTLED = (*OVER, "skipped", "blocked")  # these do not change without the user


@dataclass(frozen=True)
class Submit:
    job: Job


@dataclass(frozen=True)
class Delete:
    """Delete the job at the backend; the run directory stays."""

    job: Job
    seen: Seen


@dataclass(frozen=True)
class Mark:
    """Write STOPPED.json: the run is `state` because of `reason`."""

    job: Job
    state: str
    reason: str


Action = Submit | Delete | Mark
Jobs, Runs, SeenByName = Sequence[Job], Mapping[str, Status], Mapping[str, tuple[Seen, ...]]


def reconcile(
    jobs: Jobs,
    runs: Runs,
    seen_by_name: SeenByName,
    now: float,
    max_jobs: int | None = None,
    retry_delay: float = 0.0,
    keeps_machines: bool = False,
    chains: bool = False,
) -> list[Action]:
    """The actions that bring the ladder nearer to its end.

    runs: by run_id. seen_by_name: from Backend.poll. now: seconds since 1970. The other parameters: the Backend's.
    """
    states = ladder_states(jobs, runs, seen_by_name)
    submitted = sum(states[job.run_id] in ("queued", "running") for job in jobs)
    actions = []
    for job in jobs:
        run, state = runs[job.run_id], states[job.run_id]
        if chains and state == "waiting" and {states[i] for i, _ in job.after} <= {"done", "queued", "running"}:
            state = "ready"  # the backend starts it when the runs that it needs are done
        if state == "ready":
            full = max_jobs is not None and submitted >= max_jobs
            delay = retry_delay * 2 ** (run.tries - 1) if run.tries else 0.0
            if not full and now >= run.last_try + delay:
                actions.append(Submit(job))
                states[job.run_id] = "queued"
                submitted += 1
        else:
            actions += _clean_up(job, run, seen_by_name.get(job.name, ()), keeps_machines)
    return actions


def ladder_states(jobs: Jobs, runs: Runs, seen_by_name: SeenByName) -> dict[str, str]:
    """The state of every run, by run_id: one of OVER; running; queued; ended (its job must be removed, or its tries are
    used up); ready; waiting for another run; skipped, because its trunk diverged; blocked, because a run that it needs
    failed, is damaged or stuck, or was cancelled."""
    states: dict[str, str] = {}
    for job in jobs:
        run, phases = runs[job.run_id], [seen.phase for seen in seen_by_name.get(job.name, ())]
        if run.state in OVER:
            states[job.run_id] = run.state
        elif run.state == "running" or "running" in phases:
            states[job.run_id] = "running"
        elif "queued" in phases or "unknown" in phases:
            states[job.run_id] = "queued"
        elif phases or run.tries >= TRIES:
            states[job.run_id] = "ended"
        else:
            states[job.run_id] = _state_by_dependencies(job, runs, states)
    return states


def _state_by_dependencies(job: Job, runs: Runs, states: Mapping[str, str]) -> str:
    missing = set()
    for run_id, step in job.after:
        if step is None:
            satisfied = states[run_id] in ("done", "diverged", "skipped")
        else:
            satisfied = step in runs[run_id].saved or states[run_id] == "done"
        if not satisfied:
            missing.add(states[run_id])
    if {"diverged", "skipped"} & missing:
        return "skipped"
    if {"failed", "damaged", "stuck", "cancelled", "blocked"} & missing:
        return "blocked"
    return "waiting" if missing else "ready"


def _clean_up(job: Job, run: Status, seen: Sequence[Seen], keeps_machines: bool) -> list[Action]:
    """For a run that is not submitted now: delete the jobs that it should not have, and mark it if it has failed."""
    if "unknown" in [s.phase for s in seen]:
        return []
    if run.state in OVER:
        # A running job of such a run ends by itself, unless the job hangs or is a machine, which never ends.
        ends = run.state not in ("stuck", "cancelled") and not keeps_machines
        return [Delete(job, s) for s in seen if not (s.phase == "running" and ends)]
    live = sorted((s for s in seen if s.phase in ("running", "queued")), key=lambda s: s.phase != "running")
    begun = run.state == "running" or any(s.phase == "running" for s in live)
    if run.tries > TRIES or (run.tries == TRIES and not begun):
        if run.state == "running" and not seen:
            return []  # trained by hand, not by a job of ours
        return [Mark(job, "stuck", _stuck_reason(run, seen)), *(Delete(job, s) for s in seen)]
    ended = [s for s in seen if s.phase == "ended"]
    actions: list[Action] = [Delete(job, s) for s in ended + live[1:]]
    if not live and run.state != "running":
        actions = [Mark(job, *verdict) for verdict in map(_verdict, ended) if verdict][:1] + actions
    return actions


def _verdict(seen: Seen) -> tuple[str, str] | None:
    """(state, reason) where a retry cannot help; None where it can."""
    if seen.code is None or seen.code in TRY_AGAIN or seen.code < 0:
        return None
    if seen.code == 78:
        return "diverged", seen.reason or "exit code 78"
    if seen.code == 0:
        return "failed", "ended with exit code 0 but wrote no DONE.json"
    return "failed", seen.reason or f"exit code {seen.code}"


def _stuck_reason(run: Status, seen: Sequence[Seen]) -> str:
    last = next((s.reason for s in seen if s.reason), "")
    progress = "any checkpoint" if run.durable is None else f"a checkpoint after step {run.durable:,}"
    return f"{run.tries} tries without {progress}" + (f"; last: {last}" if last else "")
