"""The verb that asks the TPU compiler before a TPU is paid for."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from tyro.conf import arg

import configs
from launch import runs, show
from launch.flags import Json, Name, Overrides

CACHE = Path(".cache/check")


def check(
    name: Name,
    overrides: Overrides = (),
    /,
    *,
    rung: str,
    topology: Annotated[str, arg(metavar="KIND:AxB")],
    slices: int = 1,
    shardings: bool = False,
    json: Json = None,
) -> None:
    """Compile a rung's train step for a TPU topology, without a TPU: does it fit, and how long will it take.

    Example: ladder check olmo2 --rung 7B-4T --topology v5p:8x8x8

    Args:
        rung: by label or the start of its run_id
        topology: of one slice
        slices: joined by the data-centre network (mesh.replica must be a multiple)
        shardings: where every array of the state lies
    """
    from ladder import aot

    chosen = runs.pick(configs.overridden(configs.load(name), overrides), rung)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(f"compiling {chosen.label} for {slices} x {topology} (minutes; kept in {CACHE})")
        found = aot.check(chosen, topology, slices, CACHE)
    show.console().print(_table(chosen.label, found))
    if shardings:
        show.console().print(_shardings(found))
    if json:
        show.write_json(json, {"run_id": chosen.run_id} | found)


def _table(label: str, found: dict) -> Table:
    grid = Table(title=f"{label} on {found['slices']} x {found['topology']}", title_justify="left", show_header=False)
    memory = found["memory"]
    total = sum(memory.values())
    mesh = " ".join(f"{axis}={n}" for axis, n in found["mesh"].items())
    grid.add_row("mesh", f"{mesh} ({found['devices']} devices)")
    grid.add_row("memory of a device", f"{show.size(total)} of {show.size(found['hbm'])}: {total / found['hbm']:.0%}")
    for part, held in memory.items():
        grid.add_row(f"  {part}", show.size(held))
    grid.add_row("state donated", f"{found['donated'] / found['state']:.2%}")
    grid.add_row("attention kernels", str(found["kernels"]))
    grid.add_row("FLOPs of a step", f"{found['model_flops']:.4g} the model's, {found['hardware_flops']:.4g} computed")
    grid.add_row("a step", _range(found["step_seconds"], "{:.3g}") + " s, bound by " + found["bound_by"])
    grid.add_row("utilisation", _range([100 * u for u in found["utilisation"]], "{:.0f}") + " % of model FLOPs")
    grid.add_row("tokens per second", _range(found["tokens_per_second"], "{:,.0f}"))
    grid.add_row("the rung", _range([h / 24 for h in found["hours"]], "{:.3g}") + " days")
    grid.add_row("TPU-hours", _range(found["tpu_hours"], "{:,.0f}"))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    grid.add_row("compiled", f"in {show.duration(found['compile_seconds'])} with {versions}")
    return grid


def _range(pair: list[float], form: str) -> str:
    return " to ".join(form.format(x) for x in pair)


def _shardings(found: dict) -> Table:
    grid = Table("array", "shape", "type", "split over", "on a device", title="state", title_justify="left")
    for name, (shape, dtype, spec, held) in found["shardings"].items():
        grid.add_row(name, " x ".join(map(str, shape)), dtype, spec, show.size(held))
    return grid
