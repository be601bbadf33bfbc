"""The package wandb: opens W&B runs, and keeps on disk what was written of which run.

One W&B run for each run: its id is the run_id, the ladder is its group. W&B's own settings decide the rest: WANDB_MODE
(offline needs no network), WANDB_PROJECT, WANDB_ENTITY, WANDB_API_KEY.
"""

import os
import re
from contextlib import contextmanager
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import read_sealed, sealed, write_atomic
from launch.trackers.batch import Batch
from launch.trackers.tracker import Run

PROJECT = "ladder"  # where WANDB_PROJECT does not name one


class Client:
    """wandb, and its folder DIR/wandb. offline: whether WANDB_MODE or `wandb offline` says so. Raises InputError where
    wandb is not installed or is switched off."""

    def __init__(self, directory: Path):
        try:
            import wandb
        except ModuleNotFoundError:
            raise InputError("--to wandb needs the package wandb; install it with: pip install wandb") from None
        mode = wandb.setup().settings.mode
        if mode == "disabled":
            raise InputError("WANDB_MODE=disabled keeps nothing; set it to online or offline")
        self._wandb, self.folder = wandb, directory / "wandb"
        self.offline = mode in ("offline", "dryrun")
        self.folder.mkdir(exist_ok=True)

    def open(self, run: Run, directory: Path):
        """A wandb.Run, beside others that are open. Its files are in directory/wandb."""
        settings = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            # These describe the machine of this process, and not the one that trains.
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
                resume="allow",
                reinit="create_new",
                settings=settings,
            )

    def log(self, wandb_run, batch: Batch) -> None:
        """Log what the W&B run does not have yet."""
        for step in batch.steps:
            if step.step >= wandb_run.starting_step:
                wandb_run.log(step.values | {"_timestamp": step.time}, step=step.step, commit=True)

    def log_page(self, wandb_run, fit: Run) -> None:
        """Log report.html of a fit directory as an artifact."""
        name = re.sub(r"[^\w.-]", "-", f"{fit.ladder}-{fit.run_id}")
        artifact = self._wandb.Artifact(name, type="report", description=f"the prediction of ladder {fit.ladder}")
        with artifact.new_file("report.html", mode="wb") as file:
            file.write((fit.directory / "report.html").read_bytes())
        with _plain_errors(self._wandb.errors):
            wandb_run.log_artifact(artifact)


class Cursor:
    """DIR/wandb/.<ladder>.json: the last step that was written of each run, and in which mode. Raises InputError where
    that is another mode than now, and DamagedError."""

    def __init__(self, client: Client, ladder: str):
        self._file, self._offline = client.folder / f".{ladder}.json", client.offline
        self._last: dict[str, int] = {}
        try:
            value = read_sealed(self._file)
        except FileNotFoundError:
            self._write()
            return
        if value["offline"] != self._offline:
            was, now = ("offline", "online") if value["offline"] else ("online", "offline")
            raise InputError(
                f"{self._file}: written with WANDB_MODE={was}, and now it is {now}: W&B would get some values twice; "
                f"set WANDB_MODE={was}, or name another folder with --dir"
            )
        self._last = value["last"]

    def last(self, run_id: str) -> int:
        return self._last.get(run_id, -1)

    def set(self, run_id: str, last: int) -> None:
        self._last[run_id] = last
        self._write()

    def _write(self) -> None:
        write_atomic(self._file, sealed({"offline": self._offline, "last": self._last}))


def _tags(config: dict) -> list[str]:
    """What people select runs by: their size, 2xC, seed 0, branch, target."""
    derived = config["derived"]
    multiple, seed = derived.get("multiple"), derived.get("seed")
    numbers = [f"{multiple:g}xC" if multiple else None, f"seed {seed}" if seed is not None else None]
    return [tag for tag in (derived.get("size"), *numbers, derived.get("kind"), config.get("split")) if tag]


@contextmanager
def _plain_errors(errors):
    """Turn W&B's own errors into those that the command knows."""
    try:
        yield
    except (errors.UsageError, errors.AuthenticationError) as error:
        raise InputError(f"W&B: {' '.join(str(error).split())}") from None
    except errors.Error as error:
        raise ConnectionError(f"W&B: {' '.join(str(error).split())}") from None
