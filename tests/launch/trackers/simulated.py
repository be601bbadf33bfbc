"""A run directory whose metrics are published and rewound as a training run does it, without training."""

from pathlib import Path

from ladder.rundir import segments
from ladder.rundir.record import Record
from tests.launch import stand_ins

EVERY = 10  # steps between two rows of the training loss


class Run:
    """A run of the ladder "mine", named `name`, in root/mine."""

    def __init__(self, root: Path, name: str = "d8-1xC-s0-01234567", **derived):
        numbers = {"multiple": 1.0, "seed": 0, "steps": 1000} | derived
        self.directory = stand_ins.run(root / "mine", name, **numbers)
        self.step, self._record = 0, None

    def train(self, until: int) -> None:
        """Train to a step, save there."""
        if self._record is None:
            self.resume(self.step)
        for step in range(self.step + 1, until + 1):
            if step % EVERY == 0:
                self._record.log([row(step, "train", "loss", 5 - step / 7), row(step, "train", "grad_norm", 1 / step)])
            if step % (2 * EVERY) == 0:
                self._record.log([row(step, "validation", "bpb", 3 - step / 900)])
        self.step = until
        self._record.publish(until)

    def resume(self, at: int) -> None:
        """Go back to a step where it saved (0: to the beginning), as a run does that is resumed."""
        folder = self.directory / "metrics"
        earlier = [name for name in segments.names(folder) if segments.steps(name)[1] <= at]
        listing = {name: segments.entry((folder / name).read_bytes()) for name in earlier}
        self._record, self.step = Record(self.directory), at
        self._record.rewind(at if earlier else -1, listing=listing)

    def finish(self) -> None:
        self._record.finish(step=self.step, loss=1.0)

    def saved(self) -> list[int]:
        return [0, *(segments.steps(name)[1] for name in segments.names(self.directory / "metrics"))]

    def points(self) -> list[tuple[int, str, float]]:
        """(step, name, value) of every published value, sorted."""
        rows = list(Record(self.directory).rows())
        values = {(row["step"], f"{row['task']}/{row['metric']}", row["value"]) for row in rows}
        return sorted(values | {(row["step"], "tokens", row["tokens"]) for row in rows})


def row(step: int, task: str, metric: str, value: float) -> dict:
    return {
        **{"step": step, "tokens": 64 * step, "kind": "full", "task": task, "metric": metric, "value": value},
        **{"stderr": None, "n_docs": None},
    }
