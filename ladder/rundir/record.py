"""The run directory: every file that one rung writes, except its checkpoints.

    config.json      the config, canonical; its run_id never changes
    metrics/<first>-<last>.jsonl
                     immutable segments; each is published just before the checkpoint of step <last>
    timing.jsonl     wall-clock figures; the only rows that may differ between two identical runs
    heartbeat.json   the latest step, loss and rate
    lease.json       which process trains this run, and until when (see lease.py)
    attempts.jsonl   every time it was submitted or started, with the newest checkpoint at that time
    STOPPED.json     {"state": "diverged" | "failed" | "stuck" | "cancelled", ...}: why the run ended, where an
                     automatic retry would not help; deleted when the run is resumed
    DONE.json        written last; the run is finished if it exists, whatever else says otherwise

In a run of several processes only process 0 writes. Nothing here imports jax.
"""

import json
import math
import re
import time
from dataclasses import dataclass

from etils import epath

from ladder.config import canonical_json
from ladder.errors import InputError
from ladder.rundir.files import is_local, read_json, write_atomic
from ladder.rundir.kill_points import phase
from ladder.rundir.lease import is_live, read_lease

STOPPED = ("diverged", "failed", "stuck", "cancelled")
ROW_KEYS = frozenset(("step", "tokens", "kind", "task", "metric", "value", "stderr", "n_docs"))
_SEGMENT = re.compile(r"(\d{9})-(\d{9})\.jsonl")


@dataclass(frozen=True)
class RunState:
    """The state that `ladder status` shows. name: pending, running, stale, done or one of STOPPED."""

    name: str
    step: int | None = None
    loss: float | None = None
    detail: str = ""


