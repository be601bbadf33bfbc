"""What a training step spends its time on: matmuls, collectives, other computation, waiting."""

from collections import Counter
from pathlib import Path

from rich.table import Table

from launch import terminal
from launch.profiling import trace as traces
from launch.profiling.trace import HOST, Trace

# At every moment a device is counted in the first of these that it does; "idle": none of them, it waits for the host.
KINDS = ("matmul", "collectives", "other computation", *HOST, "idle")
MOST_OPS = 5


def show(folder: Path) -> None:
    """Print the breakdown of the newest trace in a profile folder."""
    trace = traces.read(folder)
    n = max(1, trace.steps) * max(1, len(trace.ops))
    ops = ", ".join(f"{name} {_ms(seconds / n)}" for name, seconds in longest(trace))
    terminal.console().print(table(trace))
    print(
        f"longest operations, a step: {ops}\nto look at the trace: pip install xprof; xprof --logdir {folder}",
        flush=True,
    )


def breakdown(trace: Trace) -> dict[str, float]:
    """Seconds of the window by kind, with the keys KINDS: the mean over devices; they add up to the window's length."""
    devices = list(trace.ops.values()) or [[]]
    host = [(begin, end, KINDS.index(part)) for begin, end, part in trace.host]
    total = Counter()
    for ops in devices:
        events = [(begin, end, KINDS.index(kind)) for begin, end, kind, _ in ops]
        total.update(_exclusive([*events, *host, (*trace.window, len(KINDS) - 1)], trace.window))
    return {kind: total[i] / len(devices) / 1e9 for i, kind in enumerate(KINDS)}


def longest(trace: Trace) -> list[tuple[str, float]]:
    """(name, seconds summed over the window and all devices) of the operations that take longest."""
    total = Counter()
    for ops in trace.ops.values():
        for begin, end, _, name in ops:
            total[name] += (end - begin) / 1e9
    return total.most_common(MOST_OPS)


def table(trace: Trace) -> Table:
    seconds, steps = breakdown(trace), max(1, trace.steps)
    window = (trace.window[1] - trace.window[0]) / 1e9
    devices = f"{len(trace.ops)} device{'s' * (len(trace.ops) != 1)}"
    grid = Table(title=f"{steps} steps on {devices}, {_ms(window / steps)} a step", title_justify="left")
    for name in ("part", "a step", "share"):
        grid.add_column(name, justify="left" if name == "part" else "right")
    for kind in KINDS:
        if seconds[kind] or kind == "idle":
            grid.add_row(kind.replace("_", " "), _ms(seconds[kind] / steps), f"{seconds[kind] / window:.1%}")
    return grid


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"


def _exclusive(events: list[tuple[float, float, int]], window: tuple[float, float]) -> Counter:
    """{kind: time} where every moment of the window counts for the lowest kind whose event runs then."""
    edges = []
    for begin, end, kind in events:
        begin, end = max(begin, window[0]), min(end, window[1])
        if begin < end:
            edges += [(begin, 1, kind), (end, -1, kind)]
    time, running, before = Counter(), Counter(), window[0]
    for at, change, kind in sorted(edges):
        active = [k for k, n in running.items() if n]
        if active:
            time[min(active)] += at - before
        running[kind] += change
        before = at
    return time
