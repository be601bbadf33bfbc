"""Names, memory and speeds of TPU kinds. A topology is written kind:AxB or kind:AxBxC: v5e:4x4, v5p:8x8x8."""

import math
import re
from dataclasses import dataclass

from ladder.errors import InputError


@dataclass(frozen=True)
class Kind:
    """accelerator, gke: names in the Cloud TPU API and in GKE's node label. runtime: of the API, the image for JAX
    (cloud.google.com/tpu/docs/runtimes). api_count: what one chip adds to the number in the API's accelerator type.
    one_vm: most chips of a slice in one VM; a larger slice has 4 per VM.

    Per chip: peak in bf16 FLOP/s; hbm in bytes; rates in bytes/s: of the memory, of the links to other chips (their
    sum, one way), of the chip's share of the data-centre network. Source: cloud.google.com/tpu/docs, the page of each
    kind, system architecture (its two-way figure for the links is halved; the network of a pod is divided by its
    chips). For v4 no network figure is published: the smallest of the others is used. ring: a dimension whose size is a
    multiple of this number is a closed ring; an open one has half the bandwidth. devices: of JAX. accelerator is ""
    where the Cloud TPU API does not offer the kind.
    """

    accelerator: str
    gke: str
    runtime: str
    api_count: int
    one_vm: int
    dimensions: int
    peak: float
    hbm: int
    hbm_rate: float
    link_rate: float
    network_rate: float
    ring: int
    devices: int = 1


GIB = 1 << 30
KINDS = {
    "v4": Kind("v4", "tpu-v4-podslice", "tpu-ubuntu2204-base", 2, 4, 3, 275e12, 32 * GIB, 1200e9, 300e9, 3.125e9, 4),
    "v5e": Kind(
        "v5litepod", "tpu-v5-lite-podslice", "v2-alpha-tpuv5-lite", 1, 8, 2, 197e12, 16 * GIB, 819e9, 200e9, 3.125e9, 16
    ),
    "v5p": Kind("v5p", "tpu-v5p-slice", "v2-alpha-tpuv5", 2, 4, 3, 459e12, 95 * GIB, 2765e9, 600e9, 6.25e9, 4),
    "v6e": Kind("v6e", "tpu-v6e-slice", "v2-alpha-tpuv6e", 1, 8, 2, 918e12, 32 * GIB, 1640e9, 400e9, 12.5e9, 16),
    "tpu7x": Kind("", "tpu7x", "", 2, 4, 3, 2307e12, 192 * GIB, 7380e9, 600e9, 12.5e9, 4, devices=2),
}


@dataclass(frozen=True)
class Slice:
    """One slice, made by `parse`."""

    kind: str
    topology: str

    @property
    def chips(self) -> int:
        return math.prod(map(int, self.topology.split("x")))

    @property
    def devices(self) -> int:
        """Of JAX: two of each TPU7x chip, else one of each chip."""
        return self.chips * KINDS[self.kind].devices

    @property
    def chips_per_vm(self) -> int:
        return self.chips if self.chips <= KINDS[self.kind].one_vm else 4

    @property
    def vms(self) -> int:
        return self.chips // self.chips_per_vm

    @property
    def accelerator_type(self) -> str:
        """v5p-1024, v5litepod-16."""
        kind = KINDS[self.kind]
        return f"{kind.accelerator}-{self.chips * kind.api_count}"

    def link_share(self, spans: list[int]) -> float:
        """Share of link_rate that collectives in a group of chips can use. spans: its chips along each dimension."""
        ring, lengths = KINDS[self.kind].ring, map(int, self.topology.split("x"))
        is_ring = [n == length and n % ring == 0 for n, length in zip(spans, lengths, strict=True)]
        return sum((1 if closed else 0.5) * (n > 1) for n, closed in zip(spans, is_ring, strict=True)) / len(spans)

    @property
    def peak(self) -> float:
        """bf16 FLOP/s of all chips."""
        return self.chips * KINDS[self.kind].peak


def parse(text: str) -> Slice:
    """The slice that a topology such as "v5p:8x8x8" names. Raises InputError where there is no such slice."""
    match = re.fullmatch(r"([a-z0-9]+):([1-9]\d{0,2}(?:x[1-9]\d{0,2}){1,2})", text)
    if not match or match[1] not in KINDS:
        raise InputError(f"topology {text!r}: write KIND:AxB or KIND:AxBxC; kinds are {', '.join(KINDS)}")
    kind, tpu_slice = KINDS[match[1]], Slice(match[1], match[2])
    if tpu_slice.topology.count("x") + 1 != kind.dimensions:
        raise InputError(f"topology {text!r}: a {match[1]} slice has {kind.dimensions} dimensions")
    if tpu_slice.chips % tpu_slice.chips_per_vm:
        raise InputError(f"topology {text!r}: {tpu_slice.chips} chips do not fill VMs of {tpu_slice.chips_per_vm}")
    return tpu_slice
