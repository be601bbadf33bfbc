"""Run by test_compiler.py in its own process: the scores of a task set, compiled for v5e:2x2 by libtpu without a TPU.

Prints one JSON object: the shape of all rows, the depth of the deepest node that a row starts at, and the bytes that a
device needs besides its arguments.
"""

import json

import jax
from jax.experimental import topologies

from ladder.config import Model, Optimizer, Rung
from ladder.data.tokenizer import byte_tokenizer
from ladder.evaluation import metrics, score
from ladder.evaluation.prefix_tree import pack
from ladder.evaluation.requests import Doc, Request
from ladder.evaluation.tasks import Task
from ladder.loop import step
from ladder.parallel import sharding

MODEL = Model("llama", 256, 2, 4, 512, 1 << 15, 1024, n_kv_heads=2)
RUNG = Rung("s", 1, 10**6, 16 * 1024, MODEL, Optimizer(1e-3, 1000))


def quiz() -> Task:
    """Half its docs after a long prompt, half after none."""
    prompts = ["Question: is it?\nAnswer: yes\n\n" * 20, ""]
    answers = (" yes, it is that", " no")
    docs = [
        Doc(i, tuple(Request(f"{prompts[i % 2]}Question: {i * 7919}?\nAnswer:", a) for a in answers), i % 2)
        for i in range(800)
    ]
    return Task("quiz", tuple(docs))


def main() -> None:
    devices = list(topologies.get_topology_desc("v5e:2x2", "tpu").devices)
    mesh = sharding.make_mesh(RUNG.mesh, devices)
    program, replicated = step.build(RUNG, mesh), sharding.replicated(mesh)
    packed = pack([quiz()], byte_tokenizer(), MODEL.seq_len, 16384, sharding.data_shards(mesh))
    arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), packed.arrays)

    def scores(params, arrays):
        return metrics.summarise(score.score_requests(program.functions, params, arrays), arrays, 1)

    compiled = jax.jit(scores, out_shardings=replicated).lower(program.abstract_state["params"], arrays).compile()
    rows = packed.arrays.rows
    result = {"rows": list(rows.tokens_nBL.shape), "deepest": int(rows.depth_nBL[:, :, 0].max())}
    print(json.dumps(result | {"temporary": compiled.memory_analysis().temp_size_in_bytes}))


if __name__ == "__main__":
    main()
