"""Where the time of a run went, from the files in its run directory (docs/run_directory.md).

    productive   training steps whose result was kept
    compile      tracing and compiling programs, or reading them from the cache on disk
    data_wait    waiting for the next batch
    evaluation   scoring tasks and validation text
    checkpoint   saving
    restart      start-up of every sitting, the first included: imports, restoring, opening data; without compilation
    lost         work that had to be done again: everything after the checkpoint that the next sitting resumed from
    idle         no process trained the run: from the last sign of life of a sitting to the start of the next

A sitting is one process (or one group of processes) that trains the run, from its start to its end. The parts add up
to the time from the start of the first sitting to the end of the last, or to its latest heartbeat.

Nothing here imports jax. Start reading at `account`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ladder.errors import DamagedError
from ladder.rundir.record import Record

PARTS: tuple[str, ...] = (
    *("productive", "compile", "data_wait", "evaluation", "checkpoint", "restart", "lost", "idle"),
)


@dataclass(frozen=True)
class Sitting:
    """One sitting. Times are in seconds since 1970.

    began: when it started. seconds: by part, until its last heartbeat; empty if there was none. first: the step that it
    resumed from; None if it never got there. saves: (step, seconds by part until then) of every checkpoint. alive: the
    last sign of life, a heartbeat or a renewed lease.
    """

    began: float
    seconds: dict[str, float]
    first: int | None = None
    saves: tuple[tuple[int, dict[str, float]], ...] = ()
    alive: float = 0.0


def of_run(record: Record) -> dict[str, float]:
    """Seconds by part, with the keys PARTS in their order; {} where the run never began, was trained before ladder
    measured this, or is damaged.

    Runs that are trained together (`ladder train --vmap`) have equal parts of the time, so that their sum is the time
    of the group.
    """
    try:
        members = len(record.read_config().get("group", {}).get("members", ())) or 1
    except DamagedError:
        return {}
    seconds = account(sittings(record))
    return {part: seconds[part] / members for part in seconds}


def of_ladder(records: Iterable[Record]) -> dict[str, float]:
    """The sums over runs; {} where none has begun."""
    runs = [seconds for seconds in map(of_run, records) if seconds]
    return {part: sum(seconds[part] for seconds in runs) for part in PARTS} if runs else {}


def sittings(record: Record) -> list[Sitting]:
    """The sittings that a run directory tells of, in order."""
    return []


def account(sittings: Sequence[Sitting]) -> dict[str, float]:
    """Seconds by part over `sittings`, which are in order of time; {} if there are none."""
    return {}
