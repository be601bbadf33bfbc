"""Requests: what is read, what is refused and where, and that packed rows hold exactly the reference's queries."""

import gzip
import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ladder import tasks
from ladder.errors import InputError
from ladder.tasks import Doc, Request, Task


def byte_tokenizer(bos=None):
    sizes = np.ones(256 if bos is None else bos + 1, np.int32)
    sizes[255:] = 0
    encode = lambda text: np.frombuffer(text.encode(), np.uint8)  # noqa: E731
    return SimpleNamespace(bos=bos, eos=255, encode=encode, token_bytes=sizes, hash=f"bytes-{bos}")


def line(doc_id=0, idx=0, label=0, context="Q:", continuation=" a", **more):
    request = {"context": context, "continuation": continuation}
    return {"doc_id": doc_id, "idx": idx, "label": label, "request": request} | more


def write(path, lines):
    texts = [text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def read(tmp_path, *lines):
    return tasks.read_requests(write(tmp_path / "mine.jsonl", lines))


@pytest.fixture(scope="module")
def olmes():
    try:
        return tasks.find_requests()
    except InputError as error:
        pytest.skip(f"{error}")


# --- reading


def test_reads_docs_in_file_order_and_choices_by_idx(tmp_path):
    docs = read(tmp_path, line(7, 1, 1, "Q7", " b"), line(2, 0, 0, "Q2", " c"), "", line(7, 0, 1, "Q7", " a"))
    assert docs == (
        Doc(7, (Request("Q7", " a"), Request("Q7", " b")), 1),
        Doc(2, (Request("Q2", " c"),), 0),
    )


def test_unconditional_requests_are_skipped(tmp_path):
    docs = read(tmp_path, line(999_999), line(1_000_000, continuation=""), line(1_000_007))
    assert [doc.id for doc in docs] == [999_999]


@pytest.mark.parametrize("label", [None, "def f(): pass", ["white", "grey"], 0])
def test_a_single_choice_is_gold_whatever_text_its_label_is(tmp_path, label):
    assert read(tmp_path, line(label=label))[0].gold == 0


def without(key):
    record = line()
    (record if key in record else record["request"]).pop(key)
    return record


@pytest.mark.parametrize(
    ("bad", "at", "says"),
    [
        ([without("doc_id")], 2, "'doc_id' is missing"),
        ([without("idx")], 2, "'idx' is missing"),
        ([without("label")], 2, "'label' is missing"),
        ([without("request")], 2, "'request' is missing"),
        ([without("context")], 2, "'context' is missing"),
        ([without("continuation")], 2, "'continuation' is missing"),
        ([line(doc_id="3")], 2, "type str, not int"),
        ([line(doc_id=True)], 2, "type bool, not int"),
        ([line(context=None)], 2, "type NoneType, not str"),
        ([line(continuation="")], 2, "continuation is empty"),
        ([json.dumps(line(continuation="\ud800"))], 2, "surrogate"),
        ([line(label=1)], 2, "label '1' is none of its choices 0..0"),
        ([line(label=-1)], 2, "label '-1'"),
        ([line(0, 0, 2), line(0, 1, 2)], 2, "label '2' is none of its choices 0..1"),
        ([line(0, 0, "a"), line(0, 1, "a")], 2, "label 'a' is none"),
        ([line(0, 0, 0), line(0, 1, 1)], 3, "another label at"),
        ([line(0, 0), line(0, 0)], 3, "choice 0 twice"),
        ([line(0, 0, 0), line(0, 2, 0)], 2, "needs the choices 0..2, the file has [0, 2]"),
        ([line(doc={"choices": []})], 2, "doc 0 has no choices"),
        ([line(0, 0, doc={"choices": ["a", "b"]})], 2, "needs the choices 0..1, the file has [0]"),
        (["[1, 2]"], 2, "a JSON object is wanted, not list"),
        (['{"doc_id": 0, "idx"'], 2, "not JSON, or cut off"),
        (["[" * 100_000], 2, "not JSON"),
        (["9" * 5000], 2, "not JSON"),
    ],
)
def test_refused_with_file_and_line(tmp_path, bad, at, says):
    with pytest.raises(InputError) as caught:
        read(tmp_path, line(5), *bad)
    assert str(caught.value).startswith(f"{tmp_path}/mine.jsonl:{at}: ") and says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps(line()).encode() + b'\n{"doc_id": "\xff"}\n')
    with pytest.raises(InputError, match=r"mine.jsonl:2: not UTF-8 \(byte 13"):
        tasks.read_requests(path)


