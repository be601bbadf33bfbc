"""Weights & Biases: one W&B run for each run, whose id is the run_id; the ladder is their group.

W&B's own settings decide the rest: WANDB_MODE (offline needs no network), WANDB_PROJECT, WANDB_ENTITY, WANDB_API_KEY.

Offline, W&B keeps what it is given in memory for a while, and a killed process loses it. So each batch becomes an
offline folder of its own, made out of sight, and moved to DIR/wandb when W&B has closed it. Inside it, STEPS names the
last step, so that the move publishes the batch and the cursor at once. `wandb clean` deletes folders that were synced;
so the cursor is also copied to DIR/wandb/.<ladder>.json. Killed between move and copy, the next process reads STEPS.

Online, the server is the cursor: a resumed W&B run begins after the last step that the server has. What a killed
process had not sent is read and sent again. The file says which runs need no question to the server any more.
"""

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import read_sealed, sealed, write_atomic
from launch.trackers.batch import Batch
from launch.trackers.tracker import Run

STEPS = "ladder-steps.json"  # in each offline folder
PROJECT = "ladder"  # where WANDB_PROJECT does not name one
_PART = ".part-"


class WeightsAndBiases:
    """A Tracker (tracker.py). directory: DIR. Raises InputError where wandb is not installed or is switched off, and
    where DIR was written in another mode."""

    def __init__(self, directory: Path, ladder: str):
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise InputError(f"--to wandb needs the package {error.name}; install it with: pip install wandb") from None
        self._wandb, self.directory = wandb, directory / "wandb"
        self.offline = _is_offline(wandb.setup().settings.mode)
        self._cursor_file = self.directory / f".{ladder}.json"
        self._open, self._sent = {}, {}  # online, by run_id: the wandb.Run, and the last step that it was given
        self.directory.mkdir(exist_ok=True)
        for part in self.directory.glob(f"{_PART}{ladder}-*"):  # of a process that was killed
            shutil.rmtree(part, ignore_errors=True)
        self._written = self._read_cursor()

    def last(self, run: Run) -> int:
        steps = self._written.get(run.run_id, -1)
        if self.offline:
            files = self.directory.glob(f"offline-run-*-{run.run_id}/{STEPS}")
            return max([steps, *(json.loads(file.read_text())["last"] for file in files)])
        return max(steps, self._sent.get(run.run_id, -1))

    def write(self, run: Run, batch: Batch) -> None:
        if self.offline:
            with _OfflineFolder(self, run, batch.last) as wandb_run:
                _log(wandb_run, batch)
            self._set_cursor(run, batch.last)
            return
        if run.run_id not in self._open:
            self._open[run.run_id] = self._init(run, self.directory.parent, resume="allow")
        wandb_run = self._open[run.run_id]
        _log(wandb_run, batch, first=wandb_run.starting_step)
        self._sent[run.run_id] = batch.last

    def page(self, fit: Run) -> None:
        if self.last(fit) == 0 or not (fit.directory / "report.html").exists():
            return
        if self.offline:
            with _OfflineFolder(self, fit, 0) as wandb_run:
                self._log_page(wandb_run, fit)
        else:
            with self._init(fit, self.directory.parent, resume="allow") as wandb_run:
                self._log_page(wandb_run, fit)
        self._set_cursor(fit, 0)

    def _log_page(self, wandb_run, fit: Run) -> None:
        name = re.sub(r"[^\w.-]", "-", f"{fit.ladder}-{fit.run_id}")
        artifact = self._wandb.Artifact(name, type="report", description=f"the prediction of ladder {fit.ladder}")
        with artifact.new_file("report.html", mode="wb") as file:
            file.write((fit.directory / "report.html").read_bytes())
        wandb_run.log_artifact(artifact)

    def end(self, run: Run, state: str) -> None:
        if run.run_id in self._open:
            wandb_run = self._open.pop(run.run_id)
            wandb_run.finish(exit_code=0 if state == "done" else 1)  # returns when the server has everything
            self._set_cursor(run, self._sent[run.run_id])

    def close(self) -> None:
        for wandb_run in self._open.values():
            wandb_run.finish()
        self._open.clear()

    def how_to_look(self) -> str:
        return f"wandb sync {self.directory}/offline-run-*" if self.offline else "https://wandb.ai"

    def _init(self, run: Run, directory, **more):
        """A new wandb.Run, beside others that are open."""
        settings = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            # Of the machine that trains, not of this one, these would say something.
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        derived = run.config["derived"]
        with _plain_errors(self._wandb.errors):
            return self._wandb.init(
                project=None if "WANDB_PROJECT" in os.environ else PROJECT,
                id=run.run_id,
                name=run.run_id,
                group=run.ladder,
                job_type=derived.get("kind", "fit"),
                tags=_tags(run.config),
                config=derived | {name: value for name, value in run.config.items() if name != "derived"},
                dir=str(directory),
                reinit="create_new",
                settings=settings,
                **more,
            )

    def _read_cursor(self) -> dict[str, int]:
        try:
            value = read_sealed(self._cursor_file)
        except FileNotFoundError:
            return {}
        if value["offline"] != self.offline:
            was, now = ("offline", "online") if value["offline"] else ("online", "offline")
            raise InputError(
                f"{self._cursor_file}: written with WANDB_MODE={was}, and now it is {now}: what stands in both would be"
                f" written twice; set WANDB_MODE={was}, or name another folder with --dir"
            )
        return value["last"]

    def _set_cursor(self, run: Run, last: int) -> None:
        self._written[run.run_id] = last
        write_atomic(self._cursor_file, sealed({"offline": self.offline, "last": self._written}))


