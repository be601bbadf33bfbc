"""Prefix trees: rows hold exactly the reference's queries, and packed requests score the same as single ones."""

from unittest import mock

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.config import Model
from ladder.evaluation import prefix_tree
from ladder.evaluation.prefix_tree import pack
from ladder.evaluation.score import score_requests
from ladder.evaluation.tasks import Task
from ladder.model import tree_attention
from ladder.model.transformer import functions, init_params
from ladder.model.tree_attention import Tree
from tests.ladder.evaluation.asked import byte_tokenizer, doc

# Small, so that a dozen short requests need several rows, steps, tiles of keys and chunks of targets.
SMALL = {"ROW_TOKENS": 32, "HEAD_TOKENS": 4}
SIZES = {"as built": {name: getattr(prefix_tree, name) for name in SMALL}, "small": SMALL}


@pytest.mark.parametrize(
    ("context", "continuation", "bos", "inputs", "targets", "n_bytes", "n_chars"),
    [
        ("ab", " cd", None, "ab c", " cd", 3, 3),
        ("ab", " é", None, b"ab \xc3", b" \xc3\xa9", 3, 2),
        ("abcdefgh", " cd", None, "efgh c", " cd", 3, 3),  # left-truncated
        ("ab", "cdefgh", None, "bcdefg", "cdefgh", 6, 6),  # the longest that fits
        ("ab", "cdefghi", None, "cdefgh", "defghi", 6, 6),  # one too long: its last part
        ("ab", "éfghijklmn", None, "hijklm", "ijklmn", 6, 10 * 6 / 11),  # characters in proportion to bytes
        ("", "xy", None, b"\xffx", "xy", 2, 2),  # nothing before it: the document separator
        ("ab", "c", 256, [256, 97, 98], "c", 1, 1),
        ("", "c", 256, [256], "c", 1, 1),
        ("abcdef", "c", 256, "abcdef", "c", 1, 1),  # BOS falls to truncation, as in the reference
    ],
)
def test_encode(context, continuation, bos, inputs, targets, n_bytes, n_chars):
    ids = lambda x: list(x.encode() if isinstance(x, str) else x)  # noqa: E731
    (encoded,) = prefix_tree.encode((doc(continuation, context=context),), byte_tokenizer(bos), seq_len=6)
    assert encoded.inputs.tolist() == ids(inputs) and encoded.targets.tolist() == ids(targets)
    assert (encoded.n_bytes, encoded.n_chars) == pytest.approx((n_bytes, n_chars))
    assert encoded.cut == (len(continuation.encode()) > 6)


prompts = st.sampled_from(["", "Q: a A: b\n\n", "Q: é? A: no\n\nQ: é? A: yes\n\n", "x" * 30, "x" * 29 + "y" * 90])
texts = st.text(st.sampled_from("ab é中😀\n"), min_size=1, max_size=12)
documents = st.builds(
    lambda prompt, question, answers, gold: doc(*answers, context=prompt + question, gold=gold % len(answers)),
    prompts,
    st.text(st.sampled_from("ab é"), max_size=20),
    st.lists(texts, min_size=1, max_size=5),
    st.integers(0, 4),
)
task_sets = st.lists(st.lists(documents, min_size=1, max_size=9), min_size=1, max_size=3).map(
    lambda groups: [Task(f"t{i}", tuple(group)) for i, group in enumerate(groups)]
)


def query(request, seq_len, bos=None) -> tuple[list[int], list[int]]:
    """The reference's query and the targets in it, from its own definition."""
    context, answer = list(request.context.encode()), list(request.continuation.encode())
    context = [bos] + context if bos else context or [255]
    return (context + answer[:-1])[-seq_len:], answer[-seq_len:]