def test_refuses_a_truncated_or_false_gzip_and_a_missing_or_empty_file(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    # Random answers, so that half of the compressed file holds about half of the lines.
    words = np.random.default_rng(0).integers(0, 1 << 60, 2000)
    whole = gzip.compress("\n".join(json.dumps(line(i, continuation=f" {w}")) for i, w in enumerate(words)).encode())
    path.write_bytes(whole)
    assert len(tasks.read_requests(path)) == 2000
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"mine.jsonl.gz:\d+: (broken or truncated gzip|not JSON)"):
        tasks.read_requests(path)
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"mine.jsonl.gz:1: broken or truncated gzip"):
        tasks.read_requests(path)
    with pytest.raises(InputError, match="cannot be read"):
        tasks.read_requests(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="no requests"):
        read(tmp_path, line(1_000_000))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(list(line())), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | json_values.map(lambda v: json.dumps(v).encode()), max_size=4))
@example([json.dumps(line(label=float("nan"))).encode()])
def test_any_file_is_read_or_refused_in_one_line(tmp_path, lines):
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        assert all(0 <= doc.gold < len(doc.choices) for doc in tasks.read_requests(path))
    except InputError as error:
        assert "\n" not in str(error).replace(str(path), "")


# --- tasks


def test_a_users_file_is_named_by_its_stem(tmp_path):
    path = write(tmp_path / "exam.v2.jsonl", [line(0), line(1)])
    assert tasks.load_task(str(path)).name == "exam.v2"
    with pytest.raises(InputError, match=r"'exam.v2' stands twice"):
        tasks.check_names([tasks.load_task(str(path))] * 2)


def test_unknown_and_missing_tasks(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="unknown task 'arc_easy_tset': try arc_easy_test"):
        tasks.load_task("arc_easy_tset")
    monkeypatch.setenv("LADDER_OLMES", str(tmp_path))
    with pytest.raises(InputError, match=r"^request data not found: run `ladder data olmes` \(looked in .*\)$"):
        tasks.load_task("mbpp")


def test_max_docs_is_a_nested_subset_chosen_without_regard_to_order(tmp_path):
    lines = [line(i, continuation=f" {i}") for i in range(200)]
    forth = str(write(tmp_path / "a.jsonl", lines))
    back = str(write(tmp_path / "b.jsonl", lines[::-1]))
    ids = {n: [doc.id for doc in tasks.load_task(forth, max_docs=n).docs] for n in (1, 20, 100, 200, 500)}
    assert {n: len(kept) for n, kept in ids.items()} == {1: 1, 20: 20, 100: 100, 200: 200, 500: 200}
    assert set(ids[1]) < set(ids[20]) < set(ids[100]) and ids[20] == sorted(ids[20])
    assert ids[20] != list(range(20))
    assert [doc.id for doc in tasks.load_task(back, max_docs=20).docs] == ids[20][::-1]


def doc(*continuations, gold=0, context="Q", id=0):
    return Doc(id, tuple(Request(context, c) for c in continuations), gold)


def test_chance_majority_and_ranked():
    task = Task("t", (doc("a", "b", gold=1), doc("a", "b", "c", "d", gold=1), doc("a", "b", gold=0)))
    assert task.chance == pytest.approx((0.5 + 0.25 + 0.5) / 3)
    assert task.majority == pytest.approx(2 / 3)
    assert task.ranked and not Task("t", (doc("a"), doc("b"))).ranked


@pytest.mark.parametrize(
    "other",
    [
        Task("u", (doc("a", "b"),)),
        Task("t", (doc("a", "b", gold=1),)),
        Task("t", (doc("a", "c"),)),
        Task("t", (doc("ab", ""),)),
        Task("t", (doc("a", "b", context="R"),)),
        Task("t", (doc("a", "b", id=1),)),
        Task("t", (doc("a", "b"), doc("a", "b"))),
    ],
)
def test_hash_follows_the_content(other):
    assert Task("t", (doc("a", "b"),)).hash == Task("t", (doc("a", "b"),)).hash != other.hash


# --- tokens and rows


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
    (encoded,) = tasks.encode((doc(continuation, context=context),), byte_tokenizer(bos), seq_len=6)
    assert encoded.inputs.tolist() == ids(inputs) and encoded.targets.tolist() == ids(targets)
    assert (encoded.n_bytes, encoded.n_chars) == pytest.approx((n_bytes, n_chars))
    assert encoded.cut == (len(continuation.encode()) > 6)


