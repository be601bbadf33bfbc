"""The run directory: every file that one rung writes, except its checkpoints.

    config.json      the config; its run_id never changes (config_file.py compares the two)
    metrics/<first>-<last>.jsonl
                     immutable segments (segments.py); each is published just before the checkpoint of step <last>,
                     whose manifest lists the hashes of all segments so far, as DONE.json does
    timing.jsonl     wall-clock figures; the only rows that may differ between two identical runs
    heartbeat.json   the latest step, loss and rate, and where the time of this sitting went so far
    leases/          which process trains this run, and until when (lease.py)
    attempts.jsonl   every time it was submitted or started, with the newest checkpoint at that time, and the last sign
                     of life of the sitting before
    STOPPED.json     {"state": "diverged" | "failed" | "stuck" | "cancelled", ...}: why the run ended, where an
                     automatic retry would not help; deleted when the run is resumed
    replay/          steps that diverged or were skipped, to be repeated (replays.py)
    DONE.json        written last; the run is finished if it exists, whatever else says otherwise

Every .json file holds the run_id and its own hash (files.py). In a run of several processes only process 0 writes.
Nothing here imports jax.
"""

import contextlib
import hashlib
import json
import logging
import math
import time
from dataclasses import dataclass

from etils import epath

from ladder.config import canonical_json
from ladder.errors import DamagedError, InputError
from ladder.rundir import segments
from ladder.rundir.files import (
    create,
    is_local,
    manifests,
    published_steps,
    read_bytes,
    read_many,
    sealed,
    unsealed,
    write_atomic,
)
from ladder.rundir.kill_points import phase
from ladder.rundir.lease import is_live, last_renewal, read_lease
from ladder.rundir.segments import ROW_KEYS

_log = logging.getLogger(__name__)
STOPPED = ("diverged", "failed", "stuck", "cancelled")
_NUMBER, _STEP = (int, float, type(None)), (int, type(None))
_FIELDS = {
    "config.json": {"run_id": str, "derived": dict},
    "DONE.json": {"step": int},
    "STOPPED.json": {"state": str, "step": _STEP, "loss": _NUMBER, "reason": str},
    "heartbeat.json": {"step": _STEP, "loss": _NUMBER, "rate": _NUMBER},
}
_ATTEMPT = {"by": str, "durable": _STEP, "time": (int, float)}
# How to mend a damaged file.
_MEND = {
    "config.json": "delete it and write it again with ladder submit, or ladder train NAME --rung RUNG",
    "DONE.json": "delete it and train the run again; it goes on from its last checkpoint",
    "STOPPED.json": "delete it; ladder submit resumes the run",
}


@dataclass(frozen=True)
class RunState:
    """The state that `ladder status` shows. name: pending, running, stale, done, damaged or one of STOPPED."""

    name: str
    step: int | None = None
    loss: float | None = None
    detail: str = ""


