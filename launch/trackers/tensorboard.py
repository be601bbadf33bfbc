"""TensorBoard: a folder of event files for each run, DIR/<ladder>/<run_id>.

A file holds one batch, and its name says which steps: events.out.tfevents.<first>-<last>. It is written under another
name, which TensorBoard does not read, and renamed when all of it is on the disk. So the names are the cursor: a process
that is killed leaves a batch whole or not at all, and the next one goes on after the last step that a name tells.
"""

import os
import re
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.kill_points import phase
from launch.trackers.batch import Batch
from launch.trackers.tracker import Run

_NAME = re.compile(r"events\.out\.tfevents\.(\d{9})-(\d{9})")
_PART = ".ladder.part"


class TensorBoard:
    """A Tracker (tracker.py). directory: DIR. Raises InputError where tensorboardX is not installed."""

    def __init__(self, directory: Path):
        try:
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import RecordWriter
        except ModuleNotFoundError:
            message = "--to tensorboard needs the package tensorboardX; install it with: pip install tensorboardX"
            raise InputError(message) from None
        self.directory, self._record_writer = directory, RecordWriter
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary

    def _folder(self, run: Run) -> Path:
        return self.directory / run.ladder / run.run_id

    def last(self, run: Run) -> int:
        folder = self._folder(run)
        matches = [_NAME.fullmatch(name) for name in (os.listdir(folder) if folder.is_dir() else ())]
        return max((int(match[2]) for match in matches if match), default=-1)

    def write(self, run: Run, batch: Batch) -> None:
        folder = self._folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        file = self._record_writer(str(folder / _PART))  # replaces what a killed process has left
        try:
            file.write(self._event(wall_time=batch.time, file_version="brain.Event:2").SerializeToString())
            for step in batch.steps:
                values = [self._summary.Value(tag=name, simple_value=value) for name, value in step.values.items()]
                event = self._event(wall_time=step.time, step=step.step, summary=self._summary(value=values))
                file.write(event.SerializeToString())
            file.flush()  # to the disk
        finally:
            file.close()
        phase("batch-written")
        os.replace(folder / _PART, folder / f"events.out.tfevents.{batch.first:09d}-{batch.last:09d}")

    def page(self, fit: Run) -> None:
        """TensorBoard shows no pages."""

    def end(self, run: Run, state: str) -> None:
        """Every batch was written as a whole."""

    def close(self) -> None:
        """No file is open between two batches."""

    def how_to_look(self) -> str:
        return f"tensorboard --logdir {self.directory}"
