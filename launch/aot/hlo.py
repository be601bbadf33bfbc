"""What a compiled module does in one step, read from its text: what is sent over which mesh axis, what memory moves."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Opcode -> bytes a device sends, of an operand of b bytes in a group of n (rings, Thakur et al. 2005).
SENT = {
    "all-gather": lambda b, n: b * (n - 1),
    "all-reduce": lambda b, n: 2 * b * (n - 1) / n,
    "reduce-scatter": lambda b, n: b * (n - 1) / n,
    "all-to-all": lambda b, n: b * (n - 1) / n,
    "collective-permute": lambda b, n: b,
}
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "iota"}
PRODUCTS = {"dot", "convolution", "custom-call"}
ASYNC = 'custom_call_target="AsyncCollective'
CALLS = {"while", "call", "conditional"}  # what they call is counted in their place


@dataclass(frozen=True)
class Op:
    name: str
    shape: str
    code: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    def attribute(self, pattern: str) -> str | None:
        found = re.search(pattern, self.rest)
        return found[1] if found else None

    @property
    def kind(self) -> str:
        """The opcode of a collective without what an asynchronous one adds."""
        return self.code.removesuffix("-start")


@dataclass(frozen=True)
class Site:
    """An operation where it runs: `times` a step, in `computation`; `fused` or otherwise part of another operation."""

    op: Op
    times: int
    computation: dict[str, Op]
    fused: bool


class Module:
    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Op]] = {}
        self.entry = ""
        for line in text.splitlines():
            if header := re.match(r"(ENTRY )?%([\w.\-]+) \(", line):
                ops = self.computations[header[2]] = {}
                self.entry = header[2] if header[1] else self.entry
            elif op := _op(line):
                ops[op.name] = op

    def sites(self) -> list[Site]:
        return list(self._sites(self.entry, 1, False))

    def _sites(self, name: str, times: int, fused: bool) -> Iterator[Site]:
        for op in self.computations[name].values():
            yield Site(op, times, self.computations[name], fused)
            inner = times * (self._trips(op) if op.code == "while" else 1)
            for called in self.called(op):
                yield from self._sites(called, inner, fused or op.code not in CALLS)

    def called(self, op: Op) -> list[str]:
        """Computations that run where `op` stands (not the scalar functions of a reduction)."""
        attribute = {"while": "body", "call": "to_apply", "conditional": "branch_computations"}.get(op.code, "calls")
        return re.findall(r"%([\w.\-]+)", op.attribute(attribute + r"=(\{[^}]*\}|%[\w.\-]+)") or "")

    def within(self, op: Op) -> Iterator[Op]:
        """Every operation of the computations that `op` calls."""
        for name in self.called(op):
            for inner in self.computations[name].values():
                yield inner
                yield from self.within(inner)

    def _trips(self, loop: Op) -> int:
        """A scan compares its counter with its length. Raises ValueError where that is not to be seen."""
        condition = self.computations[loop.attribute(r"condition=%([\w.\-]+)")]
        bounds = [int(op.rest.split(")")[0]) for op in condition.values() if op.code == "constant"]
        if len(bounds) != 1:
            raise ValueError(f"loop {loop.name}: no length in its condition")
        return bounds[0]


def _op(line: str) -> Op | None:
    found = re.match(r"  (ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)", line)
    if not found:
        return None
    operands = re.findall(r"%([\w.\-]+)", re.split(r"\)(?:, |$)", found[5], maxsplit=1)[0])
    return Op(found[2], found[3], found[4], tuple(operands), found[5], bool(found[1]))


def sizes(shape: str) -> list[tuple[int, bool]]:
    """Bytes of each array of a shape, and whether it lies in HBM (another memory space is written S(n))."""
    found = []
    for dtype, dims, layout in re.findall(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?", shape):
        bits = 0 if dtype == "token" else int((re.search(r"\d+", dtype) or "8")[0])
        count = math.prod(int(d) for d in dims.split(",") if d)
        found.append((count * bits // 8, "S(" not in layout))
    return found


def _bytes(shape: str) -> int:
    return sum(size for size, _ in sizes(shape))


def collectives(sites: list[Site], mesh: dict[str, int], slices: int = 1) -> list[dict]:
    """What a device sends in a step: {"kind", "axes", "hides", "count", "bytes"}, the most first.

    mesh: of one slice, as the module is; axes: those over which the members of a group differ, and "slices" for what
    goes through the hosts and the data-centre network. hides: whether other work runs meanwhile. A collective that is
    fused with such work stands in each of its operations, under one channel, and counts where it starts.
    """
    sending = [site for site in sites if site.op.kind in SENT or _crosses_slices(site.op)]
    starts = {_channel(site.op) for site in sending if _starts(site)}
    total: dict[tuple, list[float]] = {}
    for site in sending:
        op, kind = site.op, site.op.kind
        if _channel(op) in starts and not _starts(site):
            continue
        held = sum(_bytes(site.computation[name].shape) for name in op.operands)
        if _crosses_slices(op):
            kind = (op.attribute(r'transfer_type="(\w+)"') or "send").lower().replace("_", "-")
            axes, n = ("slices",), slices
        else:
            kind = "reduce-scatter" if kind == "all-reduce" and _scattered(site) else kind
            axes, n = _axes(op, mesh)
        hides = _channel(op) in starts or op.code == "send" or op.code.endswith("-start")
        found = total.setdefault((kind, axes, hides), [0, 0.0])
        found[0] += site.times
        found[1] += site.times * SENT.get(kind, SENT["collective-permute"])(held, n)
    rows = [
        {"kind": kind, "axes": list(axes), "hides": hides, "count": count, "bytes": sent}
        for (kind, axes, hides), (count, sent) in total.items()
    ]
    return sorted(rows, key=lambda row: -row["bytes"])


def _channel(op: Op) -> tuple[str, str]:
    return op.kind, op.attribute(r"channel_id=(\d+)") or op.name


def _starts(site: Site) -> bool:
    return any(ASYNC + "Start" in op.rest for op in site.computation.values() if op.code == "custom-call")


def _crosses_slices(op: Op) -> bool:
    return op.code == "send" and "megascale" in op.rest


def _scattered(site: Site) -> bool:
    """Whether the fusion that sums keeps a slice of the sum: TPUs have no other form of a reduce-scatter."""
    follow, users = [site.op.name], []
    while follow:
        name = follow.pop()
        for op in site.computation.values():
            if name in op.operands:
                (follow if op.code in ("get-tuple-element", "bitcast") else users).append(op.name)
    return site.fused and bool(users) and all(site.computation[u].code == "dynamic-slice" for u in users)


def _axes(op: Op, mesh: dict[str, int]) -> tuple[tuple[str, ...], int]:
    """The axes over which a group of devices differs, and the size of a group."""
    groups = _groups(op.rest, math.prod(mesh.values()))
    where = np.stack(np.unravel_index(groups, tuple(mesh.values())))  # axes, groups, members
    differs = (where != where[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, d in zip(mesh, differs, strict=True) if d), groups.shape[1]


def _groups(text: str, devices: int) -> np.ndarray:
    """Groups of devices, in any of the forms in which they are written: [groups, members]."""
    found = re.search(r"(?:replica_groups|source_target_pairs)=(\{\{[\d,{}]*\}\}|\{\}|\[\S*|mesh\[.*?\} ?)", text)
    form = found[1] if found else "{}"
    if form == "{}":
        return np.arange(devices)[None]
    if form.startswith("{{"):
        return np.array([[int(i) for i in group.split(",")] for group in form.strip("{}").split("},{")])
    if form.startswith("["):  # [2,4]<=[4,2]T(1,0): count up, reshape, transpose, reshape
        shape, counted, order = re.match(r"\[([\d,]*)\]<=\[([\d,]*)\](?:T\(([\d,]*)\))?", form).groups()
        ids = np.arange(devices).reshape(_ints(counted))
        return (ids.transpose(_ints(order)) if order else ids).reshape(_ints(shape))
    axes = dict(re.findall(r"'(\w+)'=(\d+)", form))  # mesh['a'=4,'b'=2] {'b'}
    chosen = re.findall(r"'(\w+)'", form.split("]")[1])
    ids = np.arange(devices).reshape([int(n) for n in axes.values()])
    last = [list(axes).index(axis) for axis in chosen]
    size = math.prod(ids.shape[i] for i in last)
    return ids.transpose([i for i in range(ids.ndim) if i not in last] + last).reshape(-1, size)


def _ints(text: str) -> list[int]:
    return [int(i) for i in text.split(",")]


def traffic(module: Module, sites: list[Site]) -> dict[str, int]:
    """Bytes between HBM and the chip in a step: "all", and "vector", of operations in line that have no matrix products
    and send nothing (norms, rotations, sums, the optimizer): the matrix units wait for those.
    """
    total = {"all": 0, "vector": 0}
    for site in sites:
        op = site.op
        if site.fused or op.code in FREE | CALLS:
            continue
        inner = [i for name in module.called(op) for i in module.computations[name].values()]
        moved = site.times * (_read(site, inner) + _written(op, inner))
        total["all"] += moved
        codes = {i.kind for i in module.within(op)} | {op.kind}
        if not codes & (PRODUCTS | set(SENT)) and op.code.split("-")[-1] not in ("start", "done"):
            total["vector"] += moved
    return total


def _read(site: Site, inner: list[Op]) -> float:
    """Bytes of the operands in HBM, and of those that a fusion only slices, the slices."""
    if site.op.code.endswith("-done"):
        return 0
    total = 0
    for place, name in enumerate(site.op.operands):
        whole = sum(size for size, in_hbm in sizes(site.computation[name].shape) if in_hbm)
        parameters = [i.name for i in inner if i.code == "parameter" and i.rest.startswith(f"{place})")]
        total += min(whole, sum(_used(inner, parameter) for parameter in parameters)) if inner else whole
    return total


def _used(inner: list[Op], name: str) -> float:
    """Bytes that a fusion takes of a value; infinity where it takes the whole."""
    total = 0
    for op in (i for i in inner if name in i.operands):
        if op.code == "bitcast":
            total += _used(inner, op.name)
        elif op.code in ("dynamic-slice", "slice"):
            total += _bytes(op.shape)
        elif not (op.code == "tuple" or op.kind in SENT or ASYNC in op.rest or _updates(op, name)):
            return math.inf
    return total


def _updates(op: Op, name: str) -> bool:
    return op.code == "dynamic-update-slice" and op.operands[0] == name


def _written(op: Op, inner: list[Op]) -> int:
    """Bytes of the results in HBM; of an array updated in place, the update; of one only passed on, nothing."""
    if op.code.endswith("-start"):
        return 0
    results = [size if in_hbm else 0 for size, in_hbm in sizes(op.shape)]
    made = {i.name: i for i in inner}
    root = next((i for i in inner if i.root), None)
    if root is None or root.code != "tuple":
        return min(sum(results), _made(root, made)) if root else sum(results)
    return sum(min(size, _made(made[name], made)) for name, size in zip(root.operands, results, strict=True))


def _made(op: Op, made: dict[str, Op]) -> int:
    if op.code == "bitcast":
        return _made(made[op.operands[0]], made)
    if op.code == "parameter" or op.kind in SENT or ASYNC + "Start" in op.rest:
        return 0
    return _bytes(made[op.operands[1]].shape if op.code == "dynamic-update-slice" else op.shape)
