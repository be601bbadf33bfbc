"""Multiple-choice datasets of TFDS as tasks: "tfds:NAME[/CONFIG][:SPLIT][@DATA_DIR]", without examples in the prompt.

| dataset     | context                        | continuations                | gold      |
|-------------|--------------------------------|------------------------------|-----------|
| hellaswag   | ACTIVITY_LABEL: CONTEXT        | every ending                 | label     |
| ai2_arc     | Question: QUESTION⏎Answer:     | the text of every choice     | answerKey |
| openbookqa  | Question: STEM⏎Answer:         | choice_A ... choice_D        | answerKey |
| piqa        | Goal: GOAL⏎Answer:             | sol1, sol2                   | label     |
| winogrande  | SENTENCE up to _, each option  | SENTENCE after _             | label     |

Prompts are those of OLMES (Gu et al. 2024), ranked choice. A space goes before every continuation. Marks in brackets
("[title]") are removed from HellaSwag. Its context is one string in TFDS, so its last, unfinished sentence keeps the
small letter that OLMES capitalises. The default split is validation.
"""

import re

from ladder.data.texts import tfds_source
from ladder.errors import InputError
from ladder.evaluation.requests import Doc, Request


def read_tfds(spec: str) -> tuple[Doc, ...]:
    """Docs in the dataset's order; a doc's id is its record number. spec: as tfds_source.SYNTAX.

    Raises InputError for a dataset that is not in PROMPTS or not prepared, and for records without a gold choice.
    """
    match = tfds_source.NAME.fullmatch(spec)
    dataset = match and match[1].split("/")[0].split(":")[0]
    if dataset not in PROMPTS:
        raise InputError(f"{spec}: write {tfds_source.SYNTAX}, NAME one of {', '.join(PROMPTS)}")
    docs = []
    for where, example in tfds_source.examples(spec, "validation"):
        try:
            pairs, gold = PROMPTS[dataset](example)
            choices = tuple(Request(context, f" {_text(answer)}") for context, answer in pairs)
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where}: not a record of {dataset} ({type(error).__name__}: {reason})") from None
        if not 0 <= gold < len(choices):
            raise InputError(f"{where}: its label is none of its {len(choices)} choices; use a split with answers")
        if any(not choice.continuation.strip() for choice in choices):
            raise InputError(f"{where}: one of its choices is empty, so there is nothing to score")
        docs.append(Doc(len(docs), choices, gold))
    if not docs:
        raise InputError(f"{spec}: the dataset has no records")
    return tuple(docs)


def _text(value) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _question(question, answers, word: str = "Question") -> list[tuple]:
    return [(f"{word}: {_text(question)}\nAnswer:", answer) for answer in answers]


def _hellaswag(example):
    def plain(value) -> str:
        return re.sub(r" {2,}", " ", re.sub(r"\[[^\]]*\]", "", _text(value).replace(" [title]", "."))).strip()

    context = f"{plain(example['activity_label'])}: {plain(example['context'])}"
    return [(context, plain(ending)) for ending in example["endings"]], int(example["label"])


def _ai2_arc(example):
    choices = example["choices"]
    if isinstance(choices, dict):
        answers, labels = choices["text"], list(choices["label"])
    else:
        answers, labels = ([choice[name] for choice in choices] for name in ("text", "label"))
    key = example["answerKey"]
    return _question(example["question"], answers), labels.index(key) if key in labels else -1


def _openbookqa(example):
    question = example["question"]
    answers = [question[f"choice_{letter}"] for letter in "ABCD"]
    return _question(question["stem"], answers), int(example["answerKey"])


def _piqa(example):
    return _question(example["goal"], (example["sol1"], example["sol2"]), "Goal"), int(example["label"])


def _winogrande(example):
    before, blank, after = _text(example["sentence"]).partition("_")
    if not blank:
        raise KeyError("no _ in the sentence")
    return [(before + _text(example[name]), after) for name in ("option1", "option2")], int(example["label"])


PROMPTS = {
    "hellaswag": _hellaswag,
    "ai2_arc": _ai2_arc,
    "openbookqa": _openbookqa,
    "piqa": _piqa,
    "winogrande": _winogrande,
}
