"""The mesh, and the one table from logical axes to mesh axes. The only file that names mesh axes."""

import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ladder import config
from ladder.errors import InputError
from ladder.model.transformer import AXES

MESH_AXES = ("replica", "fsdp", "tensor", "sequence")

# Logical axis -> mesh axes. What is not named here is not split.
RULES = {
    "batch": ("replica", "fsdp"),
    "length": ("sequence",),
    "model": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "ffn": ("tensor",),
}
LARGE = 16 << 20  # bytes of an array that no device may hold whole where the mesh splits arrays


def make_mesh(layout: config.Mesh, devices=None) -> jax.sharding.Mesh:
    """The mesh of a layout over `devices` (all of them by default); InputError where the numbers do not divide."""
    devices = jax.devices() if devices is None else devices
    others = layout.replica * layout.tensor * layout.sequence
    fsdp = max(1, len(devices) // others) if layout.fsdp == -1 else layout.fsdp
    shape = (layout.replica, fsdp, layout.tensor, layout.sequence)
    if np.prod(shape) != len(devices):
        named = " x ".join(f"{axis}={n}" for axis, n in zip(MESH_AXES, shape, strict=True))
        raise InputError(
            f"mesh {named} takes {np.prod(shape)} devices, "
            f"there are {len(devices)}: set mesh.fsdp=-1, or make the product {len(devices)}"
        )
    slices = len({getattr(device, "slice_index", None) for device in devices})
    if layout.replica % slices:  # only gradients may cross the slow network between slices
        raise InputError(f"mesh.replica = {layout.replica} does not divide over {slices} slices: set it to {slices}")
    within = (layout.replica // slices, *shape[1:])
    # A mesh axis may take part of a dimension of the torus: 2 x 256 of 8x8x8.
    if slices == 1:
        grid = mesh_utils.create_device_mesh(within, devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
    return jax.sharding.Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 4)


def of_one_slice(mesh: jax.sharding.Mesh, slices: int) -> tuple[dict[str, int], np.ndarray]:
    """The axes of a mesh within its first slice, and where its chips stand: coordinates[axes..., 3]."""
    shape = dict(mesh.shape) | {"replica": mesh.shape["replica"] // slices}
    coordinates = np.array([device.coords for device in mesh.devices.flat[: mesh.size // slices]])
    return shape, coordinates.reshape(*shape.values(), -1)


def data_shards(mesh: jax.sharding.Mesh) -> int:
    """How many parts a batch's rows are split into."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]


def spec(mesh: jax.sharding.Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> PartitionSpec:
    """The partition of an array with these logical axes; an axis that its devices do not divide stays whole."""

    def split(axis, length):
        names = RULES.get(axis, ())
        size = int(np.prod([mesh.shape[n] for n in names]))
        return names if size > 1 and length % size == 0 else None

    return PartitionSpec(*(split(axis, length) for axis, length in zip(axes, shape, strict=True)))


def constrain(mesh: jax.sharding.Mesh):
    """The model's hook: pins an activation to the layout of its logical axes."""

    def pinned(x, axes):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(mesh, axes, x.shape)))

    return pinned


def on_each_device(mesh: jax.sharding.Mesh, attend, kernel):
    """attend(q_BLHK, k_BLGK, v_BLGK, kernel) run by every device on its own queries and heads, the keys and values of
    whole rows gathered: GSPMD cannot split a kernel. kernel(length, heads, parts): with a mask to be split likewise."""

    def split(q_BLHK, k_BLGK, v_BLGK):
        q = spec(mesh, ("batch", "length", "heads", None), q_BLHK.shape)
        kv = spec(mesh, ("batch", None, "kv_heads", None), k_BLGK.shape)
        heads = NamedSharding(mesh, q).shard_shape(q_BLHK.shape)[2]
        made = kernel(q_BLHK.shape[1], heads, mesh.shape["sequence"])
        mask = made.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, q[1])))
        each = jax.shard_map(attend, mesh=mesh, in_specs=(q, kv, kv, mask), out_specs=q, check_vma=False)
        return each(q_BLHK, k_BLGK, v_BLGK, made)

    return split


def on_own_tokens(mesh: jax.sharding.Mesh, nats):
    """nats(head_DV, x_BLD, targets_BL) run by every device on its own tokens: the head is gathered once, and its
    gradient summed once; GSPMD would do both again for every chunk of a loop. The vocabulary stays split by GSPMD."""

    def split(head_DV, x_BLD, targets_BL):
        whole, tokens = PartitionSpec(), spec(mesh, ("batch", "length"), targets_BL.shape)
        data = {*RULES["batch"], *RULES["length"]}
        each = jax.shard_map(
            nats, mesh=mesh, in_specs=(whole, tokens, tokens), out_specs=tokens, axis_names=data, check_vma=False
        )
        return each(head_DV, x_BLD, targets_BL)

    return split


def shardings(mesh: jax.sharding.Mesh, tree):
    """NamedShardings for parameters, and for optimizer state that mirrors them, by each leaf's own name."""

    def leaf(path, x):
        name = str(getattr(path[-1], "key", ""))
        axes = AXES.get(name, (None,) * x.ndim)
        axes = ("layers",) * (x.ndim - len(axes)) + axes
        return NamedSharding(mesh, spec(mesh, axes, x.shape))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def refuse_replication(mesh: jax.sharding.Mesh, abstract, placed) -> None:
    """InputError where an array over LARGE bytes would stand whole on every device of a mesh that splits arrays."""
    fsdp = mesh.shape["fsdp"]
    if fsdp * mesh.shape["tensor"] == 1:
        return
    for (path, x), where in zip(jax.tree_util.tree_leaves_with_path(abstract), jax.tree.leaves(placed), strict=True):
        if x.size * x.dtype.itemsize > LARGE and where.is_fully_replicated:
            width = abstract["params"]["embedding"].shape[1]
            divisor = math.gcd(fsdp, width)
            raise InputError(
                f"state{jax.tree_util.keystr(path)} {list(x.shape)} would stand whole on each of {mesh.size} devices: "
                f"mesh.fsdp = {fsdp} does not divide model.d_model = {width}; set mesh.fsdp={divisor} "
                f"mesh.replica={mesh.shape['replica'] * fsdp // divisor}"
            )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """tokens[B, L + 1]: rows over the data axes (L + 1 does not divide; the model pins the length)."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def stacked(sharding: NamedSharding) -> NamedSharding:
    """The sharding of several such arrays on a new leading axis, which is not split."""
    return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))


def rows_here(sharding: NamedSharding, rows: int) -> list[int]:
    """Which rows of an array [rows, ...] the devices of this process hold, ascending."""
    held = sharding.addressable_devices_indices_map((rows, 1)).values()
    return sorted({row for index in held for row in range(rows)[index[0]]})


def put(x, sharding: NamedSharding) -> jax.Array:
    """A global array from `x`, which every process has whole; unlike device_put it compares nothing between them."""
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
