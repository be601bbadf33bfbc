"""The metrics that a run has published and a tracker does not have yet."""

import os
import time
from dataclasses import dataclass

from ladder.rundir import segments
from ladder.rundir.files import is_local


@dataclass(frozen=True)
class Step:
    """All metrics of one step. values: {"task/metric": value}, and "tokens". time: when the segment that holds them was
    written (in a bucket: read), in seconds since 1970; the rows themselves hold no times."""

    step: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Batch:
    """The metrics of the steps first to last, which a tracker takes as a whole. Steps without metrics are left out."""

    first: int
    last: int
    steps: tuple[Step, ...]

    @property
    def time(self) -> float:
        """When the first of them was written, as Step.time."""
        return min((step.time for step in self.steps), default=0.0)


def after(directory, last: int) -> Batch | None:
    """What the run directory holds of the steps after `last` (-1: of all); None where that is nothing.

    A resumed run deletes segments that are newer than its checkpoint, and writes the same rows again, perhaps in
    segments that end at other steps. So rows are chosen by their step, not by their segment. All rows of a step are in
    one segment. Raises InputError with file and line where a segment is damaged.
    """
    folder, before = directory / "metrics", None
    while (names := segments.names(folder)) != before:
        try:
            return _read(folder, names, last)
        except FileNotFoundError:  # the run was resumed after they were listed
            before = names
    raise FileNotFoundError(2, "a segment of the metrics is listed but cannot be read", str(folder))


def _read(folder, names: list[str], last: int) -> Batch | None:
    new = [name for name in names if segments.steps(name)[1] > last]
    if not new:
        return None
    steps: dict[int, Step] = {}
    for name in new:
        written = os.stat(folder / name).st_mtime if is_local(folder) else time.time()
        for row in segments.rows(folder / name):
            step = row["step"]
            if step > last:
                values = steps.setdefault(step, Step(step, written, {"tokens": row["tokens"]})).values
                values[f"{row['task']}/{row['metric']}"] = row["value"]
    first = max(last + 1, segments.steps(new[0])[0])
    return Batch(first, segments.steps(new[-1])[1], tuple(steps[step] for step in sorted(steps)))
