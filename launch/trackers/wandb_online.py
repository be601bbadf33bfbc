"""W&B with its server, which knows best what it has: a resumed W&B run begins after the last step of the server.

What a killed process had not sent yet is read again from the run directory, and sent. The cursor names only runs of
which the server has confirmed everything, so that it need not be asked about them.
"""

from launch.trackers.batch import Batch
from launch.trackers.tracker import Run
from launch.trackers.wandb_client import Client, Cursor


class Online:
    """A Tracker (tracker.py)."""

    def __init__(self, client: Client, ladder: str):
        self._client, self._cursor = client, Cursor(client, ladder)
        self._open = {}  # run_id: its wandb.Run
        self._given: dict[str, int] = {}  # run_id: the last step that W&B was given
        self._url = "https://wandb.ai"

    def last(self, run: Run) -> int:
        return self._given.get(run.run_id, self._cursor.last(run.run_id))

    def write(self, run: Run, batch: Batch) -> None:
        if run.run_id not in self._open:
            self._open[run.run_id] = self._client.open(run, self._client.folder.parent)
        self._client.log(self._open[run.run_id], batch)
        self._given[run.run_id] = batch.last
        self._url = self._open[run.run_id].project_url

    def page(self, fit: Run) -> None:
        if self.last(fit) < 0:
            with self._client.open(fit, self._client.folder.parent) as wandb_run:
                self._client.log_page(wandb_run, fit)
            self._cursor.set(fit.run_id, 0)

    def end(self, run: Run, state: str) -> None:
        if run.run_id in self._open:
            self._open.pop(run.run_id).finish(exit_code=0 if state == "done" else 1)  # when the server has everything
            self._cursor.set(run.run_id, self._given[run.run_id])

    def close(self) -> None:
        for wandb_run in self._open.values():
            wandb_run.finish()
        self._open.clear()

    def how_to_look(self) -> str:
        return self._url