class _OfflineFolder:
    """`with` gives an offline wandb.Run in a temporary folder, which becomes DIR/wandb/offline-run-<time>-<run_id> at
    the end. last: the step that STEPS names."""

    def __init__(self, tracker: WeightsAndBiases, run: Run, last: int):
        self.tracker, self.run, self.last = tracker, run, last

    def __enter__(self):
        self._hidden = tempfile.TemporaryDirectory(
            dir=self.tracker.directory, prefix=f"{_PART}{self.run.ladder}-", ignore_cleanup_errors=True
        )
        while list(self.tracker.directory.glob(f"*-{time.strftime('%Y%m%d_%H%M%S')}-{self.run.run_id}")):
            time.sleep(0.1)  # W&B names a folder by the second, and orders folders by it
        self._wandb_run = self.tracker._init(self.run, self._hidden.name)
        return self._wandb_run

    def __exit__(self, kind, *error):
        with self._hidden:
            self._wandb_run.finish()
            if kind is None:
                [folder] = Path(self._hidden.name).glob(f"*/offline-run-*-{self.run.run_id}")
                write_atomic(folder / STEPS, json.dumps({"last": self.last}) + "\n")
                os.rename(folder, self.tracker.directory / folder.name)


def _log(wandb_run, batch: Batch, first: int = 0) -> None:
    for step in batch.steps:
        if step.step >= first:
            wandb_run.log(step.values, step=step.step, commit=True)


def _tags(config: dict) -> list[str]:
    """What people select runs by: size, 2xC, seed 0, branch, target."""
    derived = config["derived"]
    multiple, seed = derived.get("multiple"), derived.get("seed")
    numbers = [f"{multiple:g}xC" if multiple else None, f"seed {seed}" if seed is not None else None]
    return [tag for tag in (derived.get("size"), *numbers, derived.get("kind"), config.get("split")) if tag]


def _is_offline(mode: str) -> bool:
    if mode == "disabled":
        raise InputError("WANDB_MODE=disabled keeps nothing; set it to online or offline")
    return mode in ("offline", "dryrun")


@contextmanager
def _plain_errors(errors):
    """Turn W&B's own errors into those that the command knows."""
    try:
        yield
    except (errors.UsageError, errors.AuthenticationError) as error:
        raise InputError(f"W&B: {' '.join(str(error).split())}") from None
    except errors.Error as error:
        raise ConnectionError(f"W&B: {' '.join(str(error).split())}") from None
