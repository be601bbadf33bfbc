"""Which meshes are worth compiling for a rung on a topology, and which of those compiled is the best."""

from dataclasses import replace

from ladder import topologies
from ladder.config import Rung
from ladder.sizes import memory_bytes

ROWS = 16  # of a weight on a device: fewer do not fill a tile, and XLA gathers by sums, which send twice as much
ROOM = 0.9  # of the memory
KEPT = ("none", "dots", "full")  # by the backward pass, the fastest first


def candidates(rung: Rung, topology: str, slices: int = 1) -> list[Rung]:
    """The rung on few meshes: for tensors the two smallest numbers of devices with which the batch divides; the state
    split over a slice, or where that leaves weights too thin, over the largest part of it that does not. Each with the
    two fastest of what the backward pass may keep that fit by the estimate of sizes.py, in the fewest microbatches."""
    chips, found = topologies.parse(topology).chips, []
    for tensor in (1, 2, 4, 8):
        if chips % tensor or rung.model.kv_heads % tensor or rung.batch_sequences % (chips // tensor * slices):
            continue
        whole = chips // tensor
        rows = rung.batch_sequences // (whole * slices)
        thick = [n for n in range(1, whole + 1) if whole % n == 0 and rung.model.d_model % (n * ROWS) == 0]
        fsdp = max(thick, default=whole)
        mesh = replace(rung.mesh, replica=slices * whole // fsdp, fsdp=fsdp, tensor=tensor, sequence=1, accumulation=1)
        found.append(_that_fit(replace(rung, mesh=mesh), rows, topologies.KINDS[topologies.parse(topology).kind].hbm))
    return [one for fit in found[:2] for one in fit]


def _that_fit(rung: Rung, rows: int, hbm: int) -> list[Rung]:
    """With a microbatch of up to `rows` sequences on a device."""
    found = []
    for remat in KEPT:
        for accumulation in (n for n in range(1, rows + 1) if rows % n == 0):
            held = memory_bytes(
                rung.model, rows // accumulation, rung.mesh.fsdp * rung.mesh.tensor, remat, rung.optimizer
            )
            if sum(held.values()) <= ROOM * hbm:
                found.append(replace(rung, mesh=replace(rung.mesh, remat=remat, accumulation=accumulation)))
                break
    return sorted(found, key=lambda one: one.mesh.accumulation)[:2]


def ranked(tried: list[tuple[Rung, dict]]) -> list[tuple[Rung, dict]]:
    """Those that leave a tenth of the memory free, the fastest first."""
    fit = [(rung, found) for rung, found in tried if sum(found["memory"].values()) <= ROOM * found["hbm"]]
    return sorted(fit, key=lambda one: sum(one[1]["step_seconds"]))