class Record:
    """One run directory, local or any other epath; the module docstring lists its files."""

    def __init__(self, directory, process_index=0):
        self.directory = epath.Path(directory)
        self.metrics = self.directory / "metrics"
        self.process_index = process_index
        self._buffer = []  # (step, line), not yet published
        self._published = -1

    def write_config(self, config):
        """Write config.json; raises InputError if the existing one has another run_id. What enters the run_id is
        fixed; the layout, evaluations, cadence and a trunk's length may change each time the run is resumed."""
        path = self.directory / "config.json"
        run_id = (read_json(path) if path.exists() else config).get("run_id")
        if run_id != config.get("run_id"):
            raise InputError(f"{path}: belongs to run {run_id}; use another directory, or delete this one")
        self._write("config.json", config)

    def read_config(self):
        """The dictionary in config.json."""
        config = self._read("config.json")
        if config is None:
            raise InputError(f"{self.directory / 'config.json'}: there is none; name a run directory or a rung")
        return config

    def heartbeat(self, step, loss, rate):
        """Replace heartbeat.json: step, loss (nats per token), rate (tokens per second)."""
        beat = {"step": step, "loss": _finite(loss), "rate": _finite(rate), "time": time.time()}
        self._write("heartbeat.json", beat, durable=False)

    def beat(self):
        """The content of heartbeat.json, or None before the first."""
        return self._read("heartbeat.json")

    def timing(self, **figures):
        """Append one line of wall-clock figures to timing.jsonl."""
        self._append("timing.jsonl", figures)

    def attempt(self, cause):
        """Append a row to attempts.jsonl. cause: "submit", "train", or "retry" (by a person, even after failures)."""
        saved = self.saved_steps()
        self._append("attempts.jsonl", {"by": cause, "durable": saved[-1] if saved else None, "time": time.time()})

    def attempts(self):
        """The rows that `attempt` wrote, in order; a line that a crash truncated is skipped."""
        path, rows = self.directory / "attempts.jsonl", []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return [row for row in rows if isinstance(row, dict) and row.keys() >= {"by", "durable", "time"}]

    def saved_steps(self):
        """The steps of the published checkpoints, ascending; a crash loses nothing up to the last of them."""
        folder = self.directory / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        return sorted(int(name) for name in names if name.isdigit() and (folder / name / "MANIFEST.json").exists())

    def log(self, rows):
        """Buffer metric rows (with ROW_KEYS, perhaps more) in memory until `publish`."""
        for row in rows:
            if not row.keys() >= ROW_KEYS:
                raise ValueError(f"a metrics row lacks {sorted(ROW_KEYS - row.keys())}: {row}")
            if row["step"] <= self._published:
                raise ValueError(f"steps up to {self._published} are published: {row}")
            self._buffer.append((row["step"], canonical_json(row)))

    def publish(self, step):
        """Write the segment that ends at `step`. Call it just before the commit of that step's checkpoint."""
        if step <= self._published:
            raise ValueError(f"steps up to {self._published} are published already, not {step}")
        if self.process_index == 0:
            self.metrics.mkdir(parents=True, exist_ok=True)
            path = self.metrics / f"{self._published + 1:09d}-{step:09d}.jsonl"
            lines = [line + "\n" for row_step, line in self._buffer if row_step <= step]
            write_atomic(path, "".join(lines), reached="metrics-written")
        phase("metrics-published")
        self._buffer = [(row_step, line) for row_step, line in self._buffer if row_step > step]
        self._published = step

    def rewind(self, step=-1, origin=-1):
        """Reset the metrics to those at the checkpoint of `step` (-1: none was restored). Call it before training.

        Clears the buffer and deletes every segment after `step`, and STOPPED.json. origin: the step before the run's
        first one, -1 from scratch, parent_step for a branch. Raises InputError if the remaining segments do not cover
        steps origin + 1 to `step`.
        """
        covered, later = origin, []
        for path, first, last in self._segments():
            if first > step:
                later.append(path)
                continue
            if first != covered + 1 or last > step:
                raise InputError(
                    f"{path}: expected a segment that begins at step {covered + 1} and ends by the restored step "
                    f"{step}; delete the run directory and train it again"
                )
            covered = last
        if covered != step:
            raise InputError(
                f"{self.metrics}: steps {covered + 1} to {step} are missing, but the checkpoint of step {step} exists; "
                "delete the run directory and train it again"
            )
        if self.process_index == 0:
            for path in reversed(later):  # newest first: if the process is killed here, no gap is left
                path.unlink()
            for path in self.metrics.glob(".*.tmp"):
                path.unlink()
            (self.directory / "STOPPED.json").unlink(missing_ok=True)
        self._buffer, self._published = [], step

    def rows(self):
        """All published rows in order. Raises InputError with file and line if one is damaged."""
        for path, _, _ in self._segments():
            lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
            for number, line in enumerate(lines[:-1], start=1):
                yield _parsed_row(line, f"{path}:{number}")
            if lines[-1]:
                raise InputError(f"{path}:{len(lines)}: truncated in the middle of a line")

    def finish(self, **summary):
        """Write DONE.json: the run is finished."""
        phase("before-done")
        self._write("DONE.json", summary)

    def stop(self, state, step, loss, reason):
        """Write STOPPED.json. state: "diverged" (exit code 78), "failed" (exit code 1 or 2), "stuck" (three attempts
        without a new checkpoint) or "cancelled" (by a person). loss: nats per token."""
        if state not in STOPPED:
            raise ValueError(f"a run stops as {', '.join(STOPPED)}, not as {state!r}")
        self._write("STOPPED.json", {"state": state, "step": step, "loss": _finite(loss), "reason": reason})

    def is_done(self):
        """Whether DONE.json exists and config.json asks for no more steps than it has (a trunk can be made longer)."""
        return self._has_all_steps(self._read("DONE.json"))

    def _has_all_steps(self, done: dict | None) -> bool:
        return done is not None and done["step"] >= self.read_config()["derived"]["steps"]

    def state(self):
        """The RunState according to the files, whatever a scheduler reports."""
        beat, stopped, done = self.beat(), self._read("STOPPED.json"), self._read("DONE.json")
        lease = read_lease(self.directory)
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

    def _segments(self):
        paths = sorted(self.metrics.iterdir()) if self.metrics.exists() else []
        matches = [(path, _SEGMENT.fullmatch(path.name)) for path in paths]
        return [(path, int(match[1]), int(match[2])) for path, match in matches if match]

    def _append(self, name, row):
        if self.process_index != 0:
            return
        path = self.directory / name
        line = canonical_json(row) + "\n"
        if is_local(path):
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
        else:  # object stores cannot append
            path.write_text((path.read_text() if path.exists() else "") + line)

    def _read(self, name):
        path = self.directory / name
        try:
            return read_json(path)
        except FileNotFoundError:
            return None

    def _write(self, name, value, durable=True):
        if self.process_index == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            value = {"schema_version": 1} | value
            text = json.dumps(value, sort_keys=True, allow_nan=False, indent=2)
            write_atomic(self.directory / name, text + "\n", durable=durable)


def _parsed_row(line, where):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict) or not row.keys() >= ROW_KEYS:
        raise InputError(f"{where}: not a metrics row: it needs {', '.join(sorted(ROW_KEYS))}")
    value, step = row["value"], row["step"]
    if type(step) is not int or type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{where}: step must be a whole number and value a finite number")
    return row


def _finite(value):
    return float(value) if value is not None and math.isfinite(value) else None
