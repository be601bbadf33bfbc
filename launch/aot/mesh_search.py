"""Which meshes are worth compiling for a rung on a topology, and which compiled mesh is the fastest."""

from dataclasses import replace

from ladder import topologies
from ladder.config import Rung
from ladder.sizes import memory_bytes

MIN_ROWS = 16  # of a weight on a device: fewer do not fill a tile, and XLA gathers by sums, which send twice as much
MEMORY_SHARE = 0.9  # of a device's memory that a step may take
# Fields of Mesh that `candidates` chooses.
SEARCHED = ("replica", "fsdp", "tensor", "sequence", "accumulation", "remat")
REMAT = ("none", "dots", "full")  # fastest first


def candidates(rung: Rung, topology: str, slices: int = 1) -> list[Rung]:
    """The rung on at most four meshes. tensor: the two smallest sizes with which the batch divides. fsdp: the rest of
    the slice, or the largest part of it that leaves MIN_ROWS rows of a weight on a device. Each with two remat modes
    that fit by the estimate of sizes.py, chosen by fewest microbatches, then by speed."""
    tpu, by_tensor = topologies.parse(topology), []
    for tensor in (1, 2, 4, 8):
        if tpu.chips % tensor or rung.model.kv_heads % tensor or rung.batch_sequences % (tpu.chips // tensor * slices):
            continue
        shards = tpu.chips // tensor
        sequences = rung.batch_sequences // (shards * slices)
        divisors = [n for n in range(1, shards + 1) if shards % n == 0 and rung.model.d_model % (n * MIN_ROWS) == 0]
        fsdp = max(divisors, default=shards)
        mesh = replace(rung.mesh, replica=slices * shards // fsdp, fsdp=fsdp, tensor=tensor, sequence=1, accumulation=1)
        by_tensor.append(_fitting(replace(rung, mesh=mesh), sequences, topologies.KINDS[tpu.kind].hbm))
    return [candidate for fitting in by_tensor[:2] for candidate in fitting]


def _fitting(rung: Rung, sequences: int, hbm: int) -> list[Rung]:
    """sequences: of the batch on a device, the upper bound of its microbatch. hbm: bytes of a device."""
    fitting = []
    for remat in REMAT:
        for accumulation in (n for n in range(1, sequences + 1) if sequences % n == 0):
            memory = memory_bytes(
                rung.model, sequences // accumulation, rung.mesh.fsdp * rung.mesh.tensor, remat, rung.optimizer
            )
            if sum(memory.values()) <= MEMORY_SHARE * hbm:
                fitting.append(replace(rung, mesh=replace(rung.mesh, remat=remat, accumulation=accumulation)))
                break
    return sorted(fitting, key=lambda candidate: candidate.mesh.accumulation)[:2]


def ranked(compiled: list[tuple[Rung, dict]]) -> list[tuple[Rung, dict]]:
    """(rung, result of roofline.check) of those that leave a tenth of the memory free, fastest first."""
    fitting = [pair for pair in compiled if sum(pair[1]["memory"].values()) <= MEMORY_SHARE * pair[1]["hbm"]]
    return sorted(fitting, key=lambda pair: sum(pair[1]["step_seconds"]))
