"""Request files: what is read, what is refused, and the line that the error names."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ladder.errors import InputError
from ladder.evaluation.requests import Doc, Request, read_requests
from ladder.evaluation.tasks import load_task
from tests.ladder.evaluation.asked import line, write


def read(tmp_path, *lines):
    return read_requests(write(tmp_path / "mine.jsonl", lines))


def test_reads_docs_in_file_order_and_choices_by_idx(tmp_path):
    docs = read(tmp_path, line(7, 1, 1, "Q7", " b"), line(2, 0, 0, "Q2", " c"), "", line(7, 0, 1, "Q7", " a"))
    assert docs == (
        Doc(7, (Request("Q7", " a"), Request("Q7", " b")), 1),
        Doc(2, (Request("Q2", " c"),), 0),
    )


def test_unconditional_requests_are_skipped(tmp_path):
    skipped = line(1_000_009, continuation="", context="Answer:")
    docs = read(tmp_path, line(9), skipped, line(999_999), line(1_000_007))
    assert [doc.id for doc in docs] == [9, 999_999, 1_000_007]
    with pytest.raises(InputError, match="is an unconditional request of doc 8, which the file lacks"):
        read(tmp_path, line(9), line(1_000_008, context="Answer:"))


def test_a_mark_of_utf8_and_gzip_are_told_by_the_content(tmp_path):
    content = b"\xef\xbb\xbf" + json.dumps(line(3)).encode() + b"\n"
    for name, stored in (("a.jsonl", content), ("b.jsonl", gzip.compress(content)), ("c.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(stored)
        assert [doc.id for doc in read_requests(tmp_path / name)] == [3]


def test_doc_ids_may_be_texts(tmp_path):
    docs = read(tmp_path, line("b", 0, 0), line("a", 0, 1), line("b", 1, 0, continuation=" c"), line("a", 1, 1))
    assert [(doc.id, len(doc.choices), doc.gold) for doc in docs] == [("b", 2, 0), ("a", 2, 1)]
    assert load_task(str(tmp_path / "mine.jsonl"), max_docs=1).docs[0] in docs


def question(answer=0, choices=("red", "blue"), **more):
    choices = list(choices) if isinstance(choices, tuple) else choices
    return {"question": " What colour is the sky? ", "choices": choices, "answer": answer} | more


ARC = {"text": ["red", "blue", "green"], "label": ["A", "B", "C"]}
NUMBERED = {"text": ["red", "blue", "green"], "label": ["1", "2", "3"]}
# {name: (a line, index of the gold choice)}
QUESTIONS = {
    "index": (question(1), 1),
    "index as text": (question("1"), 1),
    "letter": (question("B"), 1),
    "small letter": (question("b"), 1),
    "text": (question("blue"), 1),
    "text with blanks": (question(" blue ", ("red", "  blue")), 1),
    "label": (question("C", ARC), 2),
    "index beside labels": (question(0, ARC), 0),
    "text beside labels": (question("green", ARC), 2),
    "numbers as labels": (question("1", NUMBERED), 0),
    "without labels": (question("C", {"text": ["red", "blue", "green"]}), 2),
    "one reading": (question("A", ("A", "B")), 0),
    "as in ARC": ({k: v for k, v in question(choices=ARC).items() if k != "answer"} | {"answerKey": "B"}, 1),
    "other fields": (question(1, subject="astronomy", id="q7"), 1),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_doc_of_ranked_choice(tmp_path, name):
    record, gold = QUESTIONS[name]
    [doc] = read(tmp_path, record)
    assert {choice.context for choice in doc.choices} == {"Question: What colour is the sky?\nAnswer:"}
    assert [choice.continuation for choice in doc.choices][:2] in ([" red", " blue"], [" A", " B"])
    assert (doc.gold, doc.id) == (gold, record.get("id", 0))


def test_questions_without_ids_are_numbered(tmp_path):
    with pytest.raises(InputError, match=r"mine\.jsonl:2: some questions have an id and some have none"):
        read(tmp_path, question(), question(id=0))
    assert [doc.id for doc in read(tmp_path, question(), "", question(1), question("A"))] == [0, 1, 2]
    assert load_task(str(tmp_path / "mine.jsonl")).ranked


# {name: (what the second line holds, what is said of it)}
BAD_QUESTIONS = {
    "no answer": ({"question": "q", "choices": ["a"]}, "the field 'answer' is missing"),
    "null": (question(None), "the field 'answer' is of type NoneType, not int or str"),
    "truth": (question(True), "the field 'answer' is of type bool, not int or str"),
    "no choices": ({"question": "q", "answer": 0}, "choices must be a list of texts, or {"),
    "number": (question(0, ("a", 1)), "choices must be a list of texts"),
    "empty": (question(0, ("a", " ")), "no text may be empty"),
    "objects": (question(0, ({"text": "a", "label": "A"},)), "choices must be a list of texts"),
    "labels": (question(0, {"text": ["a", "b"], "label": ["A"]}), "it needs as many labels, all different"),
    "labels twice": (question(0, {"text": ["a", "b"], "label": ["A", "A"]}), "as many labels, all different"),
    "beyond": (question(2), "answer '2' names none of the 2 choices; write its label or its text"),
    "negative": (question(-1), "answer '-1' names none of the 2 choices"),
    "unknown": (question("green"), "answer 'green' names none of the 2 choices; write its index, from 0"),
    "letter or text": (question("A", ("B", "A")), "answer 'A' names 2 of the choices; write its index, from 0"),
    "index or text": (question("1", ("1", "0")), "answer '1' names 2 of the choices"),
    "index or label": (question(1, NUMBERED), "answer '1' names 2 of the choices; write its label or its text"),
    "the same text twice": (question("a", ("b", "a", "a")), "answer 'a' names 3 of the choices"),
    "question": (question() | {"question": ["q"]}, "the field 'question' is of type list, not str"),
    "empty question": (question() | {"question": " "}, "the question is empty"),
    "an id twice": (question(id="first"), "the id 'first' is that of "),
    "an id of another type": (question(id=3), "the id 3 is of type int, and that at "),
    "an id for some": (question(doc_id=3) | {"id": None}, "the field 'id' is of type NoneType"),
    "another kind of line": ({"prompt": "q", "answer": 0}, "the field 'question' is missing"),
    "surrogate": (json.dumps(question(0, ("a", "\ud800"))), "contains a lone surrogate"),
}


@pytest.mark.parametrize("name", BAD_QUESTIONS)
def test_a_question_is_refused_with_file_and_line(tmp_path, name):
    bad, says = BAD_QUESTIONS[name]
    with pytest.raises(InputError) as caught:
        read(tmp_path, question(**({"id": "first"} if "id" in bad else {})), bad)
    assert str(caught.value).startswith(f"{tmp_path}/mine.jsonl:2: ") and says in str(caught.value)
    assert "\n" not in str(caught.value)


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
        ([line(doc_id="3")], 2, "the id '3' is of type str, and that at "),
        ([line(doc_id=True)], 2, "type bool, not int or str"),
        ([line(context=None)], 2, "type NoneType, not str"),
        ([line(continuation="")], 2, "continuation is empty"),
        ([json.dumps(line(continuation="\ud800"))], 2, "contains a lone surrogate"),
        ([line(label=1)], 2, "label '1' is none of its choices 0..0"),
        ([line(label=-1)], 2, "label '-1'"),
        ([line(0, 0, 2), line(0, 1, 2)], 2, "label '2' is none of its choices 0..1"),
        ([line(0, 0, "a"), line(0, 1, "a")], 2, "label 'a' is none"),
        ([line(0, 0, 0), line(0, 1, 1)], 3, "another label at"),
        ([line(0, 0), line(0, 0)], 3, "choice 0 twice"),
        ([line(0, 0, 0), line(0, 2, 0)], 2, "needs the choices 0..2, the file has [0, 2]"),
        ([line(doc={"choices": []})], 2, "doc 0 has no choices"),
        ([line(0, 0, doc={"choices": ["a", "b"]})], 2, "needs the choices 0..1, the file has [0]"),
        (["[1, 2]"], 2, "expected a JSON object, not list"),
        (['{"doc_id": 0, "idx"'], 2, "not JSON, or truncated"),
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
        read_requests(path)


def test_refuses_a_truncated_or_false_gzip_and_a_missing_or_empty_file(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    # Random answers, so that half of the compressed file holds about half of the lines.
    words = np.random.default_rng(0).integers(0, 1 << 60, 2000)
    whole = gzip.compress("\n".join(json.dumps(line(i, continuation=f" {w}")) for i, w in enumerate(words)).encode())
    path.write_bytes(whole)
    assert len(read_requests(path)) == 2000
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"mine.jsonl.gz:\d+: (broken or truncated gzip|not JSON)"):
        read_requests(path)
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"mine.jsonl.gz:1: broken or truncated gzip"):
        read_requests(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_requests(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="the file has no requests"):
        read(tmp_path, "")


KEYS = [*line(), "question", "choices", "answer", "text"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | json_values.map(lambda v: json.dumps(v).encode()), max_size=4))
@example([json.dumps(line(label=float("nan"))).encode()])
def test_any_file_is_read_or_refused_in_one_line(tmp_path, lines):
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        assert all(0 <= doc.gold < len(doc.choices) for doc in read_requests(path))
    except InputError as error:
        assert "\n" not in str(error).replace(str(path), "")
