"""The questions of a demo: from its own held-out text, asked at the ends of branches, the kinds that the text has."""

from pathlib import Path

import pytest

from configs import loader
from configs.demo import QUESTIONS
from ladder.evaluation.held_out.tasks import Settings
from ladder.evaluation.requests import read_requests
from launch import prepare
from launch.demo import flow, questions

CODE = "def total(values, scale):\n    for value in values:\n        print(value, scale, [scale])\n    return scale\n"
PROSE = "The boats leave the harbour in the morning, and nobody who saw the harbour forgets the boats.\n" * 4
ASKED = tuple(Settings((kind,), 30, 2, 80, 40) for kind in ("letters", "words", "indentation"))


@pytest.fixture
def built(tmp_path):
    def of(text: str) -> prepare.Built:
        folder = tmp_path / "text"
        folder.mkdir()
        for i in range(20):
            (folder / f"{i}.txt").write_text(f"number {i}\n{text}")
        ladder = flow.ladder_of("demo-quick", 0, (str(folder),))
        small = loader.overridden(ladder, ("data.validation=0.4", "model.seq_len=16", "batch_tokens=128"))
        return prepare.build(small, tmp_path / "corpora")

    return of


@pytest.mark.parametrize("text, without", [(CODE, []), (PROSE, ["indentation"]), ("1 2 3\n" * 40, ["letters"])])
def test_the_kinds_that_the_text_has_and_a_line_for_each_other(text, without, built, tmp_path):
    corpus = built(text)
    paths, lines = questions.write(corpus, ASKED, tmp_path / "demo")
    names = [Path(path).stem for path in paths]
    assert not set(without) & set(names) and set(names) <= {"letters", "words", "indentation"}
    assert all(f"questions of the kind {kind} from the held-out text: none" in "".join(lines) for kind in without)
    for path in paths:
        docs = read_requests(Path(path))
        assert 0 < len(docs) <= 30 and {len(doc.choices) for doc in docs} == {2}
    before = [Path(path).read_bytes() for path in paths]
    assert questions.write(corpus, ASKED, tmp_path / "demo") == (paths, lines)
    assert [Path(path).read_bytes() for path in paths] == before
    other = questions.write(corpus, ASKED[:1], tmp_path / "demo")[0]
    assert not set(other) & set(paths)


@pytest.mark.parametrize("name", QUESTIONS)
def test_trunks_are_asked_nothing_and_run_ids_stay(name):
    ladder = flow.ladder_of(name, 0, ())
    asked = questions.added(ladder, ["/a/letters.jsonl"])
    assert [run.run_id for run in asked.all] == [run.run_id for run in ladder.all]
    tasks = {run.run_id: (run.kind, run.eval.tasks) for run in asked.all}
    assert all((kind == "trunk") == (not tasks) for kind, tasks in tasks.values())
    assert all(tasks[-1] == "/a/letters.jsonl" for kind, tasks in tasks.values() if kind != "trunk")
    most = ladder.targets[0].eval.max_docs
    assert most is None or all(each.docs <= most for each in QUESTIONS[name])
