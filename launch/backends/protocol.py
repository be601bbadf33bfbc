"""What a backend does: render a job (pure), submit it (once per job name, however often it is asked), poll, delete.

Whether a run is done is never read from a backend, only from the run directory.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# The `ladder` command of this environment. -P: packages of the working directory are not imported.
PROGRAM = (sys.executable, "-P", "-m", "launch.cli")
TRIES = 3  # of a run, without a new checkpoint
TRY_AGAIN = (75, 130, 134, 137, 143)  # exit codes: preempted; SIGINT; a peer was lost (SIGABRT); SIGKILL; SIGTERM


@dataclass(frozen=True)
class Job:
    """name: DNS-1035, what schedulers see. argv: of the `ladder` command.

    after: what the job needs: (run_id, step) a published checkpoint, (run_id, None) the end of that run.
    first, steps: the run trains from step `first` to `steps`. flops: training FLOPs of this run alone.
    """

    name: str
    run_id: str
    directory: str
    argv: tuple[str, ...]
    after: tuple[tuple[str, int | None], ...] = ()
    size: str = ""
    kind: str = "full"
    first: int = 0
    steps: int = 0
    flops: float = 0.0

    @property
    def is_fit(self) -> bool:
        return self.kind == "fit"


@dataclass(frozen=True)
class Seen:
    """A job as its backend reports it. ended: it runs no more but may still hold a name or quota; unknown: ask again.

    code: its exit code; None where it has none (the machine was preempted) or none is known.
    """

    id: str
    phase: Literal["queued", "running", "ended", "unknown"]
    code: int | None = None
    reason: str = ""


class Busy(Exception):
    """The backend did not answer, or refused for now: whether it did anything is unknown; ask again later."""


class Backend(Protocol):
    name: str
    max_jobs: int | None  # how many may be submitted at a time; None: the backend queues them itself
    keeps_machines: bool  # machines stay, and cost, until the job is deleted
    chains: bool  # a job can be submitted before the jobs that it needs have ended
    retry_delay: float  # seconds before a preempted run is submitted again; doubled with each try

    def render(self, job: Job) -> str:
        """What would be submitted, for people and for their own tools."""

    def submit(self, job: Job) -> None:
        """Ask for the job; an existing one of its name is left as it is. Raises Busy, InputError."""

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        """What the backend has of these jobs, by job name; no entry where it has nothing. Raises Busy."""

    def delete(self, job: Job, seen: Seen) -> None:
        """Stop it (with time to save) and remove what it holds; no error if it is gone already. Raises Busy."""

    def logs(self, job: Job) -> list[str]:
        """Lines of the job's output that the backend keeps where the run directory has no log."""
