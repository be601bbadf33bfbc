"""W&B without a network: folders that `wandb sync` sends later, several for one run.

W&B keeps what it is given in memory for a while, and loses it when the process is killed. So each batch becomes an
offline folder of its own. It is made in a hidden folder and moved to DIR/wandb when W&B has closed it. The file STEPS
in it names the run and its last step: the move publishes the batch and how far it goes at once. `wandb clean` deletes
folders that were sent, so the step is then copied to the cursor. A process that is killed between the two has lost
nothing: the next one reads STEPS.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ladder.rundir.files import write_atomic
from ladder.rundir.kill_points import phase
from launch.trackers.batch import Batch
from launch.trackers.tracker import Run
from launch.trackers.wandb_client import Client, Cursor

STEPS = "ladder-steps.json"


class Offline:
    """A Tracker (tracker.py)."""

    def __init__(self, client: Client, ladder: str):
        self._client, self._cursor = client, Cursor(client, ladder)
        self._ladder, self._hidden = ladder, f".{ladder}.part."
        for left_behind in client.folder.glob(f"{self._hidden}*"):  # by a process that was killed
            shutil.rmtree(left_behind, ignore_errors=True)
        for file in client.folder.glob(f"offline-run-*/{STEPS}"):
            written = json.loads(file.read_text())
            if written["ladder"] == ladder and self._cursor.last(written["run_id"]) < written["last"]:
                self._cursor.set(written["run_id"], written["last"])

    def last(self, run: Run) -> int:
        return self._cursor.last(run.run_id)

    def write(self, run: Run, batch: Batch) -> None:
        with self._folder(run, batch.last) as wandb_run:
            self._client.log(wandb_run, batch)
        self._cursor.set(run.run_id, batch.last)

    def page(self, fit: Run) -> None:
        if self.last(fit) < 0:
            with self._folder(fit, 0) as wandb_run:
                self._client.log_page(wandb_run, fit)
            self._cursor.set(fit.run_id, 0)

    @contextmanager
    def _folder(self, run: Run, last: int) -> Iterator:
        """Gives a wandb.Run whose folder is moved to DIR/wandb at the end."""
        while list(self._client.folder.glob(f"*-{time.strftime('%Y%m%d_%H%M%S')}-{run.run_id}")):
            time.sleep(0.1)  # W&B names folders by the second, and sends them in this order
        with tempfile.TemporaryDirectory(dir=self._client.folder, prefix=self._hidden) as hidden:
            wandb_run = self._client.open(run, Path(hidden))
            try:
                yield wandb_run
            finally:
                wandb_run.finish()
            [folder] = Path(hidden).glob(f"*/offline-run-*-{run.run_id}")
            for log in folder.glob("*.wandb"):
                _sync(log)
            written = {"ladder": self._ladder, "run_id": run.run_id, "last": last}
            write_atomic(folder / STEPS, json.dumps(written) + "\n")
            phase("batch-written")
            os.rename(folder, self._client.folder / folder.name)
            phase("batch-moved")

    def end(self, run: Run, state: str) -> None:
        """Every batch was written as a whole."""

    def close(self) -> None:
        """No W&B run is open between two batches."""

    def how_to_look(self) -> str:
        return f"wandb sync {self._client.folder}/offline-run-*"


def _sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
