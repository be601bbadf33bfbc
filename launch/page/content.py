"""What a page shows, read from a ladder's folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.rundir.record import Record
from launch import goodput
from launch.page import curves, forecasts
from launch.page.curves import Curve
from launch.page.forecasts import Forecasts
from launch.scheduler import status, submission
from launch.scheduler.status import OVER, Status


@dataclass(frozen=True)
class Content:
    """title: of the ladder. runs: as `ladder status` shows them, their states with what the page found damaged. unit:
    of the curves' losses. goodput: {run_id: seconds by part}. notes: further lines. links: {text: a file beside the
    page}. written: seconds since 1970. every: seconds until it is written again; None if it is not.
    """

    title: str
    runs: tuple[Status, ...]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    unit: str = "bits per byte"
    forecasts: Forecasts = field(default_factory=Forecasts)
    goodput: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    written: float = 0.0
    every: float | None = None


class Reader:
    """Reads the content again and again; what cannot have changed is kept in memory."""

    def __init__(self, folder, title: str, targets=None):
        self._folder, self._title = as_path(str(folder)), title
        self._curves = curves.Reader(folder)
        self._forecasts = forecasts.Forecaster(folder, targets)
        self._goodput: dict[str, Mapping[str, float]] = {}

    def read(
        self, runs: Sequence[Status], states: Mapping[str, str] | None = None, every: float | None = None
    ) -> Content:
        """runs, states: as `status.table` takes them."""
        runs = [replace(run, state=status.shown_state(run, states)) for run in runs]
        curves_of_runs = curves.with_latest(self._curves.read(runs), runs)
        so_far = self._forecasts.read(runs)
        in_bpb, unit = curves.in_bpb(curves_of_runs)
        problems = {run_id: curve.problem for run_id, curve in curves_of_runs.items() if curve.problem}
        problems |= so_far.left_out or {}
        damaged = {
            run.run_id: replace(run, state="damaged", detail=problems[run.run_id])
            for run in runs
            if run.run_id in problems and run.state != "damaged"
        }
        return Content(
            title=self._title,
            runs=tuple(damaged.get(run.run_id, run) for run in runs),
            curves=in_bpb,
            unit=unit,
            forecasts=so_far,
            goodput=self._seconds(runs),
            notes=self._notes(runs),
            written=time.time(),
            every=every,
        )

    def _seconds(self, runs: Sequence[Status]) -> dict[str, Mapping[str, float]]:
        """{run_id: seconds by part} of the runs that have begun."""
        for run in runs:
            if (
                run.size
                and run.state not in ("pending", "queued")
                and not (run.state in OVER and run.run_id in self._goodput)
            ):
                try:
                    self._goodput[run.run_id] = goodput.of_run(Record(self._folder / run.run_id))
                except (InputError, OSError):  # its other files say what is wrong with it
                    self._goodput[run.run_id] = {}
        return {run_id: seconds for run_id, seconds in self._goodput.items() if seconds}

    def _notes(self, runs: Sequence[Status]) -> tuple[str, ...]:
        try:
            spent = submission.spent_on(self._folder, runs)
        except (InputError, OSError):
            return ()
        return (str(spent),) if spent else ()
