"""Compile a rung's real train step for a TPU topology on a machine without a TPU, and report what the step needs.

libtpu compiles in a process of its own, because it takes a lock, prints to standard output and keeps gigabytes of
memory: `python -m launch.aot.compiler` reads a request from standard input and writes the result to standard output.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ladder import topologies
from ladder.config import Rung, canonical_json, to_dict
from ladder.errors import InputError
from ladder.flops import matmul_flops_per_token
from ladder.overrides import from_dict
from ladder.rundir.files import write_atomic
from launch.aot import peak_memory

SCHEMA = 6  # of a cached result


def check(rung: Rung, topology: str, slices: int = 1, cache: Path | None = None) -> dict:
    """Compile the train step of `rung` for `slices` slices of `topology`, or read the result from `cache`.

    Result: devices, mesh, bytes per device ("memory"), FLOPs of a step, collectives, bytes of HBM traffic, attention
    kernels, sharding of every array of the state. Raises InputError where mesh or batch do not divide, the step does
    not fit, or libtpu is not installed.
    """
    kind = topologies.parse(topology).kind
    if topologies.KINDS[kind].devices > 1:
        raise InputError(f"topology {topology!r}: ladder check does not know {kind}, a chip of which is two devices")
    if slices < 1:
        raise InputError(f"--slices {slices}: must be at least 1")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError("libtpu, the only compiler for TPUs, is not installed: pip install libtpu")
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
    request = {"rung": to_dict(rung), "topology": topology, "slices": slices, "versions": versions, "schema": SCHEMA}
    name = hashlib.sha256(canonical_json(request).encode()).hexdigest()[:16]
    if cache and (cache / f"{name}.json").exists():
        compiled = json.loads((cache / f"{name}.json").read_text())
    else:
        compiled = _in_own_process(request)
        if cache:
            cache.mkdir(parents=True, exist_ok=True)
            write_atomic(cache / f"{name}.json", json.dumps(compiled), durable=False)
    return compiled | {"topology": topology, "slices": slices, "versions": versions}


def _in_own_process(request: dict) -> dict:
    env = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-m", "launch.aot.compiler"]
    process = subprocess.run(command, input=json.dumps(request), env=env, capture_output=True, text=True)
    if process.returncode == 2:
        raise InputError(process.stdout.strip())
    if process.returncode:
        raise RuntimeError(f"the TPU compiler ended with exit code {process.returncode}: {process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def _compile(rung: Rung, topology: str, slices: int) -> dict:
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies as descriptions

    from ladder.loop import step
    from ladder.parallel import sharding
    from launch.aot import program_flops

    multislice = {"num_slices": slices} if slices > 1 else {}
    devices = list(descriptions.get_topology_desc(topology, "tpu", **multislice).devices)
    if rung.data.mask_documents:  # the id that ends a document does not change what the step needs
        rung = replace(rung, data=replace(rung.data, eos_id=0))
    program = step.build(rung, sharding.make_mesh(rung.mesh, devices))
    tokens = jax.ShapeDtypeStruct((rung.batch_sequences, rung.model.seq_len + 1), jnp.int32)
    batch = {"tokens": tokens, "learning_rate": jax.ShapeDtypeStruct((), jnp.float32)}
    start = time.monotonic()
    traced = program.train_step.trace(program.abstract_state, batch)
    lowered = traced.lower()
    with tempfile.TemporaryDirectory() as dump:  # compiled.as_text() fails on some topologies, the dump does not
        try:
            compiled = lowered.compile(compiler_options={"xla_dump_to": dump, "xla_dump_hlo_as_text": True})
        except jax.errors.JaxRuntimeError as error:
            raise _out_of_memory(rung, len(devices), str(error)) from None
        text, assignment, ranges = (
            next(Path(dump).glob(f"*.after_optimizations{part}.txt")).read_text()
            for part in ("", "-buffer-assignment", "-live-range")
        )
    memory, state = compiled.memory_analysis(), program.abstract_state
    return {
        "devices": len(devices),
        "slices": slices,
        "mesh": dict(program.mesh.shape),
        "compile_seconds": time.monotonic() - start,
        "memory": {
            "parameters": _bytes_per_device(state["params"]),
            "optimizer": _bytes_per_device(state["optimizer"]),
            **peak_memory.temporaries(assignment, ranges, _weight_shapes(state["params"])),
            "program": memory.generated_code_size_in_bytes,
        },
        "arguments": memory.argument_size_in_bytes,
        "donated": memory.alias_size_in_bytes,
        "state": _bytes_per_device(state),
        "kernels": lowered.as_text().count("tpu_custom_call"),
        "parameters": sum(x.size for x in jax.tree.leaves(state["params"])),
        "model_flops": matmul_flops_per_token(rung.model) * rung.batch_tokens,
        "hardware_flops": program_flops.walk(traced.jaxpr.jaxpr),
        **_communication(text, program.mesh, topologies.parse(topology), slices),
        "shardings": {
            jax.tree_util.keystr(path): [list(x.shape), str(x.dtype), str(x.sharding.spec), _bytes_per_device(x)]
            for path, x in jax.tree_util.tree_leaves_with_path(state)
        },
    }


def _communication(text: str, mesh, topology: topologies.Slice, slices: int) -> dict:
    """Collectives of a step, with the share of a chip's links that carries each, and the bytes of HBM traffic."""
    from ladder.parallel import sharding
    from launch.aot import hlo

    module = hlo.Module(text)
    sites = module.sites()
    shape, coordinates = sharding.of_one_slice(mesh, slices)
    collectives = hlo.collectives(sites, shape, slices)
    for row in collectives:
        group = coordinates[tuple(slice(None) if axis in row["axes"] else 0 for axis in shape)]
        spans = [len(set(positions.tolist())) for positions in group.reshape(-1, group.shape[-1]).T]
        row["link_share"] = topology.link_share(spans[: topologies.KINDS[topology.kind].dimensions])
    return {"collectives": collectives, "hbm_bytes": hlo.traffic(module, sites)}


def _weight_shapes(params) -> set[tuple[int, ...]]:
    """All shapes of a weight on a device: each dimension in full or split, with and without the axis of layers."""
    import itertools

    import jax

    shapes = set()
    for x in jax.tree.leaves(params):
        shapes.update(itertools.product(*zip(x.shape, x.sharding.shard_shape(x.shape), strict=True)))
    return shapes | {dims[1:] for dims in shapes}


def _bytes_per_device(tree) -> int:
    import math

    import jax

    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _out_of_memory(rung: Rung, devices: int, message: str) -> Exception:
    """An out-of-memory error of the compiler as one line that says what to change; any other error unchanged."""
    used = re.search(r"\(([\d.]+[KMGT])\) exceeds available HBM \(([\d.]+[KMGT])\)", message)
    used = used or re.search(r"Used ([\d.]+[KMGT]) of ([\d.]+[KMGT]) hbm", message)
    if not used:
        return RuntimeError(message[:2000])
    accumulation = 2 * rung.mesh.accumulation
    if rung.mesh.remat != "full":
        change = "set mesh.remat=full"
    elif rung.batch_sequences % (accumulation * devices) == 0:
        change = f"set mesh.accumulation={accumulation}"
    else:
        change = "choose a topology with twice the chips, or set mesh.tensor=2"
    return InputError(f"rung {rung.label} does not fit: a device needs {used[1]} bytes and has {used[2]}; {change}")


def main() -> int:
    request = json.load(sys.stdin)
    try:
        rung = from_dict(Rung, request["rung"], where="request")
        print(json.dumps(_compile(rung, request["topology"], request["slices"])))
    except InputError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