def taken_apart(arrays, Q):
    """{request: (query, targets)}, from what attends to what: in a row by `end`, before it the last at each depth."""
    B, L = arrays.rows.tokens_nBL.shape[1:]
    tokens, depth, end = (x.reshape(-1, L) for x in arrays.rows[:3])
    chunks_n2, used = arrays.rows.chunks_n2, arrays.targets.request_hBT < Q
    assert chunks_n2[0, 0] == 0 and (chunks_n2[1:, 0] == chunks_n2[:-1, 1]).all() and chunks_n2[-1, 1] == len(used)
    assert used.any(axis=(1, 2)).all()  # no chunk is padding alone
    before, by_request = np.full(depth.max() + 1, -1), {}  # index of the last node so far at each depth
    for r in range(len(tokens)):
        first, stop = chunks_n2[r // B]
        scored = [x[first:stop, r % B][used[first:stop, r % B]] for x in arrays.targets]
        for place, target, request in zip(*scored, strict=True):
            seen = np.arange(place + 1)
            path = [*before[: depth[r, : place + 1].min()], *(r * L + seen[end[r, seen] > place])]
            assert (depth.flat[path] == np.arange(len(path))).all()
            assert len(path) not in by_request.setdefault(request, {})
            by_request[request][len(path)] = path, target
        for place in range(L):
            before[depth[r, place]] = r * L + place
    for request, by_length in by_request.items():
        lengths = sorted(by_length)
        longest = by_length[lengths[-1]][0]
        assert lengths == list(range(lengths[0], len(longest) + 1))
        assert all(path == longest[:length] for length, (path, _) in by_length.items())
        by_request[request] = tokens.flat[longest].tolist(), [by_length[length][1] for length in lengths]
    return by_request


@pytest.mark.parametrize("sizes", SIZES)
@settings(max_examples=80, deadline=None)
@given(task_sets, st.sampled_from([4, 33, 64, 100]), st.sampled_from([1, 64, 300]), st.sampled_from([1, 4]), st.data())
def test_rows_hold_every_request_once(sizes, task_set, seq_len, batch_tokens, rows_multiple, data):
    bos = data.draw(st.sampled_from([None, 256]))
    with mock.patch.multiple(prefix_tree, **SIZES[sizes]):
        packed = pack(task_set, byte_tokenizer(bos), seq_len, batch_tokens, rows_multiple)
    arrays, Q, nodes = packed.arrays, len(packed.arrays.bytes_Q), 0
    n, B, L = arrays.rows.tokens_nBL.shape
    assert B % rows_multiple == 0 and B - rows_multiple < max(1, batch_tokens / L)
    by_request = taken_apart(arrays, Q)

    q = 0
    for i, task in enumerate(task_set):
        queries = [query(request, seq_len, bos)[0] for document in task.docs for request in document.choices]
        nodes += len({tuple(ids[:length]) for ids in queries for length in range(1, len(ids) + 1)})
        for document in task.docs:
            m = sum(arrays.choices_MC[:, 0] < q)
            n_choices = len(document.choices)
            assert arrays.task_M[m] == i and arrays.gold_M[m] == document.gold
            assert arrays.choices_MC[m].tolist()[:n_choices] == list(range(q, q + n_choices))
            assert (arrays.choices_MC[m][n_choices:] == Q).all()
            for request in document.choices:
                assert by_request[q] == query(request, seq_len, bos)
                n_bytes = len(request.continuation.encode())
                if n_bytes <= seq_len:
                    assert (arrays.bytes_Q[q], arrays.chars_Q[q]) == (n_bytes, len(request.continuation))
                q += 1
    assert q == Q == len(by_request)
    assert packed.n_tokens == n * B * L and 0 <= packed.n_tokens - nodes < B * L  # every token once


FAMILIES = ("olmo2", "gpt2", pytest.param("llama", marks=pytest.mark.slow))


def model(family, seq_len):
    heads = {"n_kv_heads": 1} if family == "llama" else {}
    c = Model(family, 16, 2, 2, 24, 257, seq_len, compute_dtype="float32", init_std=0.3, **heads)
    return c, functions(c), init_params(c, 1)


def one_by_one(f, params, seq_len, bos=None):
    """task set -> ln p of every continuation, one padded row per request, through the forward pass that trains."""
    score = jax.jit(lambda tokens_L: jax.nn.log_softmax(f.logits(params, f.hidden(params, tokens_L[None])[0])))

    def scores(task_set):
        S = []
        for inputs, targets in (query(r, seq_len, bos) for task in task_set for d in task.docs for r in d.choices):
            log_p_LV = np.asarray(score(np.array(inputs + [0] * (seq_len - len(inputs)))), np.float64)
            first = len(inputs) - len(targets)
            S.append(sum(log_p_LV[first + i, target] for i, target in enumerate(targets)))
        return np.array(S)

    return scores


def hard_tasks():
    """Shared prompts, unicode, one choice, docs twice, contexts and answers longer than the model, no context."""
    prompt = "Q: é? A: no\n\nQ: 中? A: yes\n\n"
    ranked = [doc(" no", " yes", " yes!", context=f"{prompt}Q: {word}? A:") for word in ("ab", "abc", "中", "😀", "ab")]
    ranked += [doc(" no", context=f"{prompt}Q: ab? A:"), doc("a", "é", context=""), doc("x", "y", context="z" * 200)]
    gold = [doc("word " * n, context="def f" * n) for n in (1, 5, 40)]
    return [Task("ranked", tuple(ranked)), Task("gold", tuple(gold))]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(("family", "batch_tokens"), [("olmo2", 96), ("llama", 1)])
def test_a_task_set_scores_packed_as_one_by_one(family, batch_tokens):
    _, f, params = model(family, 100)
    with mock.patch.multiple(prefix_tree, **SMALL), mock.patch.multiple(tree_attention, NODES=8, KEYS=16):
        packed = pack(hard_tasks(), byte_tokenizer(), 100, batch_tokens)
        assert packed.arrays.rows.tokens_nBL.shape[1] == -(-batch_tokens // 32)
        assert (packed.arrays.rows.depth_nBL[1:, :, 0] > 16).any()
        S_Q = jax.jit(lambda params, arrays: score_requests(f, params, arrays))(params, packed.arrays)
    np.testing.assert_allclose(S_Q, one_by_one(f, params, 100)(hard_tasks()), atol=5e-5)


LENGTH, MOST = 16, 24  # tokens of the model and of a row; requests
words = st.text(st.sampled_from("ab é"), max_size=6)
answers = st.one_of(st.text(st.sampled_from("abé中"), min_size=1, max_size=3), st.just("a" * 9), st.just("ab" * 10))
siblings = st.builds(
    lambda prompt, question, answers: doc(*answers, context=prompt + question),
    st.sampled_from(["", "Q:a A:b ", "Q:a A:é ", "longer than " * 3]),
    words,
    st.lists(answers, min_size=1, max_size=4),
)


def padded_to_one_shape(arrays):
    """What score_requests reads, with padding: MOST requests, and steps for them where they share nothing."""
    n = MOST // 2
    n_chunks = n + MOST * LENGTH // 32
    rows = prefix_tree.Rows(*np.zeros((3, n, 2, LENGTH), np.int32), np.zeros((n, 2), np.int32))
    rows.end_nBL[:] = np.arange(1, LENGTH + 1)
    targets = prefix_tree.Targets(*np.zeros((3, n_chunks, 2, 32), np.int32))
    targets.request_hBT[:] = MOST
    requests = np.where(arrays.targets.request_hBT == len(arrays.bytes_Q), MOST, arrays.targets.request_hBT)
    given_targets = arrays.targets._replace(request_hBT=requests)
    for into, values in zip(rows + targets, arrays.rows + given_targets, strict=True):
        into[tuple(map(slice, values.shape))] = values
    return prefix_tree.Arrays(rows, targets, np.ones(MOST), None, None, None, None)


@pytest.mark.usefixtures("quick_compile")
def test_any_tree_of_requests_scores_packed_as_one_by_one():
    _, f, params = model("llama", LENGTH)
    alone, packed_program = one_by_one(f, params, LENGTH), jax.jit(lambda arrays: score_requests(f, params, arrays))
    continues = set()

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(siblings, min_size=1, max_size=MOST // 4))
    def check(docs):
        task_set = [Task("t", tuple(docs))]
        sizes = SMALL | {"ROW_TOKENS": LENGTH, "HEAD_TOKENS": 32}
        with mock.patch.multiple(prefix_tree, **sizes), mock.patch.multiple(tree_attention, NODES=4, KEYS=4):
            packed = pack(task_set, byte_tokenizer(), LENGTH, batch_tokens=2 * LENGTH)
            S_Q = np.asarray(packed_program(padded_to_one_shape(packed.arrays)))
        continues.update(map(tuple, packed.arrays.rows.depth_nBL[:, :, 0] > 0))
        expected = alone(task_set)
        np.testing.assert_allclose(S_Q[: len(expected)], expected, atol=5e-5)

    check()
    assert (True, True) in continues and packed_program._cache_size() == 1


P, L = 4, 12
trees = st.lists(st.integers(0, L), min_size=L, max_size=L)  # levels that a node is above a child of the node before it


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("family", FAMILIES)
def test_each_node_of_any_tree_is_computed_as_the_last_token_of_its_own_path(family):
    _, f, params = model(family, P + L)
    nodes, hidden = jax.jit(f.nodes), jax.jit(f.hidden)

    @settings(max_examples=40, deadline=None)
    @given(trees, st.integers(0, P), st.sampled_from([1, 3]), st.integers(0, 99))
    def check(ups, n, B, seed):
        tokens = np.random.default_rng(seed).integers(0, 257, P + L)
        chain = Tree(np.arange(P)[None], np.full((1, P), P), f.root())
        _, path = nodes(params, tokens[None, :P], chain)  # the tree hangs below its first n nodes
        paths = [[0]]
        for node in range(1, L):
            paths.append([*paths[-1][: max(0, len(paths[-1]) - ups[node])], node])
        depth = np.array([n + len(path) - 1 for path in paths])
        end = np.array([1 + max(m for m in range(L) if node in paths[m]) for node in range(L)]).reshape(B, -1)
        end_BL = np.minimum(end - np.arange(B)[:, None] * (L // B), L // B)
        rows = Tree(depth.reshape(B, -1), end_BL, path)
        x_LD = np.asarray(nodes(params, tokens[P:].reshape(B, -1), rows)[0]).reshape(L, -1)
        alone_LMD = np.zeros((L, P + L), int)
        for node, path in enumerate(paths):
            alone_LMD[node, : n + len(path)] = [*tokens[:n], *tokens[P:][path]]
        expected_LD = np.asarray(hidden(params, alone_LMD))[np.arange(L), depth]
        np.testing.assert_allclose(x_LD, expected_LD, atol=2e-5)

    with mock.patch.multiple(tree_attention, NODES=2, KEYS=2):
        check()
