"""Communication and memory traffic of one step, read from the text of the compiled HLO module."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Opcode -> bytes a device sends for an operand of b bytes in a group of n devices (rings, Thakur et al. 2005).
BYTES_SENT = {
    "all-gather": lambda b, n: b * (n - 1),
    "all-reduce": lambda b, n: 2 * b * (n - 1) / n,
    "reduce-scatter": lambda b, n: b * (n - 1) / n,
    "all-to-all": lambda b, n: b * (n - 1) / n,
    "collective-permute": lambda b, n: b,
}
NO_TRAFFIC = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "iota"}
MATRIX_PRODUCTS = {"dot", "convolution", "custom-call"}
ASYNC = 'custom_call_target="AsyncCollective'
CONTROL_FLOW = {"while", "call", "conditional"}  # the operations of their computations are counted instead


@dataclass(frozen=True)
class Op:
    """One operation; rest: its line after the opening parenthesis of the operands. root: the computation's result."""

    name: str
    shape: str
    code: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    def attribute(self, pattern: str) -> str | None:
        match = re.search(pattern, self.rest)
        return match[1] if match else None

    @property
    def kind(self) -> str:
        """The opcode without the suffix of an asynchronous collective."""
        return self.code.removesuffix("-start")


@dataclass(frozen=True)
class Site:
    """An operation that runs `times` per step in `computation`; fused: inside another operation, such as a fusion."""

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
            elif op := _parse_op(line):
                ops[op.name] = op

    def sites(self) -> list[Site]:
        return list(self._sites(self.entry, 1, False))

    def _sites(self, name: str, times: int, fused: bool) -> Iterator[Site]:
        for op in self.computations[name].values():
            yield Site(op, times, self.computations[name], fused)
            inner = times * (self._trip_count(op) if op.code == "while" else 1)
            for called in self.called(op):
                yield from self._sites(called, inner, fused or op.code not in CONTROL_FLOW)

    def called(self, op: Op) -> list[str]:
        """Names of the computations that `op` runs (without the scalar function of a reduction)."""
        attribute = {"while": "body", "call": "to_apply", "conditional": "branch_computations"}.get(op.code, "calls")
        return re.findall(r"%([\w.\-]+)", op.attribute(attribute + r"=(\{[^}]*\}|%[\w.\-]+)") or "")

    def within(self, op: Op) -> Iterator[Op]:
        """Every operation of the computations that `op` runs, nested ones included."""
        for name in self.called(op):
            for inner in self.computations[name].values():
                yield inner
                yield from self.within(inner)

    def _trip_count(self, loop: Op) -> int:
        """The only constant in the loop's condition, as a scan has it. Raises ValueError for any other loop."""
        condition = self.computations[loop.attribute(r"condition=%([\w.\-]+)")]
        bounds = [int(op.rest.split(")")[0]) for op in condition.values() if op.code == "constant"]
        if len(bounds) != 1:
            raise ValueError(f"loop {loop.name}: its condition does not say how often it runs")
        return bounds[0]


def _parse_op(line: str) -> Op | None:
    match = re.match(r"  (ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)", line)
    if not match:
        return None
    operands = re.findall(r"%([\w.\-]+)", re.split(r"\)(?:, |$)", match[5], maxsplit=1)[0])
    return Op(match[2], match[3], match[4], tuple(operands), match[5], bool(match[1]))


