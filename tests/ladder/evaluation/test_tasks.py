"""Tasks by name: their meaning, the docs of max_docs, their hash, and the real files."""

import json

import pytest

from ladder.errors import InputError
from ladder.evaluation import tasks
from ladder.evaluation.requests import Doc, Request
from ladder.evaluation.tasks import Task
from tests.ladder.evaluation.asked import doc, line, write


@pytest.fixture(scope="module")
def olmes():
    try:
        return tasks.find_requests()
    except InputError as error:
        pytest.skip(f"{error}")


def test_a_users_file_is_named_by_its_stem(tmp_path):
    path = write(tmp_path / "exam.v2.jsonl", [line(0), line(1)])
    assert tasks.load_task(str(path)).name == "exam.v2"
    with pytest.raises(InputError, match=r"'exam.v2' is listed twice"):
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
        ("mmlu_stem_val", 321, 1284, 90 / 321),
        ("mmlu_humanities_val:0shot", 518, 2072, 137 / 518),
        ("mmlu_social_sciences_test", 3077, 12308, 956 / 3077),
        ("mmlu_other_test", 3242, 12968, 869 / 3242),
        ("mmlu_avg_test", 14042, 56168, 3776 / 14042),
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
        if name.startswith("mmlu_"):  # we write those: tests/launch/fetch/test_mmlu.py
            continue
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


def test_olmes_stands_for_the_eight_tasks():
    names = tasks.expand(["mbpp", "olmes"])
    assert names[0] == "mbpp" and len(names) == 1 + 8 and "mmlu_avg_test" in names
    assert tasks.expand(["olmes:gold", "mbpp:0shot:gold"]) == (*(f"{n}:gold" for n in names[1:]), "mbpp:0shot:gold")
