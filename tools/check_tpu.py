"""Compile the paper's ladder and targets for TPUs (make proof-tpu) and write the table of docs/tpu.md.

Usage: python tools/check_tpu.py [LABEL ...]   with labels: only these rungs, and docs/tpu.md is not changed
"""

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console

from configs import loader
from fitting.report.numbers import si
from ladder.errors import InputError
from launch import terminal
from launch.aot import roofline
from launch.cli.verbs.check import CACHE
from launch.scheduler import runs

# rung, topology, slices, overrides. The paper's batch sizes divide over these; from 1B on, meshes of mesh_search.py.
CONFIGURATIONS = (
    ("190M-10xC", "v5e:8x8", 1, ()),
    ("370M-10xC", "v5e:8x8", 1, ()),
    ("760M-10xC", "v5e:8x8", 1, ()),
    ("1B-10xC", "v5e:16x16", 1, ("mesh.fsdp=128", "mesh.tensor=2", "mesh.remat=dots")),
    ("7B-4T", "v5p:8x8x8", 1, ("mesh.replica=2", "mesh.fsdp=256", "mesh.remat=dots")),
    ("13B-5T", "v5p:8x8x8", 1, ("mesh.replica=8", "mesh.fsdp=64", "mesh.remat=dots")),
    ("13B-5T", "v5p:8x8x8", 2, ("mesh.replica=16", "mesh.fsdp=64", "mesh.remat=dots")),
)
COLUMNS = ("rung", "slices", "overrides", "a device holds", "donated", "splash", "a device sends in a step")
COLUMNS += ("a step", "utilisation", "TPU-hours", "bound by")
SECTION = "## The rungs of `olmo2`"
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def row(label: str, topology: str, slices: int, overrides: tuple[str, ...]) -> tuple[str, dict]:
    rung = runs.pick(loader.overridden(loader.load("olmo2"), overrides), label)
    result = roofline.check(rung, topology, slices, CACHE)
    step, utilisation, hours = result["step_seconds"], result["utilisation"], result["tpu_hours"]
    cells = (
        label,
        f"{slices} x {topology}",
        " ".join(overrides),
        f"{terminal.size(sum(result['memory'].values()))} of {terminal.size(result['hbm'])}",
        f"{result['donated'] / result['state']:.0%}",
        f"{result['kernels']} kernels",
        ", ".join(f"{axes} {terminal.size(sent)}" for axes, sent in _bytes_sent(result).items()),
        f"{step[0]:.3g} to {step[1]:.3g} s",
        f"{utilisation[0]:.0%} to {utilisation[1]:.0%}",
        f"{si(hours[0], 4)} to {si(hours[1], 4)}",
        result["bound_by"],
    )
    return "| " + " | ".join(cells) + " |\n", result


def _bytes_sent(result: dict) -> dict[str, float]:
    """Bytes sent over each mesh axis, most first; axes with less than a thousandth of the total are left out."""
    total = Counter()
    for row in result["collectives"]:
        total[" x ".join(row["axes"])] += row["bytes"]
    return {axes: sent for axes, sent in total.most_common() if sent > 1e-3 * total.total()}


def main(labels: list[str]) -> int:
    console, lines, versions = Console(), [], {}
    chosen = [configuration for configuration in CONFIGURATIONS if not labels or configuration[0] in labels]
    for done, (label, topology, slices, overrides) in enumerate(chosen):
        with console.status(f"{done} of {len(chosen)} compiled; now {label} for {slices} x {topology} (minutes)"):
            try:
                line, result = row(label, topology, slices, overrides)
            except InputError as error:
                console.print(f"error: {error}")
                return 2
        lines, versions = [*lines, line], result["versions"]
        console.print(line.strip(), soft_wrap=True)
    if not labels:
        used = ", ".join(f"{name} {version}" for name, version in versions.items())
        page = Path("docs/tpu.md")
        before = page.read_text().split(SECTION)[0]
        page.write_text(f"{before}{SECTION}\n\n`make proof-tpu`, {used}:\n\n{HEADER}{''.join(lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
