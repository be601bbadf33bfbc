"""Training speed on this machine: `python tests/bench/bench_train.py`.

1. Tokens per second of one fixed config (8 layers, d 256, 4 heads, sequence 512, batch 8, bytes, float32) beside a
   plain PyTorch GPT, eager (torch_gpt.py), in turns, and as a share of the best float32 matmul rate. FLOPs are
   those of sizes.py, attention in full, though both compute only about half of its scores.
   PyTorch is that of `make oracle`.
2. The loop of ladder/loop/train.py (batches read, metrics written, status) against its bare jitted step, in turns.
3. Eight seeds by one vmapped step (ladder/loop/group.py) against eight steps of one seed, in turns.

On a busy machine the columns of CPU time are the steadier ones.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from ladder.config import Data, Eval, Ladder, Model, Optimizer, Rung
from ladder.flops import flops_per_token
from ladder.loop import group, step, train
from ladder.loop.run import open_run
from ladder.monitor.compilations import Compilations
from ladder.parallel import sharding
from ladder.rundir.record import Record
from launch import prepare

ROOT = Path(__file__).parents[2]
TORCH = ROOT / ".cache/oracle/bin/python"
FIXED = Model("gpt2", 256, 8, 4, 1024, 256, 512, compute_dtype="float32")
BATCH = 8
SETTLES = 2  # steps after a change of turns, when the other's last one may still be under way


def now() -> np.ndarray:
    """Wall and CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def matmul_rates(size: int, repeats: int = 5) -> np.ndarray:
    """FLOP/s of a float32 matmul by wall and by CPU time, the best of `repeats`."""
    multiply = jax.jit(lambda x: x @ x)
    x = jnp.ones((size, size), jnp.float32)
    multiply(x).block_until_ready()
    taken = []
    for _ in range(repeats):
        began = now()
        for _ in range(4):
            multiply(x).block_until_ready()
        taken.append((now() - began) / 4)
    return 2 * size**3 / np.min(taken, axis=0)


class Torch:
    """PyTorch's trainer in a process of its own: steps(n) are the wall and CPU seconds of a step."""

    def __init__(self, m: Model):
        shape = map(str, (m.n_layers, m.d_model, m.n_heads, m.vocab_size, m.seq_len, BATCH))
        command = [str(TORCH), str(Path(__file__).with_name("torch_gpt.py")), *shape]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def steps(self, n: int) -> np.ndarray:
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return np.array(json.loads(self.process.stdout.readline())) / n

    def close(self) -> None:
        self.process.communicate()


def rung_of(model: Model, batch: int, steps: int, **changes) -> Rung:
    tokens = batch * model.seq_len
    return Rung("x", 1, steps * tokens, tokens, model, Optimizer(1e-4, 10 * tokens), **changes)


def built(model: Model, batch: int) -> step.Program:
    rung = rung_of(model, batch, 1000)
    return step.build(rung, sharding.make_mesh(rung.mesh))


def stepped(train_step, state: dict, batch: dict, n: int) -> tuple[dict, np.ndarray]:
    """The state after n steps, and wall and CPU seconds of one."""
    began = now()
    for _ in range(n):
        state, _ = train_step(state, batch)
    jax.block_until_ready(state)
    return state, (now() - began) / n


def random_tokens(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.int32)


def throughput(rounds: int) -> None:
    program = built(FIXED, BATCH)
    state = program.init()
    batch = program.put({"tokens": random_tokens(BATCH, FIXED.seq_len + 1)}, 1e-4)

    peer = Torch(FIXED) if TORCH.exists() else None
    state, _ = stepped(program.train_step, state, batch, 2)
    if peer:
        peer.steps(2)
    ours, theirs, peaks = [], [], []
    for _ in range(rounds):
        state, taken = stepped(program.train_step, state, batch, 3)
        ours.append(taken)
        peaks.append(np.maximum(matmul_rates(1024), matmul_rates(2048)))
        if peer:
            theirs.append(peer.steps(3))
    peak, ours = np.max(peaks, axis=0), np.median(ours, axis=0)
    flops = flops_per_token(FIXED) * BATCH * FIXED.seq_len
    print(f"best float32 matmul   {peak[0] / 1e9:7.0f} GFLOP/s   {peak[1] / 1e9:7.0f} GFLOP a CPU-second")
    _show("ladder", ours, flops / ours / peak)
    if not peer:
        print(f"PyTorch eager         skipped: {TORCH.relative_to(ROOT)} is not there (see --help)")
        return
    peer.close()
    theirs = np.median(theirs, axis=0)
    _show("PyTorch eager", theirs, flops / theirs / peak)
    ratio = theirs / ours
    print(f"ladder is {ratio[0]:.2f} x PyTorch eager by wall time, {ratio[1]:.2f} x by CPU time")


