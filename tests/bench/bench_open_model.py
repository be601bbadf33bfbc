"""Memory and time of opening a Hugging Face folder: python tests/bench/bench_open_model.py [--devices N] [--layers N]

Writes a llama of width 1,024 in float32 (24 layers: 1.3 GB) to a temporary folder, and opens it in a process of its
own, on emulated devices. Prints the peak of its memory above what it had before, as a multiple of the parameters' size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from ladder.config import Mesh, Model
from ladder.convert import hf, pretrained
from ladder.data import tokenizer
from ladder.model.transformer import init_params
from ladder.parallel import sharding
from launch import model_export


def write(folder: Path, layers: int) -> None:
    model = Model("llama", 1024, layers, 16, 2816, 32_000, 2048, n_kv_heads=4, compute_dtype="float32")
    shapes, draw = hf.shapes(model), np.random.default_rng(0)
    ours = tokenizer.train(["some words and some more words"], 300)
    model_export.write(folder, model, lambda name: draw.standard_normal(shapes[name], np.float32), ours, 0, card="")


def peak() -> int:
    """Most bytes of this process so far. (ru_maxrss would begin with those of the process that started it.)"""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def measure(folder: str) -> None:
    mesh = sharding.make_mesh(Mesh())
    model = pretrained.open_model(folder).model
    shardings = sharding.shardings(mesh, jax.eval_shape(lambda: init_params(model, 0)))
    before, began = peak(), time.monotonic()
    params = pretrained.open_model(folder).params(shardings)
    seconds, above = time.monotonic() - began, peak() - before
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    print(
        f"{mesh.size} devices: parameters {size / 1e6:,.0f} MB, the largest "
        f"{max(x.nbytes for x in jax.tree.leaves(params)) / 1e6:,.0f} MB; peak of memory {above / 1e6:,.0f} MB, "
        f"{above / size:.2f} x the parameters; {seconds:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.folder:
        measure(flags.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), flags.layers)
        emulated = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={flags.devices}"}
        command = [sys.executable, __file__, "--folder", folder]
        subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"} | emulated, check=True)


if __name__ == "__main__":
    main()
