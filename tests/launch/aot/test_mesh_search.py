"""The meshes that `ladder check --recommend` compiles."""

from dataclasses import replace

import pytest

from configs import loader
from ladder.config import Mesh, Model, Optimizer, Rung
from launch.aot import mesh_search
from launch.scheduler import runs

RUNG = Rung("s", 1, 10**6, 16 * 256, Model("llama", 256, 2, 2, 512, 1024, 256), Optimizer(1e-3, 1000))


@pytest.mark.parametrize(
    ("topology", "slices", "sequences", "meshes"),
    [
        ("v5e:2x2", 1, 16, {(1, 4, 1), (1, 2, 2)}),
        ("v5e:2x2", 2, 16, {(2, 4, 1), (2, 2, 2)}),
        ("v5e:2x2", 1, 6, {(1, 2, 2)}),  # six sequences do not divide over four devices; two heads not over four
        ("v5e:2x2", 1, 5, set()),
        ("v5e:8x8", 1, 64, {(4, 16, 1), (2, 16, 2)}),  # 256 rows of a weight over 64 devices are four: too thin
    ],
)
def test_candidates_divide(topology, slices, sequences, meshes):
    candidates = mesh_search.candidates(replace(RUNG, batch_tokens=sequences * 256), topology, slices)
    assert {(r.mesh.replica, r.mesh.fsdp, r.mesh.tensor) for r in candidates} == meshes
    assert [r.mesh.remat for r in candidates] == ["none", "dots"] * len(meshes)
    assert all(r.mesh.accumulation == 1 for r in candidates)


def test_what_does_not_fit_saves_fewer_activations_or_takes_more_microbatches():
    rung = runs.pick(loader.load("olmo2"), "7B-4T")
    assert [(m.remat, m.accumulation) for m in _meshes(rung, "v5p:8x8x8", tensor=1)] == [("none", 1), ("dots", 1)]
    assert [(m.remat, m.accumulation) for m in _meshes(rung, "v5p:4x4x4", tensor=1)] == [("full", 1), ("dots", 4)]
    assert _meshes(rung, "v5e:2x2", tensor=1) == []


def _meshes(rung: Rung, topology: str, tensor: int) -> list[Mesh]:
    return [r.mesh for r in mesh_search.candidates(rung, topology) if r.mesh.tensor == tensor]


def test_a_batch_that_does_not_divide_is_split_over_tensors():
    """384 sequences on 256 devices: three each for 128 pairs of devices, or six each for 64 groups of four."""
    candidates = mesh_search.candidates(runs.pick(loader.load("olmo2"), "1B-10xC"), "v5e:16x16")
    assert {(r.mesh.fsdp, r.mesh.tensor) for r in candidates} == {(128, 2), (64, 4)}


def test_the_fastest_that_fits_is_recommended():
    def result(memory, seconds):
        return {"memory": {"all": memory}, "hbm": 100, "step_seconds": [seconds, seconds + 1]}

    compiled = [("slow", result(10, 3)), ("full", result(95, 1)), ("fast", result(80, 2))]
    assert [name for name, _ in mesh_search.ranked(compiled)] == ["fast", "slow"]
