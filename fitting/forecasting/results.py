"""The prediction for one target: of one task, and of the mean over tasks."""

from dataclasses import dataclass

SUITE = "all tasks"


@dataclass(frozen=True)
class TaskForecast:
    """The prediction of one task at one target, and what its run measured where it has been trained.

    bpb: bits per byte of the correct answers; None where it cannot be predicted (flags say why). accuracy: the chance
    level where the ladder is not above chance; None where the table has none. Intervals hold 80 %: (lo, hi), None where
    there is none. flags: reasons not to trust a number. fits: parameters of the paper's methods. routes: accuracy by
    each route of step 2.
    """

    target: str
    task: str
    bpb: float | None = None
    bpb_interval: tuple[float, float] | None = None
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()
    measured_bpb: float | None = None
    measured_accuracy: float | None = None
    fits: dict | None = None
    routes: dict[str, float] | None = None

    @property
    def error(self) -> float | None:
        """Predicted over measured bpb, minus 1."""
        return None if self.bpb is None or self.measured_bpb is None else self.bpb / self.measured_bpb - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured bpb lies in the interval."""
        return _inside(self.bpb_interval, self.measured_bpb)

    @property
    def accuracy_error(self) -> float | None:
        """Predicted minus measured accuracy, in points; None where accuracy has no interval."""
        if self.accuracy_interval is None or self.measured_accuracy is None:
            return None
        return 100 * (self.accuracy - self.measured_accuracy)

    @property
    def accuracy_inside(self) -> bool | None:
        return _inside(self.accuracy_interval, self.measured_accuracy)

    def json(self) -> dict:
        """An entry of pred.json."""
        entry = {"target": self.target, "task": self.task, "bpb": self.bpb, "bpb_pi80": self.bpb_interval}
        entry |= {"acc": self.accuracy, "acc_pi80": self.accuracy_interval, "flags": list(self.flags)}
        further = {"fits": self.fits, "acc_routes": self.routes}
        return entry | {name: value for name, value in further.items() if value is not None}


@dataclass(frozen=True)
class SuiteForecast:
    """The mean over the predicted tasks. Its interval comes from draws of the mean, because tasks share runs and their
    errors do not cancel. bpb_tasks, accuracy_tasks: which tasks are in the mean."""

    target: str
    bpb: float | None = None
    bpb_interval: tuple[float, float] | None = None
    bpb_tasks: tuple[str, ...] = ()
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    accuracy_tasks: tuple[str, ...] = ()

    def json(self) -> dict:
        row = {"target": self.target, "task": SUITE, "bpb": self.bpb, "bpb_pi80": self.bpb_interval}
        row |= {"acc": self.accuracy, "acc_pi80": self.accuracy_interval}
        tasks = {"bpb_tasks": list(self.bpb_tasks), "acc_tasks": list(self.accuracy_tasks)}
        return row | {name: names for name, names in tasks.items() if names}


def _inside(interval: tuple[float, float] | None, value: float | None) -> bool | None:
    return None if interval is None or value is None else interval[0] <= value <= interval[1]