def sizes(shape: str) -> list[tuple[int, bool]]:
    """(bytes, whether it is in HBM) of each array of a shape; another memory space is written S(n)."""
    arrays = []
    for dtype, dims, layout in re.findall(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?", shape):
        bits = 0 if dtype == "token" else int((re.search(r"\d+", dtype) or "8")[0])
        count = math.prod(int(d) for d in dims.split(",") if d)
        arrays.append((count * bits // 8, "S(" not in layout))
    return arrays


def _bytes(shape: str) -> int:
    return sum(size for size, _ in sizes(shape))


def collectives(sites: list[Site], mesh: dict[str, int], slices: int = 1) -> list[dict]:
    """What a device sends in a step: {"kind", "axes", "overlapped", "count", "bytes"}, most bytes first.

    mesh: of one slice, as the module is. axes: those over which the members of a group differ; ["slices"] for transfers
    through the hosts and the data-centre network. overlapped: with other work. A collective that is
    fused with such work appears in several fusions under one channel id; it is counted in the one that starts it.
    """
    transfers = [site for site in sites if site.op.kind in BYTES_SENT or _crosses_slices(site.op)]
    fused_channels = {_channel(site.op) for site in transfers if _starts_async(site)}
    totals: dict[tuple, list[float]] = {}
    for site in transfers:
        op, kind = site.op, site.op.kind
        if _channel(op) in fused_channels and not _starts_async(site):
            continue
        operand_bytes = sum(_bytes(site.computation[name].shape) for name in op.operands)
        if _crosses_slices(op):
            kind = (op.attribute(r'transfer_type="(\w+)"') or "send").lower().replace("_", "-")
            axes, n = ("slices",), slices
        else:
            kind = "reduce-scatter" if kind == "all-reduce" and _is_reduce_scatter(site) else kind
            axes, n = _axes(op, mesh)
        overlapped = _channel(op) in fused_channels or op.code == "send" or op.code.endswith("-start")
        total = totals.setdefault((kind, axes, overlapped), [0, 0.0])
        total[0] += site.times
        total[1] += site.times * BYTES_SENT.get(kind, BYTES_SENT["collective-permute"])(operand_bytes, n)
    rows = [
        {"kind": kind, "axes": list(axes), "overlapped": overlapped, "count": count, "bytes": sent}
        for (kind, axes, overlapped), (count, sent) in totals.items()
    ]
    return sorted(rows, key=lambda row: -row["bytes"])


def _channel(op: Op) -> tuple[str, str]:
    return op.kind, op.attribute(r"channel_id=(\d+)") or op.name


def _starts_async(site: Site) -> bool:
    return any(ASYNC + "Start" in op.rest for op in site.computation.values() if op.code == "custom-call")


def _crosses_slices(op: Op) -> bool:
    return op.code == "send" and "megascale" in op.rest


def _is_reduce_scatter(site: Site) -> bool:
    """Whether the fusion of an all-reduce keeps only a slice of the sum: how TPUs compute a reduce-scatter."""
    aliases, users = [site.op.name], []
    while aliases:
        name = aliases.pop()
        for op in site.computation.values():
            if name in op.operands:
                (aliases if op.code in ("get-tuple-element", "bitcast") else users).append(op.name)
    return site.fused and bool(users) and all(site.computation[u].code == "dynamic-slice" for u in users)


def _axes(op: Op, mesh: dict[str, int]) -> tuple[tuple[str, ...], int]:
    """The axes over which the members of a group differ, and the size of a group."""
    groups = _groups(op.rest, math.prod(mesh.values()))
    coordinates = np.stack(np.unravel_index(groups, tuple(mesh.values())))  # [axes, groups, members]
    differs = (coordinates != coordinates[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, d in zip(mesh, differs, strict=True) if d), groups.shape[1]


def _groups(text: str, devices: int) -> np.ndarray:
    """Device ids of each group, from any notation that HLO has for them: [groups, members]."""
    match = re.search(r"(?:replica_groups|source_target_pairs)=(\{\{[\d,{}]*\}\}|\{\}|\[\S*|mesh\[.*?\} ?)", text)
    notation = match[1] if match else "{}"
    if notation == "{}":
        return np.arange(devices)[None]
    if notation.startswith("{{"):
        return np.array([[int(i) for i in group.split(",")] for group in notation.strip("{}").split("},{")])
    if notation.startswith("["):  # [2,4]<=[4,2]T(1,0): number the devices in order, reshape, transpose, reshape
        shape, dims, order = re.match(r"\[([\d,]*)\]<=\[([\d,]*)\](?:T\(([\d,]*)\))?", notation).groups()
        ids = np.arange(devices).reshape(_ints(dims))
        return (ids.transpose(_ints(order)) if order else ids).reshape(_ints(shape))
    axes = dict(re.findall(r"'(\w+)'=(\d+)", notation))  # mesh['a'=4,'b'=2] {'b'}
    group_axes = re.findall(r"'(\w+)'", notation.split("]")[1])
    ids = np.arange(devices).reshape([int(n) for n in axes.values()])
    last = [list(axes).index(axis) for axis in group_axes]
    size = math.prod(ids.shape[i] for i in last)
    return ids.transpose([i for i in range(ids.ndim) if i not in last] + last).reshape(-1, size)


def _ints(text: str) -> list[int]:
    return [int(i) for i in text.split(",")]


def traffic(module: Module, sites: list[Site]) -> dict[str, int]:
    """Bytes between HBM and the chip in a step: "all", and "vector", of synchronous operations without matrix products
    or communication (norms, rotary embeddings, sums, the optimizer): the matrix units wait for those.
    """
    total = {"all": 0, "vector": 0}
    for site in sites:
        op = site.op
        if site.fused or op.code in NO_TRAFFIC | CONTROL_FLOW:
            continue
        inner = [i for name in module.called(op) for i in module.computations[name].values()]
        moved = site.times * (_bytes_read(site, inner) + _bytes_written(op, inner))
        total["all"] += moved
        codes = {i.kind for i in module.within(op)} | {op.kind}
        if not codes & (MATRIX_PRODUCTS | set(BYTES_SENT)) and op.code.split("-")[-1] not in ("start", "done"):
            total["vector"] += moved
    return total


def _bytes_read(site: Site, inner: list[Op]) -> float:
    """Bytes of the operands in HBM; of an operand that a fusion only slices, of the slices."""
    if site.op.code.endswith("-done"):
        return 0
    total = 0
    for i, name in enumerate(site.op.operands):
        size = sum(size for size, in_hbm in sizes(site.computation[name].shape) if in_hbm)
        parameters = [op.name for op in inner if op.code == "parameter" and op.rest.startswith(f"{i})")]
        total += min(size, sum(_bytes_used(inner, parameter) for parameter in parameters)) if inner else size
    return total


def _bytes_used(inner: list[Op], name: str) -> float:
    """Bytes that a fusion uses of a value; infinity where it uses all of it."""
    total = 0
    for op in (i for i in inner if name in i.operands):
        if op.code == "bitcast":
            total += _bytes_used(inner, op.name)
        elif op.code in ("dynamic-slice", "slice"):
            total += _bytes(op.shape)
        elif not (op.code == "tuple" or op.kind in BYTES_SENT or ASYNC in op.rest or _updates_in_place(op, name)):
            return math.inf
    return total


def _updates_in_place(op: Op, name: str) -> bool:
    return op.code == "dynamic-update-slice" and op.operands[0] == name


def _bytes_written(op: Op, inner: list[Op]) -> int:
    """Bytes of the results in HBM: only the update of an array updated in place, nothing of one passed through."""
    if op.code.endswith("-start"):
        return 0
    results = [size if in_hbm else 0 for size, in_hbm in sizes(op.shape)]
    by_name = {i.name: i for i in inner}
    root = next((i for i in inner if i.root), None)
    if root is None or root.code != "tuple":
        return min(sum(results), _bytes_computed(root, by_name)) if root else sum(results)
    computed = [_bytes_computed(by_name[name], by_name) for name in root.operands]
    return sum(min(size, used) for size, used in zip(results, computed, strict=True))


def _bytes_computed(op: Op, by_name: dict[str, Op]) -> int:
    if op.code == "bitcast":
        return _bytes_computed(by_name[op.operands[0]], by_name)
    if op.code == "parameter" or op.kind in BYTES_SENT or ASYNC + "Start" in op.rest:
        return 0
    return _bytes(by_name[op.operands[1]].shape if op.code == "dynamic-update-slice" else op.shape)
