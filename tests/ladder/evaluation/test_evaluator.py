"""Scores: against a plain NumPy scorer that takes one request at a time, and against hand-computed cases."""

import json
import math
from types import SimpleNamespace

import jax
import jax.extend
import numpy as np
import pytest

from ladder.config import Eval
from ladder.errors import InputError
from ladder.evaluation import prefix_tree, tasks
from ladder.evaluation.evaluator import Evaluator
from ladder.evaluation.metrics import METRICS, RANKED, summarise
from ladder.evaluation.prefix_tree import pack
from ladder.evaluation.requests import Doc, Request
from ladder.evaluation.score import score_requests
from ladder.evaluation.tasks import Task
from ladder.model import cross_entropy
from tests.ladder.evaluation.asked import byte_tokenizer, save
from tests.ladder.evaluation.toy import SEQ_LEN, TOY, by_metric, log_p, toy_params, unigram

pytestmark = pytest.mark.usefixtures("quick_compile")


def naive(params, task, seq_len):
    """The reference scorer's definitions, one request at a time: {metric: values over docs}, and S of every request."""
    values, scores = {metric: [] for metric in METRICS + RANKED}, []
    for doc in task.docs:
        S, per_char, bpb = [], [], []
        for request in doc.choices:
            context, answer = list(request.context.encode()) or [255], list(request.continuation.encode())
            scored = min(len(answer), seq_len)
            S.append(sum(log_p(params, (context + answer)[-seq_len - 1 :])[-scored:]))
            per_char.append(S[-1] / (len(request.continuation) * scored / len(answer)))
            bpb.append(-S[-1] / scored / math.log(2))
        values["bpb"].append(bpb[doc.gold])
        values["acc"].append(float(S.index(max(S)) == doc.gold))
        values["len_norm"].append(float(per_char.index(max(per_char)) == doc.gold))
        values["ce_loss"].append(-per_char[doc.gold])
        values["soft_log"].append(per_char[doc.gold] - np.logaddexp.reduce(per_char))
        values["soft"].append(math.exp(values["soft_log"][-1]))
        scores += S
    return values, scores


def random_tasks():
    """A ranked task with a prompt for each of three subjects: unicode, unequal numbers of choices, a doc twice, long
    contexts; a gold task with long answers."""
    rng = np.random.default_rng(1)
    alphabet = list("abcde fg\n") + ["é", "中", "😀"]
    text = lambda low, high: "".join(rng.choice(alphabet, rng.integers(low, high)))  # noqa: E731
    ranked, gold = [], []
    prompts = [text(15, 50) for _ in range(3)]
    for i in range(40):
        context = prompts[i % 3] + text(0, 99)
        choices = tuple(Request(context, " " + text(1, 12)) for _ in range(rng.integers(1, 6)))
        ranked.append(Doc(i, choices, int(rng.integers(len(choices)))))
    ranked.append(Doc(99, ranked[3].choices, ranked[3].gold))
    for i in range(15):
        gold.append(Doc(i, (Request(text(5, 30), text(20, 180)),), 0))
    return [Task("ranked", tuple(ranked)), Task("gold", tuple(gold))]


def short_rows(monkeypatch):
    for name, value in {"ROW_TOKENS": 64, "HEAD_TOKENS": 16}.items():
        monkeypatch.setattr(prefix_tree, name, value)


def test_a_task_set_scores_as_one_request_at_a_time(tmp_path, monkeypatch):
    short_rows(monkeypatch)
    task_set, params = random_tasks(), toy_params()
    names = tuple(save(task, tmp_path / f"{task.name}.jsonl") for task in task_set)
    evaluator = Evaluator(Eval(tasks=names), TOY, byte_tokenizer(), SEQ_LEN, batch_tokens=600)
    packed = evaluator._data[0].rows
    assert packed.tokens_nBL.shape[1:] == (10, 64) and len(packed.tokens_nBL) > 2
    assert packed.depth_nBL[1:, 0, 0].any() and packed.depth_nBL[:, 1:, 0].any()  # steps and rows continue a tree
    rows = evaluator.rows(params)
    assert [(row["task"], row["metric"]) for row in rows] == [
        *(("ranked", metric) for metric in ("bpb", "ce_loss", "acc", "len_norm", "soft", "soft_log")),
        ("gold", "bpb"),
        ("gold", "ce_loss"),
    ]
    rows = by_metric(rows)
    for task in task_set:
        values, _ = naive(params, task, SEQ_LEN)
        for metric in METRICS + RANKED if task.ranked else METRICS:
            row = rows[task.name, metric]
            assert row["value"] == pytest.approx(np.mean(values[metric]), rel=2e-6)
            assert row["stderr"] == pytest.approx(np.std(values[metric], ddof=1) / math.sqrt(len(task.docs)), rel=1e-4)
            assert row["n_docs"] == len(task.docs)
            assert ("chance" in row) == ("majority" in row) == (metric in ("acc", "len_norm"))
    assert rows["ranked", "acc"]["chance"] == pytest.approx(task_set[0].chance)
    assert rows["ranked", "acc"]["majority"] == pytest.approx(task_set[0].majority)
    assert rows["ranked", "acc"]["value"] != rows["ranked", "len_norm"]["value"]
    assert evaluator.n_cut == sum(len(doc.choices[0].continuation.encode()) > SEQ_LEN for doc in task_set[1].docs) > 3


