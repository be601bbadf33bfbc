"""Tasks from held-out text: every wrong continuation is wrong in one way; the same text gives the same bytes."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.data import sources
from ladder.data_config import Data
from ladder.errors import InputError
from ladder.evaluation.held_out import documents, pieces, tasks
from ladder.evaluation.held_out.tasks import Settings
from ladder.evaluation.requests import read_requests

CODE = """import os


def total(values, scale=(1, 2)):
    result = [0] * len(values)
    for index, value in enumerate(values):
        if value > scale[0] and "limit" not in os.environ:
            result[index] = {"value": value, "scale": scale}
    return result, total(values[1:], (scale[0], 2))
"""
PROSE = (
    "The harbour of the town lies below the old wall, and in the morning the boats leave it one after the other. "
    "Nobody who has seen the town from the wall forgets the light on the water (or the noise of the gulls). "
) * 3
TEXTS = [f"# file {i}\n" + CODE.replace("value", f"value{i}") for i in range(30)]


def made(kind: str, texts=TEXTS, **more):
    return tasks.make(texts, Settings(kinds=(kind,), docs=60, choices=3, **more))[kind]


def gold_and_wrong(doc):
    gold = doc.choices[doc.gold].continuation
    return gold, [choice.continuation for choice in doc.choices if choice.continuation != gold]


def source_of(doc, texts=TEXTS) -> str:
    gold = doc.choices[doc.gold]
    return next(text for text in texts if gold.context + gold.continuation in text)


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_the_true_continuation_follows_its_context_and_the_others_differ(kind):
    docs = made(kind)
    assert len(docs) == 60 and len({doc.id for doc in docs}) == 60
    for doc in docs:
        gold, wrong = gold_and_wrong(doc)
        assert source_of(doc)
        assert len({gold, *wrong}) == 3
        assert len({choice.context for choice in doc.choices}) == 1
    assert {doc.gold for doc in docs} == {0, 1, 2}


def test_two_letters_change_places():
    for doc in made("letters"):
        gold, wrong = gold_and_wrong(doc)
        for text in wrong:
            i, j = [i for i, (a, b) in enumerate(zip(gold, text, strict=True)) if a != b]
            assert j == i + 1 and (gold[i], gold[j]) == (text[j], text[i]) and gold[i : j + 1].isalpha()


def test_words_are_the_same_in_another_order():
    for doc in made("words"):
        gold, wrong = gold_and_wrong(doc)
        for text in wrong:
            assert Counter(re.findall(r"\w+", text)) == Counter(re.findall(r"\w+", gold))
            assert re.sub(r"\w+", "", text) == re.sub(r"\w+", "", gold)


def test_one_bracket_or_quotation_mark_is_another():
    for doc in made("brackets"):
        gold, wrong = gold_and_wrong(doc)
        for text in wrong:
            ((a, b),) = [(a, b) for a, b in zip(gold, text, strict=True) if a != b]
            assert any(a in alike and b in alike for alike in ("([{", ")]}", "'\""))


def test_only_the_indentation_moves_and_by_whole_levels():
    for doc in made("indentation"):
        gold, wrong = gold_and_wrong(doc)
        for text in wrong:
            assert text.lstrip() == gold.lstrip() and (len(text) - len(gold)) % 4 == 0


def test_a_name_is_replaced_by_another_of_the_same_document():
    for doc in made("names"):
        gold, wrong = gold_and_wrong(doc)
        for text in wrong:
            ((_, new),) = [
                pair
                for pair in zip(re.findall(r"\w+|\W", gold), re.findall(r"\w+|\W", text), strict=True)
                if pair[0] != pair[1]
            ]
            assert pieces.names_in(source_of(doc))[new] > 1 and new not in re.findall(r"\w+", gold)


def test_what_stands_later_or_in_another_document():
    for doc in made("later"):
        gold, wrong = gold_and_wrong(doc)
        text = source_of(doc)
        behind = text[text.index(doc.choices[doc.gold].context + gold) + len(doc.choices[doc.gold].context) :]
        assert all(other in behind for other in wrong)
    texts = [*TEXTS[:2], PROSE, PROSE.upper()]
    for doc in made("elsewhere", texts):
        _, wrong = gold_and_wrong(doc)
        here = source_of(doc, texts)
        assert all(any(other in text for text in texts if text != here) for other in wrong)


def test_prose_has_all_kinds_but_indentation():
    counts = {kind: len(docs) for kind, docs in tasks.make([PROSE, PROSE.swapcase()], Settings(choices=2)).items()}
    assert counts.pop("indentation") == 0 and all(counts.values())


def test_every_document_is_asked_once_before_one_is_asked_again():
    first = made("words", context=10_000)[: len(TEXTS)]
    assert len({source_of(doc) for doc in first}) == len(TEXTS)


def test_another_seed_asks_others():
    assert {doc.id for doc in made("words")} != {doc.id for doc in made("words", seed=1)}


text = st.text(st.sampled_from("ab_ (){}[]'\".,\n\t\u00e9\u65e5"), max_size=300)


@settings(max_examples=100, deadline=None)
@given(st.lists(text, max_size=4), st.integers(2, 5), st.integers(1, 60), st.integers(16, 40))
def test_any_text_gives_valid_questions_and_the_same_twice(tmp_path_factory, texts, choices, context, longest):
    how = Settings(docs=5, choices=choices, context=context, longest=longest)
    first = tasks.make(texts, how)
    assert first == tasks.make(list(texts), how)
    path = tmp_path_factory.mktemp("held-out") / "x.jsonl"
    for docs in first.values():
        for doc in docs:
            gold, wrong = gold_and_wrong(doc)
            assert len(wrong) == choices - 1 and source_of(doc, texts)
            assert len(doc.choices[0].context) <= context and len(gold) <= longest
        if docs:
            path.write_text("".join(tasks.to_lines(docs)), encoding="utf-8")
            assert list(read_requests(path)) == docs


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_the_documents_are_those_that_the_corpus_holds_out(tokenizer, tmp_path):
    (tmp_path / "text").mkdir()
    for i, content in enumerate(TEXTS):
        (tmp_path / "text" / f"{i}.txt").write_text(content)
    data = Data((str(tmp_path / "text"),), tokenizer=tokenizer, validation=0.4)
    (corpus,) = sources.build(data, 16, tmp_path / "corpora")
    texts = documents.documents(corpus)
    assert corpus.documents["validation"] - 1 <= len(texts) <= corpus.documents["validation"]
    assert len(texts) > 3 and set(texts) <= {*TEXTS}


WRONG = [{"kinds": ("jokes",)}, {"kinds": ()}, {"docs": 0}, {"choices": 1}, {"context": 0}, {"longest": 2}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError) as refused:
        Settings(**wrong)
    assert refused.value.argument in wrong
