"""The TPU kinds: what they are called, what they hold and how fast they are. A topology is written kind:AxB or
kind:AxBxC, for example v5e:4x4 or v5p:8x8x8."""

import math
import re
from dataclasses import dataclass

from ladder.errors import InputError


@dataclass(frozen=True)
class Kind:
    """accelerator, gke: names of the Cloud TPU API and of GKE's node label. counts: what the API's number counts for a
    chip. one_vm: most chips of a slice in one VM; chips of each VM in larger ones are four.

    Of a chip: peak in bf16 FLOP/s, hbm in bytes, rates in bytes/s: of its memory, of its links to other chips (all
    together, one way), of its share of the data-centre network. Source: cloud.google.com/tpu/docs, the page of each
    kind, system architecture (its two-way figure for the links halved; the network of a pod over its chips). For v4
    no network figure is published: the smallest of the others stands there. ring: a dimension of a multiple of this
    many chips is closed to a ring; an open one carries half as much.
    """

    accelerator: str
    gke: str
    counts: int
    one_vm: int
    dimensions: int
    peak: float
    hbm: int
    hbm_rate: float
    link_rate: float
    network_rate: float
    ring: int


GIB = 1 << 30
KINDS = {
    "v4": Kind("v4", "tpu-v4-podslice", 2, 4, 3, 275e12, 32 * GIB, 1200e9, 300e9, 3.125e9, 4),
    "v5e": Kind("v5litepod", "tpu-v5-lite-podslice", 1, 8, 2, 197e12, 16 * GIB, 819e9, 200e9, 3.125e9, 16),
    "v5p": Kind("v5p", "tpu-v5p-slice", 2, 4, 3, 459e12, 95 * GIB, 2765e9, 600e9, 6.25e9, 4),
    "v6e": Kind("v6e", "tpu-v6e-slice", 1, 8, 2, 918e12, 32 * GIB, 1640e9, 400e9, 12.5e9, 16),
}


@dataclass(frozen=True)
class Slice:
    """One slice; `parse` makes it."""

    kind: str
    topology: str

    @property
    def chips(self) -> int:
        return math.prod(map(int, self.topology.split("x")))

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
        return f"{kind.accelerator}-{self.chips * kind.counts}"

    def link_share(self, spans: list[int]) -> float:
        """Of a chip's links, the share that serves a group of chips which spans so many along each dimension."""
        ring, lengths = KINDS[self.kind].ring, map(int, self.topology.split("x"))
        closed = [n == length and n % ring == 0 for n, length in zip(spans, lengths, strict=True)]
        return sum((1 if c else 0.5) * (n > 1) for n, c in zip(spans, closed, strict=True)) / len(spans)

    @property
    def peak(self) -> float:
        """bf16 FLOP/s of all its chips."""
        return self.chips * KINDS[self.kind].peak


def parse(text: str) -> Slice:
    """Raises InputError that says how to write it."""
    found = re.fullmatch(r"([a-z0-9]+):([1-9]\d{0,2}(?:x[1-9]\d{0,2}){1,2})", text)
    if not found or found[1] not in KINDS:
        raise InputError(f"topology {text!r}: write KIND:AxB or KIND:AxBxC; kinds are {', '.join(KINDS)}")
    made = Slice(found[1], found[2])
    if made.topology.count("x") + 1 != KINDS[made.kind].dimensions:
        raise InputError(f"topology {text!r}: a {made.kind} slice has {KINDS[made.kind].dimensions} dimensions")
    if made.chips % made.chips_per_vm:
        raise InputError(f"topology {text!r}: {made.chips} chips do not fill VMs of {made.chips_per_vm}")
    return made