@pytest.mark.parametrize(("batch_tokens", "chunk_elements"), [(1, 1 << 25), (700, 4096), (1 << 20, 1 << 14)])
def test_every_request_scores_the_same_in_any_batch_and_chunk(monkeypatch, batch_tokens, chunk_elements):
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", chunk_elements)
    if batch_tokens == 700:
        short_rows(monkeypatch)
    task_set, params = random_tasks(), toy_params(2)
    packed = pack(task_set, byte_tokenizer(), SEQ_LEN, batch_tokens, rows_multiple=2)
    S_Q = jax.jit(lambda params, arrays: score_requests(TOY, params, arrays))(params, packed.arrays)
    expected = [s for task in task_set for s in naive(params, task, SEQ_LEN)[1]]
    np.testing.assert_allclose(S_Q, expected, rtol=2e-6, atol=2e-5)


def rows_of(tmp_path, functions, *docs):
    """docs: (gold, continuations...)."""
    built = [
        Doc(i, tuple(Request("Q:", c) for c in continuations), gold) for i, (gold, *continuations) in enumerate(docs)
    ]
    path = save(Task("t", tuple(built)), tmp_path / "t.jsonl")
    evaluator = Evaluator(Eval(tasks=(path,)), functions, byte_tokenizer(), SEQ_LEN)
    return {row["metric"]: row for row in evaluator.rows(toy_params())}


def test_by_hand_bits_per_byte_and_standard_error(tmp_path):
    """p(a) = 1/2 and p(b) = 1/8: "aab" costs 1 + 1 + 3 bits over 3 bytes, "b" costs 3 over 1."""
    rows = rows_of(tmp_path, unigram(a=1 / 2, b=1 / 8), (0, "aab"), (0, "b"))
    assert set(rows) == {"bpb", "ce_loss"}
    assert rows["bpb"]["value"] == pytest.approx((5 / 3 + 3) / 2, rel=1e-6)
    assert rows["bpb"]["stderr"] == pytest.approx((3 - 5 / 3) / 2, rel=1e-5)  # two values: half their distance


def test_by_hand_accuracies(tmp_path):
    """ "aaa" (3 bits) loses to "b" (2) by its sum and wins by its length: 1 bit a character against 2."""
    rows = rows_of(tmp_path, unigram(a=1 / 2, b=1 / 4), (0, "aaa", "b"), (1, "aaa", "b"), (1, "b", "aaa"), (0, "b"))
    assert rows["acc"]["value"] == pytest.approx(2 / 4)
    assert rows["len_norm"]["value"] == pytest.approx(3 / 4)
    assert rows["bpb"]["value"] == pytest.approx((1 + 2 + 1 + 2) / 4, rel=1e-6)
    assert rows["ce_loss"]["value"] == pytest.approx(math.log(2) * (1 + 2 + 1 + 2) / 4, rel=1e-6)
    softs = [2 / 3, 1 / 3, 2 / 3, 1]  # 1/2 a character against 1/4; then no choice at all
    assert rows["soft"]["value"] == pytest.approx(np.mean(softs), rel=1e-6)
    assert rows["soft_log"]["value"] == pytest.approx(np.mean(np.log(softs)), rel=1e-5)
    assert rows["acc"]["stderr"] == pytest.approx(math.sqrt((4 * 0.25 / 3) / 4), rel=1e-6)
    assert rows["acc"]["chance"] == pytest.approx((3 * 0.5 + 1) / 4) and rows["acc"]["majority"] == 0.5


def preferred(*continuations):
    """Which choice each metric prefers where every byte costs 8 bits: one task for each choice as the gold one."""
    choices = tuple(Request("Q:", c) for c in continuations)
    task_set = [Task(f"{gold}", (Doc(0, choices, gold),)) for gold in range(len(choices))]
    arrays = pack(task_set, byte_tokenizer(), SEQ_LEN).arrays
    means = {
        metric: mean
        for metric, (mean, _) in summarise(-8 * math.log(2) * arrays.bytes_Q, arrays, len(task_set)).items()
    }
    np.testing.assert_allclose(means["bpb"], 8, rtol=1e-6)
    assert means["acc"].sum() == means["len_norm"].sum() == 1
    assert means["soft"].sum() == pytest.approx(1)
    return {metric: int(means[metric].argmax()) for metric in ("acc", "len_norm")}


