"""Check that the files of a run directory are unchanged and complete."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from ladder.errors import InputError
from ladder.rundir.record import Record


@dataclass(frozen=True)
class Checked:
    """checkpoints, rows (of metrics): how many were read. problems: one line each."""

    run_id: str
    checkpoints: int
    rows: int
    problems: tuple[str, ...]


def check(directory) -> Checked:
    """Compare every file of every published checkpoint with its hash, and parse every row of the metrics."""
    from ladder.rundir.checkpoint import Checkpoints

    record = Record(directory)
    checkpoints = Checkpoints(record.directory / "checkpoints")
    steps = checkpoints.steps()
    problems = [f"checkpoint {step}: {problem}" for step in steps for problem in checkpoints.verify(step)]
    rows = 0
    try:
        for _ in record.rows():
            rows += 1
    except InputError as error:
        problems.append(str(error))
    if record.is_done() and record.read_config()["derived"]["steps"] not in steps:
        problems.append("the run is done, but the checkpoint of its last step is missing")
    return Checked(record.directory.name, len(steps), rows, tuple(problems))


def table(checked: Sequence[Checked]) -> Table:
    bad = sum(bool(c.problems) for c in checked)
    grid = Table(title=f"{len(checked) - bad} of {len(checked)} runs undamaged", title_justify="left")
    for name in ("run", "checkpoints", "rows", "problems"):
        grid.add_column(name, justify="right" if name in ("checkpoints", "rows") else "left", overflow="fold")
    for c in checked:
        problems = "\n".join(f"[red]{escape(problem)}" for problem in c.problems)
        grid.add_row(c.run_id, str(c.checkpoints), f"{c.rows:,}", problems or "[green]none")
    return grid


def to_json(checked: Sequence[Checked]) -> dict:
    return {"runs": [asdict(c) for c in checked]}
