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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ladder.errors import DamagedError
from ladder.rundir.record import Record
from launch import terminal

PARTS: tuple[str, ...] = (
    *("productive", "compile", "data_wait", "evaluation", "checkpoint", "restart", "lost", "idle"),
)
WORK = ("productive", "data_wait", "evaluation")  # what is done again after a checkpoint was resumed


@dataclass(frozen=True)
class Sitting:
    """One sitting. Times are in seconds since 1970.

    began: when it started. seconds: by part, until its last heartbeat; empty if there was none. first: the step that it
    resumed from; None if it never got there. saves: (step, seconds by part until then) of every checkpoint. alive: the
    last sign of life, a heartbeat or a renewed lease. recompilations: how often a program compiled unexpectedly.
    """

    began: float
    seconds: dict[str, float]
    first: int | None = None
    saves: tuple[tuple[int, dict[str, float]], ...] = ()
    alive: float = 0.0
    recompilations: int = 0


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
    return total(map(of_run, records))


def of_runs(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """`of_run` of each, by run_id."""
    return {record.directory.name: of_run(record) for record in records}


def total(runs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums of what `of_run` returns; {} where none has begun."""
    begun = [seconds for seconds in runs if seconds]
    return {part: sum(seconds[part] for seconds in begun) for part in PARTS} if begun else {}


def table(runs: Mapping[str, Mapping[str, float]]) -> terminal.Table:
    """A row for each run of `of_runs`, in hours, minutes and seconds; the last row has the shares of their sum."""
    shown = {run_id: seconds for run_id, seconds in runs.items() if seconds}
    sums = total(runs.values())
    drop = ("data wait", "checkpoint", "evaluation", "restart")
    grid = terminal.Table(title="where the time went", drop=drop, show_footer=bool(sums))
    grid.add_column("run", "all runs", no_wrap=True)
    for part in ("time", *PARTS):
        wall = sum(sums.values())
        footer = "" if not sums else terminal.duration(wall) if part == "time" else f"{sums[part] / wall:.1%}"
        grid.add_column(part.replace("_", " "), footer, justify="right", no_wrap=True)
    for run_id, seconds in shown.items():
        times = (sum(seconds.values()), *seconds.values())
        grid.add_row(run_id, *(terminal.duration(t) if t >= 0.5 else "" for t in times))
    return grid


def notes(records: Iterable[Record]) -> list[str]:
    """A line for each run in which programs compiled unexpectedly."""
    counts = {record.directory.name: sum(s.recompilations for s in sittings(record)) for record in records}
    return [
        f"{run_id}: programs compiled again while it trained ({n}); its log says why"
        for run_id, n in counts.items()
        if n
    ]


def to_json(runs: Mapping[str, Mapping[str, float]]) -> dict:
    """{"runs": {run_id: seconds by part}, "total": the sums}; {} for a run that has not begun."""
    return {"runs": dict(runs), "total": total(runs.values())}


def sittings(record: Record) -> list[Sitting]:
    """The sittings that a run directory tells of, in order of time. Those of an older ladder, which did not measure
    them, are left out."""
    attempts = [row for row in record.attempts() if row["by"] == "train" and "last" in row]
    if not attempts:
        return []
    signs = [sign or {} for sign in (*(row["last"] for row in attempts[1:]), record.last_life())]
    # What each sitting said last, by the time at which it began: in its last save, or in a heartbeat.
    saves: dict[float, list[tuple[int, dict]]] = {}
    latest: dict[float, dict] = {}
    for row in record.timings():
        if row.get("phase") == "checkpoint" and _is_intact(row.get("sitting")) and isinstance(row.get("step"), int):
            latest[row["sitting"]["began"]] = row["sitting"]
            saves.setdefault(row["sitting"]["began"], []).append((row["step"], row["sitting"]["seconds"]))
    for sitting in [sign["sitting"] for sign in signs if _is_intact(sign.get("sitting"))]:
        latest[sitting["began"]] = max(latest.get(sitting["began"], sitting), sitting, key=_length)
    return [
        Sitting(
            began=row["time"],
            seconds=latest.get(row["time"], {}).get("seconds", {}),
            first=latest.get(row["time"], {}).get("first"),
            saves=tuple(saves.get(row["time"], ())),
            alive=sign.get("time", 0.0),
            recompilations=latest.get(row["time"], {}).get("recompilations", 0),
        )
        for row, sign in zip(attempts, signs, strict=True)
    ]


def _is_intact(sitting) -> bool:
    """Whether it is what monitor/spans.py writes: timing.jsonl has no hashes."""
    try:
        numbers = [sitting["began"], *sitting["seconds"].values()]
    except (TypeError, KeyError, AttributeError):
        return False
    return all(type(number) in (int, float) for number in numbers) and sitting["seconds"].keys() <= {*PARTS}


def _length(sitting: dict) -> float:
    return sum(sitting["seconds"].values())


def account(sittings: Sequence[Sitting]) -> dict[str, float]:
    """Seconds by part over `sittings`, which are in order of time; {} if there are none.

    The parts of a sitting are its own, except that its work after the newest save which a later sitting resumed from is
    lost. So is the time in which its lease was still renewed after its last heartbeat, as a killed evaluation's is;
    before its first step that time is start-up. Where clocks of two machines differ, sittings may overlap a little.
    """
    if not sittings:
        return {}
    total, clock = dict.fromkeys(PARTS, 0.0), sittings[0].began
    for i, sitting in enumerate(sittings):
        later = [other.first for other in sittings[i + 1 :] if other.first is not None]
        seconds = {part: sitting.seconds.get(part, 0.0) for part in PARTS}
        if later:
            kept = [by_part for step, by_part in sitting.saves if step <= min(later)]
            for part in WORK:
                again = seconds[part] - (kept[-1].get(part, 0.0) if kept else 0.0)
                seconds[part], seconds["lost"] = seconds[part] - again, seconds["lost"] + again
        total["idle"] += max(0.0, sitting.began - clock)
        end = max(clock, sitting.began + sum(seconds.values()))
        if i + 1 < len(sittings) or not sitting.seconds:
            seconds["lost" if sitting.seconds else "restart"] += max(0.0, sitting.alive - end)
        total = {part: total[part] + seconds[part] for part in PARTS}
        clock = max(end, sitting.began + sum(seconds.values()))
    return total
