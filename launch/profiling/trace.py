"""The parts of a profiler's trace (.xplane.pb) that a breakdown of step times needs."""

import re
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import InputError

# How operations are named, by XLA on a CPU, by XLA's category on a TPU, and by the kernel's library on a GPU.
_MATMUL = re.compile(r"dot|gemm|matmul|convolution|conv\b|cutlass|ynn|splash|attention|mha", re.I)
_COLLECTIVE = re.compile(r"all.?(reduce|gather|to.?all)|reduce.?scatter|collective|psum|ppermute|nccl|send|recv", re.I)
_CONTAINER = re.compile(r"^(while|conditional|call)\b|^end: ", re.I)  # they enclose operations of their own


@dataclass(frozen=True)
class Trace:
    """Times in nanoseconds. window: first and last moment. steps: how many. ops: of each device, (begin, end, kind,
    name), where kind is "matmul", "collectives" or "other computation"; they may overlap. host: (begin, end, part) of
    what the loop did besides (monitor/spans.py)."""

    window: tuple[float, float]
    steps: int
    ops: dict[str, list[tuple[float, float, str, str]]]
    host: list[tuple[float, float, str]]


def read(folder: Path) -> Trace:
    """The newest trace in a profile folder. Raises InputError where there is none, or it has no steps of ours."""
    from jax.profiler import ProfileData

    from ladder.monitor.profiler import STEP, WINDOW

    paths = sorted(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise InputError(f"{folder}: holds no trace (plugins/profile/*/*.xplane.pb)")
    ops, annotations = {}, []
    for plane in ProfileData.from_file(str(paths[-1])).planes:
        for line in plane.lines:
            on_device = plane.name.startswith("/device:") and line.name.startswith(("XLA Ops", "Stream", "Async XLA"))
            for event in line.events:
                begin, end = event.start_ns, event.start_ns + event.duration_ns
                stats = dict(event.stats) if on_device or plane.name.startswith("/host:CPU") else {}
                if on_device or "hlo_op" in stats:
                    if not _CONTAINER.search(event.name):
                        device = plane.name if on_device else f"CPU {stats.get('device_ordinal', 0)}"
                        kind = kind_of(event.name, str(stats.get("hlo_category", "")))
                        ops.setdefault(device, []).append((begin, end, kind, event.name))
                elif plane.name.startswith("/host:CPU"):
                    annotations.append((begin, end, event.name))
    windows = [(begin, end) for begin, end, name in annotations if name == WINDOW]
    if not windows:
        raise InputError(f"{paths[-1]}: not a trace that ladder train --profile wrote to its end")
    steps = sum(name == STEP for _, _, name in annotations)
    return Trace(windows[-1], steps, ops, [event for event in annotations if event[2] in HOST])


HOST = ("data_wait", "evaluation", "checkpoint")


def kind_of(name: str, category: str = "") -> str:
    """The kind of an operation, from its name and, on a TPU, XLA's category."""
    for kind, pattern in (("collectives", _COLLECTIVE), ("matmul", _MATMUL)):
        if pattern.search(category or name):
            return kind
    return "other computation"
