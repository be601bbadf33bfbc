"""Layouts without devices: which axis of which array goes where, and what is refused."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from ladder import config
from ladder.config import Model, Optimizer, Rung
from ladder.errors import InputError
from ladder.loop import step
from ladder.model.transformer import AXES
from ladder.parallel import sharding

DATA = ("replica", "fsdp")


@dataclass(frozen=True)
class Chip:
    """The attributes of a v5p chip that JAX reads."""

    slice_index: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0
    process_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5"


def mesh(replica=1, fsdp=1, tensor=1, sequence=1):
    return AbstractMesh((replica, fsdp, tensor, sequence), sharding.MESH_AXES)


def rung(batch=8, **layout) -> Rung:
    model = Model("llama", 16, 2, 4, 24, 40, 32, n_kv_heads=2)
    optimizer, layout = Optimizer(1e-3, 100), config.Mesh(**layout)
    return Rung("x", 1, 10**5, batch * 32, model, optimizer, mesh=layout)


@pytest.mark.parametrize(
    ("layout", "devices", "shape"),
    [
        ({}, 1, (1, 1, 1, 1)),
        ({"fsdp": 1}, 1, (1, 1, 1, 1)),
    ],
)
def test_mesh_over_the_devices_of_this_machine(layout, devices, shape):
    mesh = sharding.make_mesh(config.Mesh(**layout), jax.devices()[:devices])
    assert (mesh.axis_names, mesh.axis_sizes) == (sharding.MESH_AXES, shape)


@pytest.mark.parametrize(
    ("layout", "devices", "message"),
    [
        ({"fsdp": 4}, 8, r"fsdp=4 .*takes 4 devices, there are 8: set mesh\.fsdp=-1, or make the product 8"),
        ({"fsdp": 4, "replica": 4}, 8, r"replica=4 x fsdp=4 .*takes 16 devices, there are 8"),
        ({"tensor": 3}, 8, r"tensor=3 .*takes 6 devices, there are 8.*make the product 8"),
        ({"sequence": 16}, 8, r"sequence=16 takes 16 devices, there are 8"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(layout, devices, message):
    with pytest.raises(InputError, match=message) as refused:
        sharding.make_mesh(config.Mesh(**layout), list(range(devices)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("layout", "batch", "shape", "multiple"),
    [
        ({}, 12, {"fsdp": 8}, 8 * 32),
        ({}, 12, {"fsdp": 4, "replica": 2}, 8 * 32),
        ({"accumulation": 2}, 8, {"fsdp": 8}, 8 * 2 * 32),
        ({"accumulation": 4}, 8, {"fsdp": 2, "replica": 2, "tensor": 2}, 4 * 4 * 32),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(layout, batch, shape, multiple):
    r = rung(batch, **layout)
    with pytest.raises(InputError, match=rf"microbatch of {r.batch_sequences // r.mesh.accumulation} sequences") as no:
        step.build(r, mesh(**shape))
    assert str(no.value).endswith(f"set batch_tokens to a multiple of {multiple}")
    assert "\n" not in str(no.value)


def test_a_large_array_must_not_be_fully_replicated(monkeypatch):
    """A width of 16 does not divide over 64 devices; small arrays may be replicated."""
    state = jax.eval_shape(lambda: step.init_state(rung()))

    def refuse(m):
        sharding.refuse_replication(m, state, sharding.shardings(m, state))

    refuse(mesh(fsdp=64))
    monkeypatch.setattr(sharding, "LARGE", 2000)
    refuse(mesh(fsdp=16))
    refuse(mesh(replica=64))  # asked for
    message = r"'down'.* fully replicated on 64 devices.*fsdp = 64.*d_model = 16; set mesh\.fsdp=16 mesh\.replica=4$"
    with pytest.raises(InputError, match=message):
        refuse(mesh(fsdp=64))


@pytest.mark.parametrize(
    ("layout", "spans"),
    [
        ({"replica": 8}, {"replica": [1, 1, 8], "fsdp": [8, 8, 1]}),
        ({"replica": 2}, {"replica": [1, 1, 2], "fsdp": [8, 8, 4]}),
        ({"tensor": 2, "replica": 4}, {"tensor": [2, 1, 1], "replica": [4, 1, 1], "fsdp": [1, 8, 8]}),
    ],
)
@pytest.mark.parametrize("slices", [1, 2])
def test_an_axis_may_take_part_of_a_dimension_of_the_torus(layout, spans, slices):
    """Of v5p:8x8x8: how many chips along each dimension an axis spans within a slice."""
    devices = [Chip(s, coords) for s in range(slices) for coords in np.ndindex(8, 8, 8)]
    layout = layout | {"replica": layout["replica"] * slices}
    sizes, coordinates = sharding.of_one_slice(sharding.make_mesh(config.Mesh(**layout), devices), slices)
    for axis, expected in spans.items():
        line = coordinates[tuple(slice(None) if a == axis else 0 for a in sizes)]
        assert [len(set(along)) for along in line.T] == expected


def test_only_replicas_span_slices():
    devices = [SimpleNamespace(slice_index=i // 4) for i in range(8)]
    with pytest.raises(InputError, match=r"mesh\.replica = 1 does not divide over 2 slices: set it to 2"):
        sharding.make_mesh(config.Mesh(), devices)


@pytest.mark.parametrize(
    ("shape", "axes", "length", "expected"),
    [
        ({"fsdp": 8}, ("model", "ffn"), (16, 24), P(("fsdp",), None)),
        ({"fsdp": 8}, ("model", "ffn"), (12, 24), P(None, None)),  # 12 does not divide: replicated, not refused
        ({"fsdp": 2, "tensor": 4}, ("vocab", "model"), (40, 16), P(("tensor",), ("fsdp",))),
        ({"fsdp": 2, "tensor": 4}, ("layers", "model", "kv_heads"), (3, 16, 6), P(None, ("fsdp",), None)),
        ({"fsdp": 2, "replica": 4}, ("batch", "length", None), (8, 5, 3), P(DATA, None, None)),
        ({"fsdp": 2, "replica": 4}, ("batch", None), (4, 3), P(None, None)),
        ({"sequence": 2}, ("batch", "length", "heads", None), (3, 8, 2, 2), P(None, ("sequence",), None, None)),
        ({"replica": 8}, ("model", "heads"), (16, 16), P(None, None)),  # every replica has all parameters
    ],
)
def test_logical_axes_to_mesh_axes(shape, axes, length, expected):
    assert sharding.spec(mesh(**shape), axes, length) == expected


def test_every_rule_names_axes_that_exist():
    assert {axis for names in sharding.RULES.values() for axis in names} == set(sharding.MESH_AXES)
    assert set(sharding.RULES) <= {axis for axes in AXES.values() for axis in axes} | {"batch", "length"}


def test_optimizer_state_is_sharded_like_the_parameters():
    m = mesh(fsdp=4, tensor=2)
    state = jax.eval_shape(lambda: step.init_state(rung()))
    placed = {
        jax.tree_util.keystr(path): s.spec
        for path, s in jax.tree_util.tree_leaves_with_path(sharding.shardings(m, state))
    }
    assert placed["['step']"] == P()
    for where in ("['params']", "['optimizer'][1].mu", "['optimizer'][1].nu"):
        assert placed[f"{where}['embedding']"] == P(("tensor",), ("fsdp",))
        assert placed[f"{where}['head']"] == P(("fsdp",), ("tensor",))
        assert placed[f"{where}['blocks']['query']"] == P(None, ("fsdp",), ("tensor",))
        assert placed[f"{where}['blocks']['out']"] == P(None, ("tensor",), ("fsdp",))
        assert placed[f"{where}['blocks']['down']"] == P(None, ("tensor",), ("fsdp",))
        assert placed[f"{where}['blocks']['mlp_norm']['scale']"] == P(None, None)