@pytest.mark.parametrize(
    ("continuations", "acc", "len_norm"),
    [
        (("ééé", "xxxxx"), 1, 1),  # 6 bytes against 5; 2 bytes a character against 1
        (("ééé", "xxxxxxx"), 0, 1),  # 6 bytes against 7
        (("ab", "ba", "aa"), 0, 0),  # ties go to the first
        (("abc", "ba", "aa"), 1, 0),
    ],
)
def test_len_norm_counts_characters_and_ties_go_to_the_first(continuations, acc, len_norm):
    assert preferred(*continuations) == {"acc": acc, "len_norm": len_norm}


def test_one_doc_has_no_standard_error(tmp_path):
    rows = rows_of(tmp_path, unigram(), (0, "a", "bb"))
    assert rows["bpb"]["stderr"] is None and rows["acc"]["stderr"] is None
    json.dumps(list(rows.values()), allow_nan=False)


def test_compiles_once_and_keeps_no_logits_of_a_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", 1 << 14)
    names = tuple(save(task, tmp_path / f"{task.name}.jsonl") for task in random_tasks())
    validation = np.zeros((16, SEQ_LEN + 1), np.int32)
    evaluator = Evaluator(Eval(tasks=names), TOY, byte_tokenizer(), SEQ_LEN, validation)
    first, second = (evaluator.rows(toy_params(seed, vocab=300)) for seed in (0, 1))
    assert evaluator._scores._cache_size() == 1
    assert first != second and first == evaluator.rows(toy_params(0, vocab=300))

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (var.aval.size for var in equation.outvars if 300 in var.aval.shape)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from sizes(inner)

    jaxpr = jax.make_jaxpr(evaluator._scores)(toy_params(vocab=300), *evaluator._data).jaxpr
    found = list(sizes(jaxpr))
    assert found and max(found) <= 1 << 14  # 16 x 128 x 300 = 614400 for a batch of validation


def test_the_hash_follows_contents_and_settings_and_not_the_cadence(tmp_path):
    ranked, gold = (save(task, tmp_path / f"{task.name}.jsonl") for task in random_tasks())
    tokens = np.zeros((2, 33), np.int32)
    other = SimpleNamespace(**vars(byte_tokenizer()) | {"hash": "other"})

    def of(names=(ranked, gold), tokenizer=None, seq_len=32, validation=tokens, **more):
        return Evaluator(Eval(tasks=names, **more), TOY, tokenizer or byte_tokenizer(), seq_len, validation).hash

    assert of() == of(every=7)
    changed = [
        of((ranked,)),
        of(max_docs=5),
        of(tokenizer=other),
        of(seq_len=31),
        of(validation=tokens + 1),
        of(validation=None),
    ]
    assert len({of(), *changed}) == 1 + len(changed)


def test_gold_answers_alone_have_the_same_bpb(tmp_path):
    name = save(random_tasks()[0], tmp_path / "ranked.jsonl")
    whole, gold = (Evaluator(Eval(tasks=(n,)), TOY, byte_tokenizer(), SEQ_LEN) for n in (name, f"{name}:gold"))
    expected, found = by_metric(whole.rows(toy_params())), by_metric(gold.rows(toy_params()))
    assert set(found) == {("ranked", metric) for metric in METRICS} and gold.hash != whole.hash
    for key, row in found.items():
        assert row["value"] == pytest.approx(expected[key]["value"], rel=1e-6)
        assert (row["n_docs"], row["stderr"]) == (expected[key]["n_docs"], pytest.approx(expected[key]["stderr"]))
    with pytest.raises(InputError, match="'ranked' is listed twice"):
        Evaluator(Eval(tasks=(name, f"{name}:gold")), TOY, byte_tokenizer(), SEQ_LEN)


def test_a_task_twice_is_refused(tmp_path):
    name = save(random_tasks()[0], tmp_path / "t.jsonl")
    with pytest.raises(InputError, match="'t' is listed twice"):
        Evaluator(Eval(tasks=(name, name)), TOY, byte_tokenizer(), SEQ_LEN)


def test_real_requests():
    """Five docs of three published tasks score as one request at a time."""
    try:
        tasks.find_requests()
    except InputError as error:
        pytest.skip(str(error))
    names = ("mbpp", "humaneval", "arc_easy_val:0shot")
    params = toy_params(5)
    evaluator = Evaluator(Eval(tasks=names, max_docs=5), TOY, byte_tokenizer(), 256)
    rows = by_metric(evaluator.rows(params))
    for name in names:
        task = tasks.load_task(name, max_docs=5)
        values, _ = naive(params, task, 256)
        for metric in METRICS + RANKED if task.ranked else METRICS:
            assert rows[name, metric]["value"] == pytest.approx(np.mean(values[metric]), rel=2e-6)
            assert rows[name, metric]["n_docs"] == 5