texts = st.text(st.sampled_from("ab é中😀\n"), min_size=1, max_size=12)
documents = st.builds(
    lambda context, answers, gold: doc(*answers, context=context, gold=gold % len(answers)),
    st.text(st.sampled_from("ab é"), max_size=40),
    st.lists(texts, min_size=1, max_size=5),
    st.integers(0, 4),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(documents, min_size=1, max_size=6), min_size=1, max_size=3),
    st.sampled_from([4, 33, 64, 100]),
    st.sampled_from([1, 64, 300]),
    st.sampled_from([1, 4]),
    st.sampled_from([None, 256]),
)
def test_packed_rows_hold_every_request_once(groups, seq_len, batch_tokens, rows_multiple, bos):
    """Taken apart again, the rows give the reference's query and targets of every request, from its own definition."""
    task_set = [Task(f"t{i}", tuple(group)) for i, group in enumerate(groups)]
    packed = tasks.pack(task_set, byte_tokenizer(bos), seq_len, batch_tokens, rows_multiple)
    arrays = packed.arrays
    Q = len(arrays.bytes_Q)
    found = {}
    for bucket in arrays.buckets:
        n, B, L = bucket.tokens_nBL.shape
        assert B % rows_multiple == 0 and seq_len >= L and (B - rows_multiple < max(1, batch_tokens // L))
        rows = zip(*(array.reshape(n * B, -1) for array in bucket), strict=True)
        for tokens, place, target, request in rows:
            for q in np.unique(request[request < Q]):
                assert q not in found
                found[q] = tokens[: place[request == q][-1] + 1], place[request == q], target[request == q]

    q = 0
    asked = [(i, doc) for i, task in enumerate(task_set) for doc in task.docs]
    for m, (i, document) in enumerate(asked):
        assert arrays.task_M[m] == i and arrays.gold_M[m] == document.gold
        n_choices = len(document.choices)
        assert arrays.choices_MC[m].tolist()[:n_choices] == list(range(q, q + n_choices))
        assert (arrays.choices_MC[m][n_choices:] == Q).all()
        for request in document.choices:
            context, answer = list(request.context.encode()), list(request.continuation.encode())
            context = [bos] + context if bos else context or [255]
            query, scored = (context + answer[:-1])[-seq_len:], answer[-seq_len:]
            tokens, place, target = found[q]
            assert tokens.tolist() == query and target.tolist() == scored
            assert place.tolist() == list(range(len(query) - len(scored), len(query)))
            if len(answer) <= seq_len:
                assert (arrays.bytes_Q[q], arrays.chars_Q[q]) == (len(answer), len(request.continuation))
            q += 1
    assert q == Q == len(found)
    assert packed.n_tokens >= packed.n_real == sum(len(tokens) for tokens, _, _ in found.values())


@pytest.mark.parametrize("seq_len", [1, 30, 64, 100, 128, 256, 2048])
def test_row_lengths_waste_at_most_a_third(seq_len):
    lengths = tasks.row_lengths(seq_len)
    assert lengths[-1] == seq_len and len(set(lengths)) == len(lengths) <= 15
    assert all(long <= 1.5 * short + 1 for short, long in pairwise(lengths))


# --- the real files


@pytest.mark.parametrize(
    ("name", "n_docs", "n_requests", "majority"),
    [
        ("mbpp", 500, 500, 1),
        ("humaneval", 164, 164, 1),
        ("arc_easy_test", 2376, 9501, 633 / 2376),
        ("arc_easy_val:0shot", 570, 2281, 158 / 570),
        ("openbookqa_test", 500, 2000, 138 / 500),
        ("csqa_val:0shot", 1221, 6105, 255 / 1221),
        ("sciq/rc_0shot", 1000, 4000, 1),
    ],
)
def test_published_counts(olmes, name, n_docs, n_requests, majority):
    """Docs and requests as counted from the files (reference/data_and_evaluation.md), none lost, none unconditional."""
    task = tasks.load_task(name)
    assert len(task.docs) == n_docs and sum(len(doc.choices) for doc in task.docs) == n_requests
    assert task.majority == pytest.approx(majority)
    assert task.ranked == (n_requests > n_docs)


def test_every_named_task_is_there_and_split_as_its_name_says(olmes):
    for name, folder in tasks.FILES.items():
        shots = "0" if name.endswith(":0shot") else "5" if "rc_" in folder else "3"
        config = json.loads((olmes / "oe_eval_tasks" / folder / "config.json").read_text())["task_config"]
        assert str(config["num_shots"]) == shots, name
        split = name.removesuffix(":0shot").rpartition("_")[2]
        assert config["split"] == {"val": "validation"}.get(split, "test"), name


def test_first_doc_of_arc_easy_in_full(olmes):
    first = tasks.load_task("arc_easy_val:0shot").docs[0]
    context = "Question: Which technology was developed most recently?\nAnswer:"
    answers = (" cellular telephone", " television", " refrigerator", " airplane")
    assert first == Doc(0, tuple(Request(context, answer) for answer in answers), 0)