class Record:
    """One run directory, local or any other epath; the module docstring lists its files.

    listing: of the segments that this object has published, or found when it resumed (segments.py). lease: of the
    process that trains the run; with it nothing is published after the lease is lost. files: of the directory
    (snapshot.py), to read from instead; then nothing is written.
    """

    def __init__(self, directory, process_index=0, lease=None, files=None):
        self.directory, self._files = epath.Path(directory), files
        self.metrics = self.directory / "metrics"
        self.process_index, self.lease = process_index, lease
        self.listing = {}
        self._buffer = []  # (step, line), not yet published
        self._published = -1

    def check_lease(self):
        """Raise Preempted if this process trains the run and another has taken its lease."""
        if self.lease is not None:
            self.lease.check()

    def write_config(self, config):
        """Write config.json. What enters the run_id is fixed; the layout, evaluations, cadence and a trunk's length may
        change each time the run is resumed. Raises InputError if the directory is another run's, DamagedError if the
        existing file is damaged."""
        self._read("config.json")
        if config.get("run_id") != self.directory.name:
            raise InputError(f"{self.directory}: not a directory of run {config.get('run_id')}; use one of its name")
        self._write("config.json", config)

    def read_config(self):
        """The dictionary in config.json. Raises DamagedError if it is absent, damaged or one of another run."""
        config = self._read("config.json")
        if config is None:
            raise DamagedError(f"{self.directory / 'config.json'}: there is none; name a run directory or a rung")
        return config

    def group(self):
        """The records of all runs that are trained together with this one (`ladder train --vmap`), itself among them.
        Raises DamagedError as `read_config` does."""
        members = self.read_config().get("group", {}).get("members", ())
        return [Record(self.directory.parent / run_id, self.process_index) for run_id in members] or [self]

    def heartbeat(self, step, loss, rate, data_seconds=0.0, sitting=None, skipped=0):
        """Replace heartbeat.json: step, loss (nats per token), rate (tokens per second), data_seconds (how long the
        run has waited for data), sitting (where the time of this sitting went: monitor/spans.py), skipped (steps whose
        update was skipped)."""
        beat = {"step": step, "loss": _finite(loss), "rate": _finite(rate), "time": time.time()}
        beat |= {"data_seconds": round(data_seconds, 3), "sitting": sitting}
        beat |= {"skipped": skipped} if skipped else {}
        self._write("heartbeat.json", beat, durable=False)

    def beat(self):
        """The content of heartbeat.json, or None before the first; a damaged one is replaced by the next."""
        try:
            return self._read("heartbeat.json")
        except DamagedError:
            return None

    def timing(self, **figures):
        """Append one line of wall-clock figures to timing.jsonl."""
        self._append("timing.jsonl", figures)

    def timings(self):
        """The rows of timing.jsonl, in order. A line that a crash truncated is skipped."""
        rows = []
        for line in (self._content("timing.jsonl") or b"").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                rows += [row for row in [json.loads(line)] if isinstance(row, dict)]
        return rows

    def last_life(self):
        """{"time", "sitting"} of the last sign of life of a process that trains the run: the time of its heartbeat or
        of the renewal of its lease, whichever is later, and the heartbeat's sitting. None before the first."""
        beat, lease = self.beat(), read_lease(self.directory, self._files)
        times = [beat.get("time", 0.0)] if beat else []
        times += [last_renewal(lease)] if lease else []
        return {"time": max(times), "sitting": (beat or {}).get("sitting")} if times else None

    def attempt(self, cause, began=None):
        """Append a row to attempts.jsonl. cause: "submit", "train" (a sitting begins), or "retry" (by a person, even
        after failures). began: when the process started (seconds since 1970); None for now."""
        saved = self.saved_steps()
        row = {"by": cause, "durable": saved[-1] if saved else None, "time": began or time.time()}
        if cause == "train":  # its heartbeats will replace those of the sitting before
            row["last"] = self.last_life()
        self._append("attempts.jsonl", row | {"sha256": _line_hash(row)})

    def attempts(self):
        """The rows that `attempt` wrote, in order. A line that a crash truncated, or that is damaged, is skipped."""
        return [row for row in self._attempts() if row is not None]

    def damaged_attempts(self):
        """The numbers of the lines of attempts.jsonl that are damaged."""
        return [number for number, row in enumerate(self._attempts(), start=1) if row is None]

    def _attempts(self):
        content = self._content("attempts.jsonl") or b""
        return [_attempt(line) for line in content.decode("utf-8", errors="replace").splitlines()]

    def _content(self, name):
        """The bytes of a file; None if it is absent."""
        if self._files is not None:
            return self._files.contents.get(name)
        return next(iter(read_many([self.directory / name]).values()), None)

    def saved_steps(self):
        """The steps of the published checkpoints, ascending; a crash loses nothing up to the last of them."""
        if self._files is not None:
            return self._files.saved_steps
        return published_steps(manifests(self.directory / "checkpoints"))

    def log(self, rows):
        """Buffer metric rows (with ROW_KEYS, perhaps more) in memory until `publish`."""
        for row in rows:
            if not row.keys() >= ROW_KEYS:
                raise ValueError(f"a metrics row lacks {sorted(ROW_KEYS - row.keys())}: {row}")
            if row["step"] <= self._published:
                raise ValueError(f"steps up to {self._published} are published: {row}")
            self._buffer.append((row["step"], canonical_json(row)))

    def publish(self, step):
        """Write the segment that ends at `step`. Call it just before the commit of that step's checkpoint.

        Raises Preempted if another process has taken the lease.
        """
        if step <= self._published:
            raise ValueError(f"steps up to {self._published} are published already, not {step}")
        name = segments.name(self._published + 1, step)
        content = "".join(line + "\n" for row_step, line in self._buffer if row_step <= step)
        if self.process_index == 0:
            self.metrics.mkdir(parents=True, exist_ok=True)
            self.check_lease()
            try:
                created = create(self.metrics / name, content, reached="metrics-written")
            except OSError:  # such as a temporary file that the next holder of the lease has deleted
                self.check_lease()
                raise
            if not created:
                # Of an earlier holder of the lease, which wrote it after this process had begun, or of a later one.
                self.check_lease()
                write_atomic(self.metrics / name, content)
        phase("metrics-published")
        self.listing[name] = segments.entry(content.encode())
        self._buffer = [(row_step, line) for row_step, line in self._buffer if row_step > step]
        self._published = step

    def rewind(self, step=-1, origin=-1, listing=None):
        """Reset the metrics to those at the checkpoint of `step` (-1: none was restored). Call it before training.

        Clears the buffer and deletes every segment after `step`, and STOPPED.json. origin: the step before the run's
        first one, -1 from scratch, parent_step for a branch. listing: of the segments up to `step`, from the manifest
        of the checkpoint; None where it was made before manifests had one, and then the segments are taken as they are.

        Raises InputError if the segments do not cover steps origin + 1 to `step`, or differ from the listing.
        """
        names = segments.names(self.metrics)
        later = [name for name in names if segments.steps(name)[0] > step]
        if listing is None:
            _log.warning("%s: made before ladder kept hashes; taken as it is", self.metrics)
            earlier = [name for name in names if name not in later]
            listing = {name: segments.entry(read_bytes(self.metrics / name)) for name in earlier}
        gap = segments.gap(listing, origin + 1, step)
        problems = segments.problems(self.metrics, listing) or [f"{self.metrics}: {gap}"] * bool(gap)
        if problems:
            raise InputError(f"{problems[0]}; delete the run directory and train it again")
        if self.process_index == 0:
            for name in reversed(later):  # newest first: if the process is killed here, no gap is left
                (self.metrics / name).unlink()
            for path in self.metrics.glob(".*.tmp"):
                path.unlink()
            (self.directory / "STOPPED.json").unlink(missing_ok=True)
        self._buffer, self._published, self.listing = [], step, dict(listing)

    def rows(self):
        """All published rows in order. Raises InputError with file and line if one is damaged."""
        for name in segments.names(self.metrics):
            yield from segments.rows(self.metrics / name)

    def finish(self, **summary):
        """Write DONE.json: the run is finished. Raises InputError if the metrics are not those that were written."""
        problems = segments.problems(self.metrics, self.listing) if self.process_index == 0 else []
        if problems:
            raise InputError(f"{problems[0]}; delete the run directory and train it again")
        phase("before-done")
        self.check_lease()
        self._write("DONE.json", summary | {"metrics": self.listing})

    def done(self):
        """The content of DONE.json, or None. Raises DamagedError if it is damaged."""
        return self._read("DONE.json")

    def stop(self, state, step, loss, reason):
        """Write STOPPED.json. state: "diverged" (exit code 78), "failed" (exit code 1 or 2), "stuck" (three attempts
        without a new checkpoint) or "cancelled" (by a person). loss: nats per token."""
        if state not in STOPPED:
            raise ValueError(f"a run stops as {', '.join(STOPPED)}, not as {state!r}")
        self._write("STOPPED.json", {"state": state, "step": step, "loss": _finite(loss), "reason": reason})

    def stopped(self):
        """The content of STOPPED.json, or None. Raises DamagedError if it is damaged."""
        return self._read("STOPPED.json")

    def is_done(self):
        """Whether DONE.json exists and config.json asks for no more steps than it has (a trunk can be made longer)."""
        return self._has_all_steps(self.done())

    def _has_all_steps(self, done: dict | None) -> bool:
        return done is not None and done["step"] >= self.read_config()["derived"]["steps"]

    def state(self):
        """The RunState according to the files, whatever a scheduler reports."""
        try:
            return self._state()
        except DamagedError as error:
            return RunState("damaged", detail=str(error))

    def _state(self):
        beat, stopped, done = self.beat(), self.stopped(), self.done()
        lease = read_lease(self.directory, self._files)
        if self._has_all_steps(done):
            return RunState("done", done.get("step"), done.get("loss"))
        step, loss = (beat.get("step"), beat.get("loss")) if beat else (None, None)
        if lease and is_live(lease):
            return RunState("running", step, loss, lease["owner"])
        if stopped:
            return RunState(stopped["state"], stopped["step"], stopped["loss"], stopped["reason"])
        if beat or lease:
            return RunState("stale", step, loss, "started and not finished, but no process trains it")
        return RunState("pending")

    def _append(self, name, row):
        if self.process_index != 0:
            return
        path = self.directory / name
        line = canonical_json(row) + "\n"
        if is_local(path):
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
        else:  # object stores cannot append
            write_atomic(path, b"".join(read_many([path]).values()).decode() + line)

    def _read(self, name):
        """The content of a .json file, or None. Raises DamagedError if it is damaged or belongs to another run."""
        path, mend = self.directory / name, f"; {_MEND[name]}" if name in _MEND else ""
        content = self._content(name)
        if content is None:
            return None
        try:
            value = unsealed(content, path)
        except DamagedError as error:
            raise DamagedError(f"{error}{mend}") from None
        run_id = value.get("run_id", self.directory.name)
        if run_id != self.directory.name:
            raise DamagedError(f"{path}: belongs to run {run_id}, not to {self.directory.name}{mend}")
        for key, kind in _FIELDS[name].items():
            if not isinstance(value.get(key), kind):
                raise DamagedError(f"{path}: damaged: {key} is {value.get(key)!r}{mend}")
        return value

    def _write(self, name, value, durable=True):
        if self.process_index == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomic(self.directory / name, sealed({"run_id": self.directory.name} | value), durable=durable)


def _attempt(line):
    """The row in a line of attempts.jsonl; None if it is damaged. Older rows have no hash."""
    try:
        row = json.loads(line)
        stated = row.pop("sha256", None)
        intact = all(isinstance(row[name], kind) for name, kind in _ATTEMPT.items())
        return row if intact and stated in (None, _line_hash(row)) else None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None


def _line_hash(row):
    return hashlib.sha256(canonical_json(row).encode()).hexdigest()[:8]


def _finite(value):
    return float(value) if value is not None and math.isfinite(value) else None
