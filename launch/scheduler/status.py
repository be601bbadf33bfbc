"""What a ladder's run directories say about its runs, whatever a backend reports."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.text import Text

from fitting.report.numbers import si
from ladder.errors import InputError
from ladder.rundir import lease, snapshot
from ladder.rundir.files import as_path, is_local
from ladder.rundir.record import STOPPED, Record
from launch import terminal
from launch.backends.protocol import Job
from launch.scheduler import runs

COLOURS = {
    "done": "green",
    "running": "cyan",
    "queued": "cyan",
    "stale": "yellow",
    "cancelled": "yellow",
    "diverged": "red",
    "failed": "red",
    "damaged": "red",
    "stuck": "red",
    "blocked": "red",
}


OVER = ("done", "damaged", *STOPPED)
LEAST_WAIT_SHOWN = 1.0  # seconds that a run waited for data

# The last snapshot of each ladder in a bucket, so that `ladder watch` does not read again what has not changed.
_latest: dict[Path, Mapping] = {}


@dataclass(frozen=True)
class Status:
    """One run according to its directory.

    step: the latest known; durable: of the newest published checkpoint; saved: of all published checkpoints. The run
    trains from step first to steps. loss: nats per token. rate: tokens/s. restarts: how often training began again.
    tries: how often since the newest checkpoint or the last --retry; last_try: its time (seconds since 1970).
    data_seconds: how long the loop has waited for data, as of the latest heartbeat. seconds: for how long machines have
    trained it in all attempts, at least and at most (see `seconds`). size: of its rung, "" for a fit. n_params, flops,
    split, kind: of the rung; FLOPs of this run alone. last_beat: time of the latest heartbeat (seconds since 1970).
    skipped: steps whose update was skipped, because of their loss or gradient norm.
    """

    run_id: str
    state: str
    step: int | None = None
    steps: int = 0
    loss: float | None = None
    detail: str = ""
    first: int = 0
    durable: int | None = None
    saved: tuple[int, ...] = ()
    rate: float | None = None
    batch_tokens: int = 0
    restarts: int = 0
    tries: int = 0
    last_try: float = 0.0
    data_seconds: float = 0.0
    seconds: tuple[float, float] = (0.0, 0.0)
    size: str = ""
    n_params: float = 0.0
    flops: float = 0.0
    split: str = ""
    kind: str = ""
    last_beat: float = 0.0
    skipped: int = 0

    @property
    def share(self) -> float:
        """The fraction of its own steps that are done."""
        if self.state == "done":
            return 1.0
        total = self.steps - self.first
        return min(1.0, max(0.0, ((self.step or 0) - self.first) / total)) if total else 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.state != "running" or not self.rate or self.step is None:
            return None
        return (self.steps - self.step) * self.batch_tokens / self.rate


def read(folder: Path) -> list[Status]:
    """The Status of every run directory in a ladder's folder; trunks before their branches, targets last."""
    return of_records(records(folder))


def of_records(records: Sequence[Record]) -> list[Status]:
    return [_status(record) for record in records]


def records(folder: Path, timings: bool = False) -> list[Record]:
    """The records of a ladder's runs, in the order of `read`. In a bucket their files are read together, timing.jsonl
    only with `timings`; on a disk run by run."""

    def wanted(names: Collection[str]) -> list[str]:
        return _wanted(names) + [name for name in names if timings and name == "timing.jsonl"]

    files = None if is_local(folder) else snapshot.take(folder, wanted)
    if not files or (folder / "config.json").exists():
        found = [Record(path) for path in runs.directories(folder)]
    else:
        found = [Record(run.directory, files=run) for run in files.values()]
    return sorted(found, key=_order)


def _wanted(names: Collection[str]) -> list[str]:
    """The files of a run directory that a Status needs."""
    newest = lease.newest(names, Path())
    small = ("config.json", "DONE.json", "STOPPED.json", "heartbeat.json", "attempts.jsonl", str(newest))
    return [name for name in small if name in names]


def read_jobs(jobs: Sequence[Job]) -> dict[str, Status]:
    """The Status of every job's run directory or fit directory, by run_id."""
    folder = as_path(jobs[0].directory).parent
    files = {} if is_local(folder) else snapshot.take(folder, _wanted, _latest.get(folder, {}))
    _latest[folder] = files
    records = {job.run_id: Record(job.directory, files=files.get(job.run_id)) for job in jobs}
    return {run_id: _status(record) for run_id, record in records.items()}


def of_planned(jobs: Sequence[Job]) -> dict[str, Status]:
    """As `read_jobs`, of jobs whose run directories may not be written yet: their state is then "pending"."""
    runs, not_begun = read_jobs(jobs), pending(jobs)
    for job in jobs:
        if runs[job.run_id].state == "damaged" and not (as_path(job.directory) / "config.json").exists():
            runs[job.run_id] = not_begun[job.run_id]
    return runs


def pending(jobs: Sequence[Job]) -> dict[str, Status]:
    return {job.run_id: Status(job.run_id, "pending", steps=job.steps, first=job.first) for job in jobs}


def read_run(directory) -> Status:
    """The Status of one run directory or fit directory; its state is "damaged" where a file is."""
    return _status(Record(directory))