def _show(name: str, seconds: np.ndarray, shares: np.ndarray) -> None:
    rate = BATCH * FIXED.seq_len / seconds
    print(
        f"{name:21s} {rate[0]:7,.0f} tokens/s   {rate[1]:7,.0f} tokens a CPU-second   "
        f"{shares[0]:.0%} of the matmul peak by wall, {shares[1]:.0%} by CPU time"
    )


def overhead(name: str, model: Model, batch: int, turns: int, steps: int) -> None:
    """Median step of the loop over that of the bare step, one after the other in turns of `steps`."""
    with tempfile.TemporaryDirectory() as folder:
        run, state = _run_of(rung_of(model, batch, turns * steps), Path(folder))
        mirror, tokens = run.program.init(), run.program.put(run.data(0), 1e-4)
        bare, loop, last, count = [], [], None, 0

        def reached(phase: str) -> None:  # after each dispatch of the loop
            nonlocal mirror, last, count
            if phase != "step":
                return
            if last is not None:
                loop.append(now() - last)
            count += 1
            if count % steps == 0:
                mirror = _bare(run.program, mirror, tokens, steps, bare)
            settled = count % steps > SETTLES
            last = now() if settled else None

        train.phase = reached
        train_step = Compilations(run.spans, run.rung.label).watched(run.program.train_step, 0)
        train._loop(run, 0, state, train_step, lambda step: False)
    bare = np.median(bare, axis=0)
    ratio = np.median(loop, axis=0) / bare
    print(
        f"loop / bare step, {name:32s} {ratio[0]:.3f} by wall, {ratio[1]:.3f} by CPU   ({bare[0] * 1e3:.2f} ms a step)"
    )


def _bare(program, state, batch, steps: int, taken: list[np.ndarray]):
    pending = None
    for i in range(steps + SETTLES):
        began = now()
        state, metrics = program.train_step(state, batch)
        if pending is not None:
            float(pending["loss"])
        pending = metrics
        if i >= SETTLES:
            taken.append(now() - began)
    float(pending["loss"])
    return state


def _run_of(rung: Rung, folder: Path):
    rung = replace(
        rung,
        data=Data(text=tuple(map(str, sorted(ROOT.glob("docs/*.md")))), validation=0.2),
        eval=Eval(validation_tokens=1),
    )
    built = prepare.build(Ladder("bench", (rung,)), folder / "corpora")
    (directory,) = prepare.write(built, built.ladder.rungs, folder)
    run = open_run(Record(directory))
    return run, run.restore()[1]


def at_once(name: str, model: Model, batch: int, seeds: int = 8, rounds: int = 8) -> None:
    """Speed of a vmapped step over that of as many single ones."""
    program = built(model, batch)
    together = group.build(program)
    one, all_of_them = program.init(), together.stack(*(program.init() for _ in range(seeds)))
    tokens = random_tokens(seeds, batch, model.seq_len + 1)
    single = program.put({"tokens": tokens[0]}, 1e-4)
    rates = np.full(seeds, 1e-4, np.float32)
    stacked = jax.device_put({"tokens": tokens, "learning_rate": rates}, together.batch_shardings)
    singles, stacks = [], []
    for _ in range(rounds + 1):
        one, taken = stepped(program.train_step, one, single, 2 * seeds)
        singles.append(taken * seeds)
        all_of_them, taken = stepped(together.train_step, all_of_them, stacked, 2)
        stacks.append(taken)
    ratio = np.median(singles[1:], axis=0) / np.median(stacks[1:], axis=0)  # the first ones compile
    print(f"{seeds} seeds at once, {name:31s} {ratio[0]:.2f} x the speed of {seeds} runs, {ratio[1]:.2f} x by CPU time")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--loop-only", action="store_true")
    args = parser.parse_args(arguments)
    if not args.loop_only:
        throughput(args.rounds)
    overhead("8 layers, d 256, 4,096 tokens", FIXED, BATCH, 5, 6)
    small = Model("olmo2", 64, 2, 4, 256, 256, 128, compute_dtype="float32")
    overhead("2 layers, d 64, 2,048 tokens", small, 16, 10, 20)
    at_once("2 layers, d 64, 2,048 tokens", small, 16)
    tiny = Model("olmo2", 16, 2, 2, 64, 256, 128, compute_dtype="float32")
    overhead("2 layers, d 16, 1,024 tokens", tiny, 8, 16, 100)
    at_once("2 layers, d 16, 1,024 tokens", tiny, 8)


def test_training_throughput():
    main([])


if __name__ == "__main__":
    main()
