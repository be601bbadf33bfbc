"""The eight tasks of the paper, their real requests, packed against one padded row per request by the same model.

A few docs of each task here; tests/bench/bench_evaluate.py does the same with as many as are wanted.
"""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder.config import Model
from ladder.data import tokenizer
from ladder.errors import InputError
from ladder.evaluation import prefix_tree, tasks
from ladder.evaluation.requests import read_requests
from ladder.evaluation.score import score_requests
from ladder.evaluation.tasks import Task
from ladder.model.transformer import functions, init_params
from tests import neox

SEQ_LEN = 512  # bytes of a 5-shot prompt are more: truncation is in it
DOCS = 4
TIE = 2e-4  # nats


@pytest.fixture(scope="module")
def package():
    try:
        return tasks.find_requests()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def task_set(package, tmp_path_factory):
    """The first docs of every task, which share its prompt (and of MMLU, the subject's)."""
    folder, found = tmp_path_factory.mktemp("requests"), []
    for name in tasks.SETS["olmes"]:
        with gzip.open(package / "oe_eval_tasks" / tasks.FILES[name] / "requests.jsonl.gz") as lines:
            head = [next(lines) for _ in range(100)]
        ids = [json.loads(line)["doc_id"] for line in head]
        first = list(dict.fromkeys(ids))[:DOCS]
        (folder / "head.jsonl").write_bytes(b"".join(line for line, i in zip(head, ids, strict=True) if i in first))
        found.append(Task(name, read_requests(folder / "head.jsonl")))
    return found


def load(name: str, package, task_set):
    if name == "bpe4k":
        return tokenizer.train([r.context for task in task_set for doc in task.docs for r in doc.choices], 4096)
    return neox.load(package) if name == "neox" else tokenizer.load(name)


def one_by_one(f, params, task_set, tok):
    """ln p of every continuation, from the reference's own definition of its query, summed in float64."""
    rows, scored = [], []
    for request in (r for task in task_set for doc in task.docs for r in doc.choices):
        context, answer = tok.encode(request.context), tok.encode(request.continuation)
        whole = np.concatenate([context, answer]).astype(np.int32)
        inputs = whole[:-1][-SEQ_LEN:]
        rows.append(np.pad(inputs, (0, SEQ_LEN - len(inputs))))
        scored.append((np.arange(len(inputs) - len(answer), len(inputs)), answer))
    n = max(len(answer) for _, answer in scored)
    place_QT, target_QT = (
        np.array([np.pad(pair[i].astype(np.int32), (0, n - len(pair[i]))) for pair in scored]) for i in (0, 1)
    )

    @jax.jit
    def score(params, tokens_QL, place_QT, target_QT):
        def one(row):
            tokens_L, place_T, target_T = row
            log_p_TV = jax.nn.log_softmax(f.logits(params, f.hidden(params, tokens_L[None])[0, place_T]))
            return jnp.take_along_axis(log_p_TV, target_T[:, None], axis=1)[:, 0]

        return jax.lax.map(one, (tokens_QL, place_QT, target_QT))

    log_p_QT = np.asarray(score(params, np.array(rows), place_QT, target_QT), np.float64)
    return np.array([log_p[: len(answer)].sum() for log_p, (_, answer) in zip(log_p_QT, scored, strict=True)])


def decisions(S_Q, choices_MC):
    """Every doc's choice, and whether it was no tie."""
    S_MC = np.append(S_Q, -np.inf)[choices_MC]
    best = np.sort(S_MC, axis=1)
    return S_MC.argmax(1), best[:, -1] - best[:, -2] > TIE


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bytes", "bpe4k", "neox"])
def test_eight_tasks_score_packed_as_one_by_one(name, package, task_set):
    tok = load(name, package, task_set)
    model = Model("llama", 32, 2, 4, 64, tok.vocab_size, SEQ_LEN, n_kv_heads=2, compute_dtype="float32", init_std=0.1)
    f, params = functions(model), init_params(model, 0)
    packed = prefix_tree.pack(task_set, tok, SEQ_LEN)
    assert len(packed.arrays.rows.tokens_nBL) > 2 and packed.arrays.rows.depth_nBL[1:, 0, 0].any()
    S_Q = np.asarray(jax.jit(lambda params, arrays: score_requests(f, params, arrays))(params, packed.arrays))
    expected = one_by_one(f, params, task_set, tok)
    assert np.abs(S_Q - expected).max() < 1e-4 and np.ptp(expected) > 10
    (chosen, clear), (naive_chosen, naive_clear) = (decisions(S, packed.arrays.choices_MC) for S in (S_Q, expected))
    clear &= naive_clear
    assert (chosen == naive_chosen)[clear].all() and clear.sum() >= len(clear) - 1 == 8 * DOCS - 1
