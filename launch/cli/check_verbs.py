"""The verb that asks the TPU compiler before a TPU is paid for."""

from pathlib import Path
from typing import Annotated

from rich.table import Table
from tyro.conf import arg

from configs import loader
from ladder.config import Rung
from ladder.errors import InputError
from launch import terminal
from launch.aot import mesh_search, roofline
from launch.cli.options import Json, Name, Overrides
from launch.scheduler import runs

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
    recommend: bool = False,
    json: Json = None,
) -> None:
    """Compile a rung's train step for a TPU topology, without a TPU: does it fit, and how long will it take.

    Example: ladder check olmo2 --rung 7B-4T --topology v5p:8x8x8

    Args:
        rung: by label or the start of its run_id
        topology: of one slice
        slices: joined by the data-centre network (mesh.replica must be a multiple)
        shardings: where every array of the state lies
        recommend: compile it on several meshes (minutes for each) and rank them
    """
    chosen = runs.pick(loader.overridden(loader.load(name), overrides), rung)
    if recommend:
        chosen = _recommend(chosen, topology, slices) or chosen
    with terminal.progress() as progress:
        progress.add_task(f"compiling {chosen.label} for {slices} x {topology} (minutes; kept in {CACHE})")
        found = roofline.check(chosen, topology, slices, CACHE)
    terminal.console().print(_table(chosen.label, found))
    if shardings:
        terminal.console().print(_shardings(found))
    if json:
        terminal.write_json(json, {"run_id": chosen.run_id} | found)


def _recommend(rung: Rung, topology: str, slices: int) -> Rung | None:
    """Print the ranking; the first of it."""
    tried, refused, todo = [], [], mesh_search.candidates(rung, topology, slices)
    with terminal.progress() as progress:
        bar = progress.add_task("")
        for done, one in enumerate(todo):
            progress.update(bar, description=f"{done} of {len(todo)} compiled; now {_named(one)} (minutes)")
            try:
                tried.append((one, roofline.check(one, topology, slices, CACHE)))
            except InputError as error:
                refused.append(str(error))
    grid = Table("mesh", "memory of a device", "a step", "utilisation", title="ranked, fastest first")
    ranking = mesh_search.ranked(tried)
    for one, found in ranking:
        used = _range([100 * u for u in found["utilisation"]], "{:.0f}") + " %"
        step = _range(found["step_seconds"], "{:.3g}") + " s"
        grid.add_row(_named(one), terminal.size(sum(found["memory"].values())), step, used)
    terminal.console().print(grid)
    for said in refused:
        terminal.console().print(said)
    return ranking[0][0] if ranking else None


def _named(rung: Rung) -> str:
    """As overrides, to be copied."""
    names = ("replica", "fsdp", "tensor", "accumulation", "remat")
    return " ".join(f"mesh.{name}={getattr(rung.mesh, name)}" for name in names)


def _table(label: str, found: dict) -> Table:
    grid = Table(title=f"{label} on {found['slices']} x {found['topology']}", title_justify="left", show_header=False)
    memory = found["memory"]
    total = sum(memory.values())
    mesh = " ".join(f"{axis}={n}" for axis, n in found["mesh"].items())
    grid.add_row("mesh", f"{mesh} ({found['devices']} devices)")
    grid.add_row(
        "memory of a device", f"{terminal.size(total)} of {terminal.size(found['hbm'])}: {total / found['hbm']:.0%}"
    )
    for part, held in memory.items():
        grid.add_row(f"  {part}", terminal.size(held))
    grid.add_row("state donated", f"{found['donated'] / found['state']:.2%}")
    grid.add_row("attention kernels", str(found["kernels"]))
    grid.add_row("FLOPs of a step", f"{found['model_flops']:.4g} the model's, {found['hardware_flops']:.4g} computed")
    for row in found["collectives"]:
        if row["bytes"] > 1e-3 * found["collectives"][0]["bytes"]:
            how = f"{row['kind']} of {terminal.size(row['bytes'])} in {row['count']}, {row['seconds']:.2g} s"
            how += " beside other work" if row["hides"] else ""
            grid.add_row(f"sent over {' x '.join(row['axes'])}", how)
    grid.add_row("at least", ", ".join(f"{term} {seconds:.3g} s" for term, seconds in found["terms"].items()))
    grid.add_row("a step", _range(found["step_seconds"], "{:.3g}") + " s, bound by " + found["bound_by"])
    grid.add_row("utilisation", _range([100 * u for u in found["utilisation"]], "{:.0f}") + " % of model FLOPs")
    grid.add_row("tokens per second", _range(found["tokens_per_second"], "{:,.0f}"))
    grid.add_row("the rung", _range([h / 24 for h in found["hours"]], "{:.3g}") + " days")
    grid.add_row("TPU-hours", _range(found["tpu_hours"], "{:,.0f}"))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    grid.add_row("compiled", f"in {terminal.duration(found['compile_seconds'])} with {versions}")
    return grid


def _range(pair: list[float], form: str) -> str:
    return " to ".join(form.format(x) for x in pair)


def _shardings(found: dict) -> Table:
    grid = Table("array", "shape", "type", "split over", "on a device", title="state", title_justify="left")
    for name, (shape, dtype, spec, held) in found["shardings"].items():
        grid.add_row(name, " x ".join(map(str, shape)), dtype, spec, terminal.size(held))
    return grid
