"""The device mesh, and the only table from logical axes to mesh axes. No other file names mesh axes."""

import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ladder import config
from ladder.errors import InputError
from ladder.model.transformer import AXES
from ladder.parallel import layout as layout_sizes

MESH_AXES = layout_sizes.AXES

# Logical axis -> mesh axes. A logical axis that is not listed is not sharded.
RULES = {
    "batch": ("replica", "fsdp"),
    "length": ("sequence",),
    "model": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "ffn": ("tensor",),
}
LARGE = 16 << 20  # bytes; larger arrays may not be fully replicated on a mesh that shards parameters


def make_mesh(layout: config.Mesh, devices=None) -> jax.sharding.Mesh:
    """The mesh of a layout over `devices` (default: all). Raises InputError where the layout does not fit them."""
    devices = jax.devices() if devices is None else devices
    slices = len({getattr(device, "slice_index", None) for device in devices})
    shape = layout_sizes.shape(layout, len(devices), slices)
    within = (layout.replica // slices, *shape[1:])  # a slice
    # allow_split_physical_axes: a mesh axis may cover part of a torus dimension (2 x 256 chips of 8x8x8).
    if slices == 1:
        grid = mesh_utils.create_device_mesh(within, devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
    return jax.sharding.Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 4)


def of_one_slice(mesh: jax.sharding.Mesh, slices: int) -> tuple[dict[str, int], np.ndarray]:
    """(size of each mesh axis within one slice, torus coordinates of the first slice's chips [*sizes, 3])."""
    shape = dict(mesh.shape) | {"replica": mesh.shape["replica"] // slices}
    coordinates = np.array([device.coords for device in mesh.devices.flat[: mesh.size // slices]])
    return shape, coordinates.reshape(*shape.values(), -1)


def data_shards(mesh: jax.sharding.Mesh) -> int:
    """Number of shards of a batch's rows."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]


def spec(mesh: jax.sharding.Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> PartitionSpec:
    """The partition of an array with these logical axes; an axis that its devices do not divide is not sharded."""

    def mesh_axes(axis, length):
        names = RULES.get(axis, ())
        size = int(np.prod([mesh.shape[n] for n in names]))
        return names if size > 1 and length % size == 0 else None

    return PartitionSpec(*(mesh_axes(axis, length) for axis, length in zip(axes, shape, strict=True)))


def constrain(mesh: jax.sharding.Mesh):
    """The function for `transformer.Hooks.constrain`: fixes an activation's sharding by its logical axes."""

    def constrained(x, axes):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(mesh, axes, x.shape)))

    return constrained


def on_each_device(mesh: jax.sharding.Mesh, attend, make_kernel):
    """`attend`, as attention.splash, under shard_map, because GSPMD cannot shard a kernel: each device has its own
    queries and heads, and all keys and values of its rows. make_kernel: as attention.splash_kernel."""

    def mapped(q_BLHK, k_BLGK, v_BLGK, document_BL=None):
        q = spec(mesh, ("batch", "length", "heads", None), q_BLHK.shape)
        kv = spec(mesh, ("batch", None, "kv_heads", None), k_BLGK.shape)
        heads = NamedSharding(mesh, q).shard_shape(q_BLHK.shape)[2]
        kernel = make_kernel(q_BLHK.shape[1], heads, mesh.shape["sequence"])
        mask = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, q[1])))
        own, row = PartitionSpec(*q[:2]), PartitionSpec(q[0])  # the documents of the queries and of the keys
        in_specs = (q, kv, kv, own, mask, row)
        attend_shard = jax.shard_map(attend, mesh=mesh, in_specs=in_specs, out_specs=q, check_vma=False)
        return attend_shard(q_BLHK, k_BLGK, v_BLGK, document_BL, kernel, document_BL)

    return mapped


def on_own_tokens(mesh: jax.sharding.Mesh, nats):
    """nats(head_DV, x_BLD, targets_BL) under shard_map, each device with its own tokens: the head is gathered once and
    its gradient reduced once, where GSPMD would do both for every chunk of a loop. GSPMD still shards the vocabulary.
    """

    def mapped(head_DV, x_BLD, targets_BL):
        head, tokens = PartitionSpec(), spec(mesh, ("batch", "length"), targets_BL.shape)
        manual_axes = {*RULES["batch"], *RULES["length"]}
        nats_shard = jax.shard_map(
            nats, mesh=mesh, in_specs=(head, tokens, tokens), out_specs=tokens, axis_names=manual_axes, check_vma=False
        )
        return nats_shard(head_DV, x_BLD, targets_BL)

    return mapped


def shardings(mesh: jax.sharding.Mesh, tree):
    """NamedShardings of parameters, and of optimizer state with the same structure, by the name of each leaf."""

    def leaf(path, x):
        name = str(getattr(path[-1], "key", ""))
        axes = AXES.get(name, (None,) * x.ndim)
        axes = ("layers",) * (x.ndim - len(axes)) + axes
        return NamedSharding(mesh, spec(mesh, axes, x.shape))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def refuse_replication(mesh: jax.sharding.Mesh, state, placed) -> None:
    """Raise InputError where `placed`, the shardings of `state`, fully replicate an array that is LARGE."""
    fsdp = mesh.shape["fsdp"]
    if fsdp * mesh.shape["tensor"] == 1:
        return
    for (path, x), sharding in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(placed), strict=True):
        if x.size * x.dtype.itemsize > LARGE and sharding.is_fully_replicated:
            width = state["params"]["embedding"].shape[1]
            divisor = math.gcd(fsdp, width)
            reason = f"mesh.tensor = {mesh.shape['tensor']} does not divide it; set a smaller mesh.tensor"
            if divisor < fsdp:
                replica = mesh.shape["replica"] * fsdp // divisor
                reason = f"mesh.fsdp = {fsdp} does not divide model.d_model = {width}; "
                reason += f"set mesh.fsdp={divisor} mesh.replica={replica}"
            array = f"state{jax.tree_util.keystr(path)} {list(x.shape)}"
            raise InputError(f"{array} would be fully replicated on {mesh.size} devices: {reason}")


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Of tokens[B, L + 1]: rows over the data axes. L + 1 does not divide; the model shards the length."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def stacked(sharding: NamedSharding) -> NamedSharding:
    """The sharding of such arrays stacked on a new leading axis, which is not sharded."""
    return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))


def local_rows(sharding: NamedSharding, rows: int) -> list[int]:
    """Which rows of an array [rows, ...] the devices of this process hold, ascending."""
    indices = sharding.addressable_devices_indices_map((rows, 1)).values()
    return sorted({row for index in indices for row in range(rows)[index[0]]})


def put(x, sharding: NamedSharding) -> jax.Array:
    """A global array from `x`, which every process has in full; unlike device_put it does not compare the copies."""
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
