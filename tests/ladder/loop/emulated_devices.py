"""Run by test_devices.py in a process of its own, result as one JSON object: a few steps and an evaluation on one
device and on each layout, and a checkpoint that goes from mesh to mesh.
python emulated_devices.py REQUESTS.jsonl FOLDER LAYOUT...   (with XLA_FLAGS=--xla_force_host_platform_device_count=8)
"""

import itertools
import json
import re
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np

from ladder.config import Data, Eval, Mesh, Model, Optimizer, Rung
from ladder.data.tokenizer import byte_tokenizer
from ladder.evaluation import prefix_tree, score
from ladder.evaluation.evaluator import Evaluator
from ladder.loop import run as training
from ladder.loop import step
from ladder.model import attention, cross_entropy
from ladder.monitor import progress
from ladder.optim.schedule import learning_rate
from ladder.parallel import sharding
from ladder.rundir.checkpoint import Checkpoints

LAYOUTS = {
    "one": Mesh(),
    "fsdp=8": Mesh(),
    "replica=8": Mesh(replica=8),
    "fsdp=4 tensor=2": Mesh(tensor=2),
    "replica=2 fsdp=2 tensor=2": Mesh(replica=2, tensor=2),
    "fsdp=4 sequence=2": Mesh(sequence=2),
    "fsdp=8, accumulation, remat, blockwise": Mesh(accumulation=2, remat="full", attention="blockwise"),
    "one, documents": Mesh(),
    "fsdp=2 tensor=2 sequence=2, accumulation, documents": Mesh(tensor=2, sequence=2, accumulation=2),
}
NOT_EVALUATED = ("fsdp=8", "fsdp=8, accumulation, remat, blockwise")
# Each of these initialises its own state. The others start from that of one device, as from a checkpoint.
INITIALISED = ("one", *NOT_EVALUATED)
EOS = 20  # of layouts with documents; its share of the tokens is 1 in 10
MODEL = Model("llama", 8, 2, 4, 24, 256, 32, n_kv_heads=2, compute_dtype="float32", init_std=0.1)
STEPS = 12
RUNG = Rung("x", 1, 16 * 32 * STEPS, 16 * 32, MODEL, Optimizer(0.01, 1024))
TOKENS = np.random.default_rng(0).integers(0, 256, (STEPS, 16, 33), dtype=np.int32)


def run(name: str, start: dict, requests: str) -> dict:
    data = Data(mask_documents=True, eos_id=EOS) if "documents" in name else Data()
    rung = replace(RUNG, mesh=LAYOUTS[name], data=data)
    mesh = sharding.make_mesh(rung.mesh, jax.devices()[:1] if name.startswith("one") else jax.devices())
    program = step.build(rung, mesh)
    state = program.init() if name in INITIALISED else jax.device_put(start, program.shardings)
    train_step = program.train_step.lower(state, program.put({"tokens": TOKENS[0]}, 0.0)).compile()
    losses, norms = [], []
    for i, tokens in enumerate(np.where(TOKENS % 10 == 0, EOS, TOKENS) if "documents" in name else TOKENS):
        state, metrics = train_step(state, program.put({"tokens": tokens}, learning_rate(rung, i)))
        losses.append(float(metrics["loss"]))
        norms.append(float(metrics["grad_norm"]))
    up = state["params"]["blocks"]["up"]
    logits = rf"f32\[(\d+),{256 // rung.mesh.tensor}\]"
    return {
        "losses": losses,
        "norms": norms,
        "params": {jax.tree_util.keystr(k): np.asarray(x).ravel().tolist() for k, x in leaves(state["params"])},
        "evaluation": evaluation(program, state["params"], requests) if name not in NOT_EVALUATED else None,
        "mesh": dict(mesh.shape),
        "devices": len(up.sharding.device_set),
        "logit_rows": max(map(int, re.findall(logits, train_step.as_text())), default=None),
        "share": up.addressable_shards[0].data.size / up.size,
    }


def leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def evaluation(program: step.Program, params, requests: str) -> dict:
    """As in a training run: a task and 13 windows of validation text, which 2, 4 or 8 devices do not share evenly."""
    validation, asked = TOKENS[0, :13], Eval(tasks=(requests,))
    evaluator = Evaluator(asked, program.functions, byte_tokenizer(), MODEL.seq_len, validation, mesh=program.mesh)
    assert evaluator._data[0].rows.depth_nBL[:, :, 0].any()  # a row continues the row of another device
    return {f"{row['task']} {row['metric']}": row["value"] for row in evaluator.rows(params)}


def validation_text() -> list:
    """On 1, 2, 4 and 8 devices: the hash of a run's evaluation, and the windows that it scores."""
    text, results = SimpleNamespace(seq_len=32, windows={"validation": 13}), []
    text.window_reader = lambda split: lambda windows: TOKENS[0][windows]
    for devices in (1, 2, 4, 8):
        program = step.build(RUNG, sharding.make_mesh(Mesh(), jax.devices()[:devices]))
        evaluator = training.evaluator(RUNG, program, byte_tokenizer(), [text])
        windows_WL1 = np.asarray(evaluator._data[1][0]).reshape(-1, 33)
        results.append([evaluator.hash, windows_WL1[windows_WL1[:, 0] != score.PADDING].tolist()])
    return results


def carried(state: dict, folder: str) -> list[bool]:
    """Whether the bits of a state stay the same: saved on 8 devices, restored and saved on 2, restored on 1."""
    same, before = [], [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]
    for saved_step, devices in enumerate((2, 1)):
        checkpoints = Checkpoints(folder)
        checkpoints.start(saved_step, state)
        checkpoints.commit(saved_step)
        program = step.build(RUNG, sharding.make_mesh(Mesh(), jax.devices()[:devices]))
        _, state = checkpoints.restore(program.abstract_state)
        n_devices = {len(x.sharding.device_set) for x in jax.tree.leaves(state)}
        same.append(n_devices == {devices} and [np.asarray(x).tobytes() for x in jax.tree.leaves(state)] == before)
    return same


def splash() -> list[float]:
    """The TPU kernel in interpret mode on queries, heads and rows that are split, each row of several documents, beside
    the reference on one device: the largest difference of the output and of each gradient, relative to the largest
    value."""
    mesh = sharding.make_mesh(Mesh(fsdp=2, tensor=2, sequence=2), jax.devices())
    kernel = partial(attention.splash_kernel, interpret=True)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 256, heads, 16), np.float32) for heads in (4, 2, 2, 4)]
    document_BL = np.cumsum(rng.random((2, 256)) < 0.03, axis=1, dtype=np.int32)

    def forward_backward(attend, q, k, v, do):
        o, pull = jax.vjp(partial(attend, document_BL=document_BL), q, k, v)
        return o, *pull(do)

    on_each = sharding.on_each_device(mesh, attention.splash, kernel)
    got, expected = (jax.jit(partial(forward_backward, attend))(*inputs) for attend in (on_each, attention.xla))
    return [float(abs(g - e).max() / abs(e).max()) for g, e in zip(got, expected, strict=True)]


def matmul() -> float:
    """FLOP/s of all devices where each call takes one second."""
    clock = itertools.count()
    progress.time = SimpleNamespace(perf_counter=lambda: next(clock))
    return progress.matmul_flops(size=8, seconds=2.5)


def main():
    assert len(jax.devices()) == 8
    step.UNROLL_LAYERS = 0  # layers in a loop, as on accelerators (and quicker to compile)
    prefix_tree.ROW_TOKENS = 32
    results = {"carried": carried(step.build(RUNG, sharding.make_mesh(Mesh(fsdp=4, tensor=2))).init(), sys.argv[2])}
    results["splash"] = splash()
    results["matmul"] = matmul()
    start = jax.device_get(step.build(RUNG, sharding.make_mesh(Mesh(), jax.devices()[:1])).init())
    for name in ("one", *sys.argv[3:]):
        if "accumulation" in name:
            cross_entropy.CHUNK_ELEMENTS = 16 * 256  # a device's 32 tokens of a microbatch in two chunks
        results[name] = run(name, start, sys.argv[1])
    results["validation"] = validation_text()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
