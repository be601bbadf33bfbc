"""Compile the paper's ladder and targets for TPUs (make check-tpu) and write what was found as docs/tpu.md.

Usage: python tools/check_tpu.py [LABEL ...]   for some of the rungs only, without writing the table
"""

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console

from configs import loader
from ladder.errors import InputError
from launch import terminal
from launch.aot import roofline
from launch.cli.check_verbs import CACHE
from launch.scheduler import runs

# rung, topology, slices, overrides: what the paper's batch sizes divide over; from 1B on a mesh of meshes.candidates
WANTED = (
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
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def row(label: str, topology: str, slices: int, overrides: tuple[str, ...]) -> tuple[str, dict]:
    rung = runs.pick(loader.overridden(loader.load("olmo2"), overrides), label)
    found = roofline.check(rung, topology, slices, CACHE)
    step, used, hours = found["step_seconds"], found["utilisation"], found["tpu_hours"]
    held = f"{terminal.size(sum(found['memory'].values()))} of {terminal.size(found['hbm'])}"
    cells = (
        label,
        f"{slices} x {topology}",
        " ".join(overrides),
        held,
        f"{found['donated'] / found['state']:.0%}",
        f"{found['kernels']} kernels",
        ", ".join(f"{axes} {terminal.size(sent)}" for axes, sent in _sent(found).items()),
        f"{step[0]:.3g} to {step[1]:.3g} s",
        f"{used[0]:.0%} to {used[1]:.0%}",
        f"{terminal.count(hours[0])} to {terminal.count(hours[1])}",
        found["bound_by"],
    )
    return "| " + " | ".join(cells) + " |\n", found


def _sent(found: dict) -> dict[str, float]:
    """Bytes over each mesh axis, the most first, but for less than a thousandth."""
    sent = Counter()
    for row in found["collectives"]:
        sent[" x ".join(row["axes"])] += row["bytes"]
    return {axes: held for axes, held in sent.most_common() if held > 1e-3 * sent.total()}


def main(labels: list[str]) -> int:
    console, lines, versions = Console(), [], {}
    wanted = [w for w in WANTED if not labels or w[0] in labels]
    for done, one in enumerate(wanted):
        with console.status(f"{done} of {len(wanted)} compiled; now {one[0]} for {one[2]} x {one[1]} (minutes)"):
            try:
                line, found = row(*one)
            except InputError as error:
                console.print(f"error: {error}")
                return 2
        lines, versions = [*lines, line], found["versions"]
        console.print(line.strip(), soft_wrap=True)
    if not labels:
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        head = f"# Compiled for TPUs, without one\n\n`make check-tpu`, {text}; ladder `olmo2`. "
        head += "Memory, kernels and what is sent\nare read from the compiled module; "
        head += "times are a roofline's ([roofline.py](../launch/aot/roofline.py)).\n\n"
        Path("docs/tpu.md").write_text(head + HEADER + "".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