def _status(record: Record) -> Status:
    try:
        config = record.read_config()
        derived, first = config["derived"], config.get("rung", {}).get("parent_step") or 0
    except InputError as error:
        return Status(record.directory.name, "damaged", detail=str(error))
    state, beat, saved, attempts = record.state(), record.beat(), record.saved_steps(), record.attempts()
    durable = saved[-1] if saved else None
    return Status(
        run_id=config["run_id"],
        state=state.name,
        step=state.step,
        steps=derived["steps"],
        loss=state.loss,
        detail=state.detail,
        first=first,
        durable=durable,
        saved=tuple(saved),
        rate=beat.get("rate") if beat else None,
        batch_tokens=derived.get("batch_tokens", 0),
        restarts=max(0, sum(row["by"] == "train" for row in attempts) - 1),
        tries=tries(attempts, durable),
        last_try=attempts[-1]["time"] if attempts else 0.0,
        data_seconds=(beat or {}).get("data_seconds", 0.0),
        seconds=seconds(attempts, (beat or {}).get("time", 0.0), None if state.name in OVER else time.time()),
        size=derived.get("size", ""),
        n_params=derived.get("n_params", 0.0),
        flops=float(derived.get("flops_per_token", 0)) * derived.get("batch_tokens", 0) * (derived["steps"] - first),
        split=config.get("split", ""),
        kind=derived.get("kind", ""),
        last_beat=(beat or {}).get("time", 0.0),
        skipped=(beat or {}).get("skipped", 0),
    )


def tries(attempts: Sequence[Mapping], durable: int | None) -> int:
    """How often the run was submitted or begun since the newest checkpoint or the last "retry". The larger of the two
    numbers: a backend may restart a job by itself, and a job may end before training begins."""
    counts = {"submit": 0, "train": 0}
    for row in reversed(attempts):
        if row["durable"] != durable or row["by"] not in counts:
            break
        counts[row["by"]] += 1
    return max(counts.values())


def seconds(attempts: Sequence[Mapping], last_beat: float, now: float | None) -> tuple[float, float]:
    """How long a run was trained, (at least, at most), from the times at which it was begun. now: None if it is over.

    An attempt lasts at most until the next row, or until now; at least until the last heartbeat, which is there of the
    last attempt only: earlier ones may have ended at once. Waiting for machines is not counted.
    """
    least = most = 0.0
    for i, row in enumerate(attempts):
        if row["by"] != "train":
            continue
        if i + 1 < len(attempts):
            most += max(0.0, attempts[i + 1]["time"] - row["time"])
        else:
            least = max(0.0, last_beat - row["time"])
            most += max(least, (now or 0.0) - row["time"])
    return least, most


def to_json(statuses: Sequence[Status]) -> dict:
    return {"runs": [asdict(s) | {"share": s.share, "seconds_left": s.seconds_left} for s in statuses]}


def table(statuses: Sequence[Status], states: Mapping[str, str] | None = None) -> terminal.Table:
    """states: from reconcile.ladder_states, where a backend was polled too."""
    done = sum(status.state == "done" for status in statuses)
    drop = ("saved", "restarts", "data wait", "tokens/s", "step", "loss")
    grid = terminal.Table(title=f"{done} of {len(statuses)} runs done", drop=drop)
    text = ("run", "state", "detail")
    waited = any(status.data_seconds >= LEAST_WAIT_SHOWN for status in statuses)
    columns = ["run", "state", "step", "saved", "done", "loss", "tokens/s", "restarts", "left", "detail"]
    skipped = any(status.skipped for status in statuses)
    columns[-1:-1] = ["data wait"] * waited + ["skipped"] * skipped
    for name in columns:
        grid.add_column(name, justify="left" if name in text else "right", no_wrap=name != "detail")
    for s in statuses:
        state = shown_state(s, states)
        *cells, detail = _cells(s)
        cells += [terminal.duration(s.data_seconds) if s.data_seconds >= LEAST_WAIT_SHOWN else ""] * waited
        cells += [f"{s.skipped:,}" if s.skipped else ""] * skipped
        grid.add_row(s.run_id, Text(state, COLOURS.get(state, "dim")), *cells, detail)
    return grid


def shown_state(run: Status, states: Mapping[str, str] | None = None) -> str:
    """What people read. states: from reconcile.ladder_states, where a backend was polled too."""
    state = (states or {}).get(run.run_id, run.state)
    return run.state if state in ("ended", "ready") else state


def _cells(s: Status) -> list[str]:
    return [
        f"{s.step or 0:,} / {s.steps:,}" if s.steps else "",
        "" if s.durable is None else f"{s.durable:,}",
        f"{s.share:.0%}",
        "" if s.loss is None else f"{s.loss:.4f}",
        si(s.rate, 4) if s.rate and s.state == "running" else "",
        str(s.restarts) if s.restarts else "",
        "" if s.seconds_left is None else terminal.duration(s.seconds_left),
        s.detail,
    ]


def _order(record: Record) -> tuple:
    """Small runs first, targets last, and then those whose config is damaged; the key of a sort."""
    try:
        config = record.read_config()
        derived = config["derived"]
        size = derived["n_total"], derived["seed"], derived["multiple"] or 0.0
        return False, config["split"] == "target", size, record.directory.name
    except (InputError, KeyError):
        return True, False, (), record.directory.name
