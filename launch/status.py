"""What a ladder's run directories say about its runs, whatever a scheduler believes."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from ladder.record import Record
from launch import runs

COLOURS = {"done": "green", "running": "cyan", "stale": "yellow", "diverged": "red", "failed": "red", "pending": "dim"}


@dataclass(frozen=True)
class Status:
    run_id: str
    state: str
    step: int | None
    steps: int
    loss: float | None
    detail: str


def read(there: Path) -> list[Status]:
    """One Status for every run directory under `there`; trunks stand before their branches, targets last."""
    found = [(Record(path), path) for path in runs.directories(there)]
    read_in = [(record, record.read_config()) for record, _ in found]
    read_in.sort(key=lambda item: _order(item[1]))
    return [_status(record, config) for record, config in read_in]


def to_json(statuses: list[Status]) -> dict:
    return {"runs": [asdict(status) for status in statuses]}


def table(statuses: list[Status]) -> Table:
    done = sum(status.state == "done" for status in statuses)
    grid = Table(title=f"{done} of {len(statuses)} runs done", title_justify="left")
    for name in ("run", "state", "step", "loss", "detail"):
        grid.add_column(name, justify="right" if name in ("step", "loss") else "left", no_wrap=name != "detail")
    for s in statuses:
        step = f"{s.step or 0:,} / {s.steps:,}"
        loss = "" if s.loss is None else f"{s.loss:.4f}"
        grid.add_row(s.run_id, f"[{COLOURS[s.state]}]{s.state}", step, loss, s.detail)
    return grid


def _order(config: dict) -> tuple:
    d = config["derived"]
    return config["split"] == "target", d["n_total"], d["seed"], d["multiple"] or 0.0


def _status(record: Record, config: dict) -> Status:
    state = record.state()
    return Status(config["run_id"], state.name, state.step, config["derived"]["steps"], state.loss, state.detail)
