"""The local backend in its simplest form: one run after another on this machine, each in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ladder.errors import Preempted
from ladder.files import read_json
from ladder.record import Record
from launch import logs, show

TRAIN = (sys.executable, "-m", "launch.cli", "train")
POLL_SECONDS = 0.25
RETRIES = 3  # in a row, without a new step


class Failed(Exception):
    """A run ended with an exit code that trying again does not mend; `code` is it."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


@dataclass
class Outcome:
    done: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # branches of what diverged


def run(directories: Sequence[Path], console: Console, command: Sequence[str] = TRAIN) -> Outcome:
    """Train the runs of these directories in order, `command` + directory each; what is done already is passed over.

    Again = resume. A run that diverged (exit 78) is recorded and its branches are skipped; one that was preempted
    (exit 75, or ended by a signal) is tried again while it gets on; anything else raises Failed with the end of its
    log. Ctrl-C and SIGTERM stop the run at hand, let it save, and raise Preempted.
    """
    work = [_Work.read(path) for path in directories]
    outcome = Outcome()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _progress(console) as progress:
            before_us = sum(w.flops for w in work if Record(w.directory).is_done())
            bar = progress.add_task("", total=sum(w.flops for w in work), completed=before_us, now="")
            for i, w in enumerate(work):
                progress.update(bar, description=f"{i + 1}/{len(work)} {w.name}", now="")
                _one(w, outcome, command, progress, bar)
    finally:
        signal.signal(signal.SIGTERM, before)
    return outcome


@dataclass(frozen=True)
class _Work:
    """A run directory and what its config.json says: steps from `first` to `last` that cost `flops` in all."""

    directory: Path
    name: str
    parent: str | None
    first: int
    last: int
    flops: float

    @classmethod
    def read(cls, directory: Path) -> "_Work":
        config = Record(directory).read_config()
        derived, first = config["derived"], config["rung"]["parent_step"] or 0
        flops = float(derived["flops_per_token"]) * derived["batch_tokens"] * (derived["steps"] - first)
        return cls(directory, config["run_id"], derived["parent_run"], first, derived["steps"], flops)

    def share(self, step: int | None) -> float:
        return 0.0 if step is None else min(1.0, max(0.0, (step - self.first) / (self.last - self.first)))


def _one(w: _Work, outcome: Outcome, command: Sequence[str], progress: Progress, bar: TaskID) -> None:
    record = Record(w.directory)
    if record.is_done():
        outcome.done.append(w.name)
        return
    if w.parent in outcome.diverged:
        progress.print(f"{w.name}: skipped, its trunk {w.parent} diverged")
        outcome.skipped.append(w.name)
        return
    began, done_before, tries, reached = time.monotonic(), progress.tasks[bar].completed, 0, _step(w)
    while True:
        code = _train(w, command, progress, bar, done_before)
        if code == 0:
            if not record.is_done():
                raise Failed(f"{w.name}: ended with exit code 0, yet wrote no DONE.json", 1)
            outcome.done.append(w.name)
            progress.update(bar, completed=done_before + w.flops)
            progress.print(f"{w.name}: done in {show.duration(time.monotonic() - began)}")
            return
        if code == 78:
            outcome.diverged.append(w.name)
            progress.print(f"{w.name}: diverged (see {w.directory / 'log.txt'})")
            return
        step = _step(w)
        tries = 0 if step > reached else tries + 1
        reached = max(reached, step)
        if not (code == 75 or code < 0) or tries >= RETRIES:
            raise Failed(_explained(w, code, tries), code if code in (2, 75) else 1)
        progress.print(f"{w.name}: exit code {code}, trying again")
        time.sleep(POLL_SECONDS * 2**tries)


def _train(w: _Work, command: Sequence[str], progress: Progress, bar: TaskID, done: float) -> int:
    """Run the command once with its output in log.txt; the progress bar follows the run's heartbeat."""
    with open(w.directory / "log.txt", "ab") as log:
        # Its own session: Ctrl-C in the terminal reaches only us, and we pass it on as SIGTERM.
        process = subprocess.Popen(
            [*command, str(w.directory)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while True:
                try:
                    return process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    _show(w, progress, bar, done)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise Preempted("stopped; the same command takes it up again") from None


def _show(w: _Work, progress: Progress, bar: TaskID, done: float) -> None:
    beat = _beat(w)
    if beat is None:
        return
    now = f"step {beat['step']:,}/{w.last:,}"
    if beat["loss"] is not None:
        now += f"  loss {beat['loss']:.3f}"
    if beat["rate"]:
        now += f"  {show.count(beat['rate'])} tokens/s"
    progress.update(bar, completed=done + w.share(beat["step"]) * w.flops, now=now)


def _beat(w: _Work) -> dict | None:
    try:
        return read_json(w.directory / "heartbeat.json")
    except FileNotFoundError:
        return None


def _step(w: _Work) -> int:
    beat = _beat(w)
    return beat["step"] if beat else -1


def _explained(w: _Work, code: int, tries: int) -> str:
    lines = logs.tail(w.directory, 5)
    often = f" {tries} times without a new step" if tries >= RETRIES else ""
    said = f": {lines[-1]}" if code == 2 and lines else "\n  " + "\n  ".join(lines)
    return f"{w.name} ended with exit code {code}{often} ({w.directory / 'log.txt'}){said}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[now]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
        # Rates are uneven (start-up, evaluation): estimate the time left from the last ten minutes.
        speed_estimate_period=600,
    )
