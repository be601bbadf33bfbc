"""Compile a rung's real train step for a TPU topology on a machine without a TPU, and say what it will take.

libtpu compiles in a process of its own, because it takes a lock, prints what it likes, and keeps gigabytes:
`python -m launch.aot.compiler` reads a request from standard input and writes the result to standard output.
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
from pathlib import Path

from ladder import topologies
from ladder.config import Rung, canonical_json, to_dict
from ladder.errors import InputError
from ladder.flops import matmul_flops_per_token
from ladder.overrides import from_dict
from ladder.rundir.files import write_atomic
from launch.aot import peak_memory

SCHEMA = 5  # of a cached result


def check(rung: Rung, topology: str, slices: int = 1, cache: Path | None = None) -> dict:
    """What `rung` takes on `slices` slices of `topology`; compiled once, then read from `cache`.

    Result: devices, mesh, bytes per device ("memory"), FLOPs of a step, what it sends and moves, attention kernels,
    where every leaf of the state lies. Raises InputError where mesh or batch do not divide, the step does not fit, or
    libtpu is not installed.
    """
    topologies.parse(topology)
    if slices < 1:
        raise InputError(f"--slices {slices}: must be at least 1")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError("libtpu is not installed, and only it compiles for a TPU: pip install libtpu")
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
    command = [sys.executable, "-m", "launch.aot.compiler"]
    done = subprocess.run(command, input=json.dumps(request), env=env, capture_output=True, text=True)
    if done.returncode == 2:
        raise InputError(done.stdout.strip())
    if done.returncode:
        raise RuntimeError(f"the compiler ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _compile(rung: Rung, topology: str, slices: int) -> dict:
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies as descriptions

    from ladder.loop import step
    from ladder.parallel import sharding
    from launch.aot import program_flops

    several = {"num_slices": slices} if slices > 1 else {}
    devices = list(descriptions.get_topology_desc(topology, "tpu", **several).devices)
    program = step.build(rung, sharding.make_mesh(rung.mesh, devices))
    tokens = jax.ShapeDtypeStruct((rung.batch_sequences, rung.model.seq_len + 1), jnp.int32)
    batch = {"tokens": tokens, "learning_rate": jax.ShapeDtypeStruct((), jnp.float32)}
    began = time.monotonic()
    traced = program.train_step.trace(program.abstract_state, batch)
    lowered = traced.lower()
    with (
        tempfile.TemporaryDirectory() as dump
    ):  # the text of a compiled module fails on some topologies, the dump does not
        try:
            compiled = lowered.compile(compiler_options={"xla_dump_to": dump, "xla_dump_hlo_as_text": True})
        except jax.errors.JaxRuntimeError as error:
            raise _too_large(rung, len(devices), str(error)) from None
        text, assignment, ranges = (
            next(Path(dump).glob(f"*.after_optimizations{part}.txt")).read_text()
            for part in ("", "-buffer-assignment", "-live-range")
        )
    memory, state = compiled.memory_analysis(), program.abstract_state
    return {
        "devices": len(devices),
        "slices": slices,
        "mesh": dict(program.mesh.shape),
        "compile_seconds": time.monotonic() - began,
        "memory": {
            "parameters": _held(state["params"]),
            "optimizer": _held(state["optimizer"]),
            **peak_memory.temporaries(assignment, ranges, _shapes(state["params"])),
            "program": memory.generated_code_size_in_bytes,
        },
        "arguments": memory.argument_size_in_bytes,
        "donated": memory.alias_size_in_bytes,
        "state": _held(state),
        "kernels": lowered.as_text().count("tpu_custom_call"),
        "parameters": sum(x.size for x in jax.tree.leaves(state["params"])),
        "model_flops": matmul_flops_per_token(rung.model) * rung.batch_tokens,
        "hardware_flops": program_flops.walk(traced.jaxpr.jaxpr),
        **_moved(text, program.mesh, topologies.parse(topology), slices),
        "shardings": {
            jax.tree_util.keystr(path): [list(x.shape), str(x.dtype), str(x.sharding.spec), _held(x)]
            for path, x in jax.tree_util.tree_leaves_with_path(state)
        },
    }


def _moved(text: str, mesh, kind: topologies.Slice, slices: int) -> dict:
    """What a step sends, with the share of a chip's links that carries it, and what it moves in memory."""
    from ladder.parallel import sharding
    from launch.aot import hlo

    module = hlo.Module(text)
    sites = module.sites()
    shape, coordinates = sharding.of_one_slice(mesh, slices)
    sent = hlo.collectives(sites, shape, slices)
    for row in sent:
        line = coordinates[tuple(slice(None) if axis in row["axes"] else 0 for axis in shape)]
        spans = [len(set(place.tolist())) for place in line.reshape(-1, line.shape[-1]).T]
        row["link_share"] = kind.link_share(spans[: topologies.KINDS[kind.kind].dimensions])
    return {"collectives": sent, "hbm_bytes": hlo.traffic(module, sites)}


def _shapes(params) -> set[tuple[int, ...]]:
    """Of every weight, each dimension as it is and as it is split; all layers and one."""
    import itertools

    import jax

    found = set()
    for x in jax.tree.leaves(params):
        found.update(itertools.product(*zip(x.shape, x.sharding.shard_shape(x.shape), strict=True)))
    return found | {dims[1:] for dims in found}


def _held(tree) -> int:
    """Bytes on one device."""
    import math

    import jax

    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _too_large(rung: Rung, devices: int, said: str) -> Exception:
    """The compiler's refusal as one line with what to change; any other error as it is."""
    used = re.search(r"\(([\d.]+[KMGT])\) exceeds available HBM \(([\d.]+[KMGT])\)", said)
    used = used or re.search(r"Used ([\d.]+[KMGT]) of ([\d.]+[KMGT]) hbm", said)
    if not used:
        return RuntimeError(said[:2000])
    again = 2 * rung.mesh.accumulation
    if rung.mesh.remat != "full":
        change = "set mesh.remat=full"
    elif rung.batch_sequences % (again * devices) == 0:
        change = f"set mesh.accumulation={again}"
    else:
        change = "take a topology of twice the chips, or set mesh.tensor=2"
    return InputError(f"rung {rung.label} does not fit: it needs {used[1]} of {used[2]} bytes of a device; {change}")


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
