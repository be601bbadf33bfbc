"""`ladder replay`: repeat a step that diverged or was skipped, and look at it."""

from dataclasses import asdict
from typing import Annotated

from rich.text import Text
from tyro.conf import Positional, arg

from ladder.rundir.files import as_path
from ladder.rundir.record import Record
from launch import terminal
from launch.cli.options import Json


def replay(
    run: Annotated[Positional[str], arg(metavar="RUN_DIR", help="a run directory")],
    /,
    *,
    step: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    json: Json = None,
) -> int:
    """Repeat one step of a run from the checkpoint before it: does it give the same loss, which rows, which layers?

    A step that diverges, or is skipped, leaves RUN_DIR/replay/<step>.json. Nothing is written into the run. The exit
    code is 1 where loss or gradient norm have other bits than in the run.

    Example: ladder replay runs/demo/d16-1xC-s0-1a2b3c4d

    Args:
        step: which step; default: the last that diverged or was skipped
    """
    directory = as_path(run)
    Record(directory).read_config()  # before the imports, which take seconds
    with terminal.working(f"repeating a step of {directory.name}"):
        from ladder.replay import repeat
        from ladder.rundir import replays

        result = repeat.replay(directory, step)
    console = terminal.console()
    for line in _summary(result):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_rows(result.rows))
    console.print(_parts(result.parts))
    if json:
        value = asdict(result) | {name: replays.bits(getattr(result, name)) for name in ("loss", "grad_norm")}
        value["rows"] = [asdict(row) | {"loss": _number(row.loss)} for row in result.rows]
        norms = ("grad_norm", "param_norm")
        value["parts"] = [asdict(p) | {name: _number(getattr(p, name)) for name in norms} for p in result.parts]
        terminal.write_json(json, value)
    return 1 if result.same is False else 0


def _summary(result):
    outcome = "skipped" if result.skipped else "not skipped"
    start = f"the checkpoint of step {result.starts_from:,}" if result.starts_from else "the initial state"
    yield f"{result.run_id}: step {result.step:,}, repeated from {start} ({outcome})"
    yield f"loss {result.loss:.9g} nats per token, gradient norm {result.grad_norm:.9g}"
    if result.same is None:
        yield "the run recorded neither for this step: nothing to compare with"
    else:
        loss, norm = (result.recorded[name]["value"] for name in ("loss", "grad_norm"))
        bits = "the same bits" if result.same else "other bits"
        yield f"{bits} as in the run" if result.same else f"{bits} than in the run: loss {loss}, gradient norm {norm}"
    for line in result.differs:
        yield f"not as in the run: {line}"


def _rows(rows) -> terminal.Table:
    grid = terminal.Table(title="rows of the batch with the largest loss")
    for name in ("row", "source", "window", "loss", "text"):
        grid.add_column(name, justify="left" if name in ("source", "text") else "right", no_wrap=name != "text")
    for row in rows:
        text = " ".join(row.text.split())
        grid.add_row(str(row.row), row.source, f"{row.window:,}", f"{row.loss:.4f}", Text(text))
    return grid


def _parts(parts) -> terminal.Table:
    grid = terminal.Table(title="before the step")
    for name in ("part", "gradient norm", "parameter norm", "NaN or Inf in"):
        grid.add_column(name, justify="right" if "norm" in name else "left", no_wrap=name != "NaN or Inf in")
    for part in parts:
        grid.add_row(part.name, f"{part.grad_norm:.4g}", f"{part.param_norm:.4g}", Text(", ".join(part.not_finite)))
    return grid


def _number(value: float) -> float | str:
    """JSON has no NaN."""
    return value if abs(value) < float("inf") else str(value)
