"""`ladder data tasks`: files that `ladder eval` reads, the same ones again, and one line for text that gives none."""

import hashlib
import json
from pathlib import Path

import pytest

from ladder.evaluation.requests import read_requests
from launch import cli

CODE = "def total(values, scale):\n    for value in values:\n        print(value, scale, [scale])\n    return scale\n"
PROSE = "The boats leave the harbour in the morning, and nobody who saw the harbour forgets the boats.\n" * 4
WITH = ["data.tokenizer=bytes", "model.seq_len=16", "data.validation=0.4"]
NO_LEVELS = {"indentation"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("code", CODE), ("prose", PROSE), ("numbers", "1 2 3\n" * 40)):
        Path(name).mkdir()
        for i in range(20):
            Path(name, f"{i}.txt").write_text(f"number {i}\n{text}")
    Path("lines.jsonl").write_text("".join(json.dumps({"text": f"{i} {PROSE}"}) + "\n" for i in range(20)))
    return tmp_path


def tasks(source: str, *flags: str) -> int:
    return cli.main(["data", "tasks", "demo-quick", f"data.text={source}", *WITH, "--docs", "5", *flags])


@pytest.mark.parametrize("source, without", [("code", set()), ("prose", NO_LEVELS), ("lines.jsonl", NO_LEVELS)])
def test_files_that_eval_reads_and_the_same_ones_again(source, without, here, capsys):
    assert tasks(source, "-o", "made", "--choices", "2") == 0
    card = json.loads(Path("made/tasks.json").read_text())
    (corpus,) = card["corpora"].values()
    kinds = {"letters", "words", "brackets", "indentation", "names", "later", "elsewhere"} - without
    assert set(corpus["tasks"]) >= kinds - {"brackets"} and not without & set(corpus["tasks"])
    for entry in corpus["tasks"].values():
        content = Path("made", entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(read_requests(Path("made", entry["file"]))) == entry["docs"] <= 5
    assert "few: the accuracy will be uncertain" in capsys.readouterr().out
    assert tasks(source, "-o", "again", "--choices", "2") == 0
    for entry in corpus["tasks"].values():
        assert Path("again", entry["file"]).read_bytes() == Path("made", entry["file"]).read_bytes()


WRONG = {
    "numbers": (["numbers", "--kinds", "names"], "give no question of the kinds names"),
    "unknown kind": (["code", "--kinds", "jokes"], "no kind jokes"),
    "choices": (["code", "--choices", "1"], "1: must be 2 to 64 (--choices)"),
    "a folder of other things": (["code", "-o", "code"], "holds other things than tasks"),
    "no text": (["nowhere"], "nowhere: no such file or folder"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_made_is_one_line(arguments, message, here, capsys):
    assert tasks(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("tasks").exists()


def test_flags_of_other_words_are_refused(here, capsys):
    assert cli.main(["data", "build", "demo-quick", "--choices", "3"]) == 2
    assert "--choices: no effect with ladder data build" in capsys.readouterr().err
