"""What can be known before a run: `ladder check`, what the TPU compiler reports about a rung before you pay for a TPU;
`ladder doctor`, what is wrong with this machine."""

from pathlib import Path
from typing import Annotated

from rich.table import Table
from rich.text import Text
from tyro.conf import arg

from configs import loader
from ladder.config import Rung
from ladder.errors import InputError
from launch import terminal
from launch.aot import mesh_search, roofline
from launch.cli.options import RUNS, Json, Name, Overrides, Root
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
        rung: its label or the start of its run_id
        topology: of one slice
        slices: how many slices, joined by the data-centre network (mesh.replica must be a multiple of it)
        shardings: show how every array of the state is split over the devices
        recommend: compile the rung on several meshes (minutes for each) and rank them
    """
    if slices < 1:
        raise InputError(f"--slices {slices}: must be at least 1")
    if recommend:
        chosen_meshes = {f"mesh.{name}" for name in mesh_search.SEARCHED}
        fixed = [override for override in overrides if override.partition("=")[0] in chosen_meshes]
        if fixed:
            raise InputError(f"{' '.join(fixed)}: no effect with --recommend, which tries meshes; leave it out")
    chosen = runs.pick(loader.overridden(loader.load(name), overrides), rung)
    if recommend:
        chosen = _recommend(chosen, topology, slices) or chosen
    with terminal.progress() as progress:
        progress.add_task(f"compiling {chosen.label} for {slices} x {topology} (minutes; cached in {CACHE})")
        result = roofline.check(chosen, topology, slices, CACHE)
    terminal.console().print(_table(chosen.label, result))
    if shardings:
        terminal.console().print(_shardings(result))
    if json:
        terminal.write_json(json, {"run_id": chosen.run_id} | result)


def doctor(*, root: Root = RUNS, json: Json = None) -> int:
    """What on this machine stops a run (exit code 2): packages, devices, disk, clock, data, credentials, backends.

    Example: ladder doctor --root gs://bucket/runs
    """
    from launch.doctor.examine import examine, to_json

    findings = []
    for finding in terminal.waited(examine(root), "examining this machine"):
        findings.append(finding)
        colour = {"ok": "green", "note": "yellow", "stop": "red"}[finding.level]
        line = Text.assemble((f"{finding.level:<6}", colour), f"{finding.name:<13}{finding.message}")
        terminal.console().print(line, soft_wrap=True)  # one line each, however long
    if json:
        terminal.write_json(json, to_json(findings))
    return 2 if any(finding.level == "stop" for finding in findings) else 0


def _recommend(rung: Rung, topology: str, slices: int) -> Rung | None:
    """Print the ranking of several meshes and return the fastest; None where none fits."""
    compiled, refused, candidates = [], [], mesh_search.candidates(rung, topology, slices)
    with terminal.progress() as progress:
        bar = progress.add_task("")
        for done, candidate in enumerate(candidates):
            description = f"{done} of {len(candidates)} compiled; now {_mesh_overrides(candidate)} (minutes)"
            progress.update(bar, description=description)
            try:
                compiled.append((candidate, roofline.check(candidate, topology, slices, CACHE)))
            except InputError as error:
                refused.append(str(error))
    grid = terminal.Table(title="fastest mesh first")
    for name in ("mesh", "memory per device", "step", "utilisation"):
        grid.add_column(name, no_wrap=name != "mesh")
    ranking = mesh_search.ranked(compiled)
    for candidate, result in ranking:
        utilisation = _range([100 * u for u in result["utilisation"]], "{:.0f}") + " %"
        step = _range(result["step_seconds"], "{:.3g}") + " s"
        grid.add_row(_mesh_overrides(candidate), terminal.size(sum(result["memory"].values())), step, utilisation)
    terminal.console().print(grid)
    for message in refused:
        terminal.console().print(message)
    return ranking[0][0] if ranking else None


def _mesh_overrides(rung: Rung) -> str:
    """The mesh as overrides that a user can copy."""
    names = ("replica", "fsdp", "tensor", "accumulation", "remat")
    return " ".join(f"mesh.{name}={getattr(rung.mesh, name)}" for name in names)


def _table(label: str, result: dict) -> Table:
    title = f"{label} on {result['slices']} x {result['topology']}"
    grid = Table(title=title, title_justify="left", show_header=False)
    total, hbm = sum(result["memory"].values()), result["hbm"]
    mesh = " ".join(f"{axis}={n}" for axis, n in result["mesh"].items())
    grid.add_row("mesh", f"{mesh} ({result['devices']} devices)")
    grid.add_row("memory per device", f"{terminal.size(total)} of {terminal.size(hbm)}: {total / hbm:.0%}")
    for part, n_bytes in result["memory"].items():
        grid.add_row(f"  {part}", terminal.size(n_bytes))
    grid.add_row("state donated", f"{result['donated'] / result['state']:.2%}")
    grid.add_row("attention kernels", str(result["kernels"]))
    flops = f"{result['model_flops']:.4g} needed by the model, {result['hardware_flops']:.4g} computed"
    grid.add_row("FLOPs per step", flops)
    for row in result["collectives"]:
        if row["bytes"] > 1e-3 * result["collectives"][0]["bytes"]:
            text = f"{terminal.size(row['bytes'])} by {row['count']} {row['kind']}, {row['seconds']:.2g} s"
            text += ", overlapped" if row["overlapped"] else ""
            grid.add_row(f"sent over {' x '.join(row['axes'])}", text)
    grid.add_row("lower bounds", ", ".join(f"{term} {seconds:.3g} s" for term, seconds in result["terms"].items()))
    grid.add_row("time per step", _range(result["step_seconds"], "{:.3g}") + " s, bound by " + result["bound_by"])
    grid.add_row("utilisation", _range([100 * u for u in result["utilisation"]], "{:.0f}") + " % (model FLOPs)")
    grid.add_row("tokens per second", _range(result["tokens_per_second"], "{:,.0f}"))
    grid.add_row("time of the rung", _range([h / 24 for h in result["hours"]], "{:.3g}") + " days")
    grid.add_row("TPU-hours", _range(result["tpu_hours"], "{:,.0f}"))
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    grid.add_row("compiled", f"in {terminal.duration(result['compile_seconds'])} with {versions}")
    return grid


def _range(pair: list[float], number_format: str) -> str:
    return " to ".join(number_format.format(x) for x in pair)


def _shardings(result: dict) -> terminal.Table:
    grid = terminal.Table(title="state", drop=("type", "shape"))
    for name in ("array", "shape", "type", "split over", "per device"):
        grid.add_column(name, no_wrap=True)
    for name, (shape, dtype, spec, n_bytes) in result["shardings"].items():
        grid.add_row(name, " x ".join(map(str, shape)), dtype, spec, terminal.size(n_bytes))
    return grid
