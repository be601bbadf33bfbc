"""How many devices each axis of a layout takes. Needs no device and no jax: `submit` asks before any job does."""

import math

from ladder.config import Mesh, Rung
from ladder.errors import check

AXES = ("replica", "fsdp", "tensor", "sequence")


def shape(layout: Mesh, devices: int, slices: int = 1) -> tuple[int, int, int, int]:
    """The size of each of AXES. devices: of all slices. Raises InputError where the layout does not fit them."""
    others = layout.replica * layout.tensor * layout.sequence
    fsdp = max(1, devices // others) if layout.fsdp == -1 else layout.fsdp
    sizes = (layout.replica, fsdp, layout.tensor, layout.sequence)
    named = " x ".join(f"{axis}={n}" for axis, n in zip(AXES, sizes, strict=True))
    check(
        math.prod(sizes) == devices,
        f"mesh {named} takes {math.prod(sizes)} devices, "
        f"there are {devices}: set mesh.fsdp=-1, or make the product {devices}",
    )
    check(  # only gradients may cross the slow network between slices
        layout.replica % slices == 0,
        f"mesh.replica = {layout.replica} does not divide over {slices} slices: set it to {slices}",
    )
    return sizes


def check_batch(rung: Rung, data_shards: int, tensor: int) -> None:
    """Raise InputError where a microbatch does not divide over the devices. data_shards: sizes of replica x fsdp."""
    microbatch = rung.batch_sequences // rung.microbatches
    more = tensor * data_shards // math.gcd(microbatch, data_shards)
    check(
        microbatch % data_shards == 0,
        f"rung {rung.label}: a microbatch of {microbatch} sequences does not divide over {data_shards} devices; "
        f"set mesh.tensor={more}, or "
        f"set batch_tokens to a multiple of {data_shards * rung.microbatches * rung.model.seq_len}",
    )
