"""Time of one in-jit evaluation of the demo's task set with a tiny model: `python tests/bench/bench_evaluate.py`.

Byte tokens, sequence 256, 100 docs a task; needs the request data (`ladder data olmes`, or LADDER_OLMES).
"""

import argparse
import time
from types import SimpleNamespace

import jax
import numpy as np

from ladder import model, tasks
from ladder.config import Eval, Model
from ladder.evaluate import Evaluator

TASKS = ("mbpp", "humaneval", "arc_easy_val:0shot", "csqa_val:0shot", "openbookqa_val:0shot")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--max-docs", type=int, default=100)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--d-model", type=int, default=48)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    sizes = np.where(np.arange(256) < 255, 1, 0).astype(np.int32)
    tokenizer = SimpleNamespace(
        bos=None, eos=255, hash="bytes", token_bytes=sizes, encode=lambda text: np.frombuffer(text.encode(), np.uint8)
    )
    shape = Model("olmo2", args.d_model, args.layers, 4, 4 * args.d_model, 256, args.seq_len, compute_dtype="float32")
    params = model.init_params(shape, 0)
    names = tuple(args.tasks.split(","))
    start = time.perf_counter()
    evaluator = Evaluator(
        Eval(names, max_docs=args.max_docs),
        model.functions(shape),
        tokenizer,
        args.seq_len,
        batch_tokens=args.batch_tokens,
    )
    ready = time.perf_counter()
    rows = evaluator.rows(params)
    compiled = time.perf_counter()
    seconds = []
    for _ in range(args.repeats):
        begun = time.perf_counter()
        evaluator.rows(params)
        seconds.append(time.perf_counter() - begun)

    packed = tasks.pack(evaluator.tasks, tokenizer, args.seq_len, args.batch_tokens)
    for bucket in packed.arrays.buckets:
        print(f"rows [n, B, L] {bucket.tokens_nBL.shape}, scored targets of a row {bucket.target_nBT.shape[2]}")
    n_params = sum(x.size for x in jax.tree.leaves(params))
    for row in rows:
        stderr = float("nan") if row["stderr"] is None else row["stderr"]
        print(f"{row['task']:22s} {row['metric']:9s} {row['value']:.4f} ± {stderr:.4f}  ({row['n_docs']} docs)")
    median = sorted(seconds)[len(seconds) // 2]
    print(f"{n_params} parameters, {len(packed.arrays.bytes_Q)} requests, {evaluator.n_cut} longer than the model")
    print(f"{evaluator.n_tokens} tokens processed, {packed.n_real} without padding")
    print(f"read and packed {ready - start:.2f} s, compiled and first run {compiled - ready:.2f} s")
    print(f"one evaluation {median:.2f} s: {evaluator.n_tokens / median:,.0f} tokens/s (median of {args.repeats})")


if __name__ == "__main__":
    main()
