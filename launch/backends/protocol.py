"""Engines that run jobs. Each renders (pure), submits (once per job name, however often it is asked), polls, deletes.

None of them is believed about whether a run is done: that stands in its run directory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

TRIES = 3  # of a run, without a new checkpoint
TRY_AGAIN = (75, 134, 137, 143)  # exit codes: told to stop; aborted with a peer; killed


@dataclass(frozen=True)
class Job:
    """name: DNS-1035, what engines see. argv: of the `ladder` command.

    after: what must be there first: (run_id, step) a published checkpoint, (run_id, None) the end of that run.
    first, steps: the run's updates go from `first` to `steps`. flops: what it computes itself.
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
    """A job as its engine sees it. ended: it runs no more but may still hold a name or a quota; unknown: ask again.

    code: its exit code, None where it had none (the machine was taken away) or none is known.
    """

    id: str
    phase: Literal["queued", "running", "ended", "unknown"]
    code: int | None = None
    reason: str = ""


class Busy(Exception):
    """The engine did not answer, or said "not now": nothing is known to have happened; ask again later."""


class Backend(Protocol):
    name: str
    room: int | None  # how many jobs at a time; None: the engine queues them itself
    keeps_machines: bool  # machines stay, and cost, until the job is deleted
    chains: bool  # a job can be submitted before those it comes after have ended
    wait: float  # seconds before a run that failed for no fault of its own is tried again, doubled each time

    def render(self, job: Job) -> str:
        """What would be submitted, for people and for their own tools."""

    def submit(self, job: Job) -> None:
        """Ask for the job. One of its name that is there already is left as it is. Raises Busy, InputError."""

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        """What the engine has of these jobs, by name; no entry: nothing. Raises Busy."""

    def delete(self, job: Job, seen: Seen) -> None:
        """Stop it (with time to save) and remove what it holds; gone already is fine. Raises Busy."""

    def logs(self, job: Job) -> list[str]:
        """What the engine kept of the job's output where the run directory has no log.txt."""
