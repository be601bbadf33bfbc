"""`ladder eval`: scores of finished runs from their checkpoints, recorded beside the run's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest

from fitting.tables import runs_table
from ladder.config import Eval
from ladder.errors import Preempted
from ladder.loop.evaluate import _recorded
from ladder.loop.train import train
from ladder.parallel import processes
from ladder.rundir.record import Record
from launch import cli
from tests.ladder.conftest import World
from tests.ladder.evaluation.asked import line, write


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(quick_compile, world, tmp_path_factory):
    """A run with the checkpoints of steps 45 and 60, evaluated at 20, 40 and 60."""
    (directory,) = world([world.rung()], tmp_path_factory.mktemp("runs"))
    train(directory)
    return directory


@pytest.fixture
def quiz(tmp_path):
    answers = list(enumerate([" blue", " red"]))
    lines = [line(doc, i, doc % 2, "The stone is", answer) for doc in range(6) for i, answer in answers]
    return str(write(tmp_path / "quiz.jsonl", lines))


def evaluated(tmp_path, *arguments):
    assert cli.main(["eval", *map(str, arguments), "--json", str(tmp_path / "out.json")]) == 0
    return json.loads((tmp_path / "out.json").read_text())["evaluations"]


def scores(rows):
    return {(row["task"], row["metric"]): row["value"] for row in rows}


def test_the_runs_own_evaluation_is_found_recorded_and_computed_again_from_a_checkpoint(trained, tmp_path, capsys):
    (recorded,) = evaluated(tmp_path, trained)
    assert recorded["step"] == 60 and recorded["seconds"] is None
    assert "recorded before; nothing was computed" in capsys.readouterr().out
    (last,) = (trained / "metrics").glob("*-000000060.jsonl")
    text = last.read_text()
    last.write_text(text.replace(recorded["hash"], "another"))
    try:
        (computed,) = evaluated(tmp_path, trained)
    finally:
        last.write_text(text)
    assert computed["seconds"] > 0 and computed["hash"] == recorded["hash"]
    assert computed["tokens"] == recorded["tokens"] > 0
    assert scores(computed["rows"]) == pytest.approx(scores(recorded["rows"]), rel=1e-5)
    assert computed["share"] == pytest.approx(computed["tokens"] / 3 / (60 * 4 * 32))
    shutil.rmtree(trained / "evaluations")


def test_another_task_joins_the_runs_table_and_is_computed_once(trained, quiz, tmp_path, capsys):
    computed, again = evaluated(tmp_path, trained, "--tasks", quiz), evaluated(tmp_path, trained, "--tasks", quiz)
    scored = computed[0]["rows"]
    assert scored == again[0]["rows"] and again[0]["seconds"] is None
    assert {row["task"] for row in scored} == {"quiz"} and all(row["step"] == 60 for row in scored)
    bpb = next(row for row in scored if row["metric"] == "bpb")
    shown = capsys.readouterr().out
    assert f"{bpb['value']:.4f} ± {bpb['stderr']:.4f}" in shown and "of the run's training compute" in shown
    rows = runs_table.read(trained).select(task="quiz", final=True)
    assert dict(zip(rows["metric"], rows["value"], strict=True))["bpb"] == bpb["value"]
    assert set(rows["n_docs"]) == {6}


def test_a_run_may_be_named_relative_to_the_current_folder(trained, quiz, tmp_path, monkeypatch):
    monkeypatch.chdir(trained.parent)
    (computed,) = evaluated(tmp_path, trained.name, "--tasks", quiz, "--max-docs", 2)
    assert computed["step"] == 60 and computed["seconds"] > 0


def test_missing_evaluations_are_computed_from_every_checkpoint(trained, quiz, tmp_path, capsys):
    computed = evaluated(tmp_path, trained, "--tasks", quiz, "--max-docs", 4, "--missing")
    assert [evaluation["step"] for evaluation in computed] == Record(trained).saved_steps() == [45, 60]
    assert evaluated(tmp_path, trained, "--tasks", quiz, "--max-docs", 4, "--missing") == []
    assert "no evaluation is missing" in capsys.readouterr().out
    own = evaluated(tmp_path, trained, "--missing")  # evaluated at 20, 40 and 60, saved at 45 and 60
    assert [evaluation["step"] for evaluation in own] == [45]


@pytest.mark.slow
def test_a_run_whose_evaluation_changed_halfway_lacks_the_new_one_before(world, tmp_path, monkeypatch):
    """Steps 20 and 40 score 64 windows, step 60 scores 32; checkpoints are kept of 40 and 60."""
    rung = world.rung(save_every=20, eval=Eval((), every=20, validation_tokens=2048))
    (directory,) = world([rung], tmp_path / "runs")
    with monkeypatch.context() as patch:
        notice = processes.Notice(lambda step: step == 40, lambda: None)
        patch.setattr(processes, "stop_notice", lambda: nullcontext(notice))
        with pytest.raises(Preempted):
            train(directory)
    world([replace(rung, eval=replace(rung.eval, validation_tokens=1024))], tmp_path / "runs")
    train(directory)
    record, new = Record(directory), json.loads((directory / "DONE.json").read_text())["evaluation"]
    rows = list(record.rows())
    by_step = {row["step"]: row["evaluation"] for row in rows if row["task"] != "train"}
    assert by_step[20] == by_step[40] != by_step[60] == new
    assert not any("evaluation" in row for row in rows if row["task"] == "train")
    assert list(_recorded(record, by_step[20])) == [20, 40] and list(_recorded(record, new)) == [60]

    (computed,) = evaluated(tmp_path, directory, "--missing")
    assert (computed["step"], computed["hash"]) == (40, new) and {r["evaluation"] for r in computed["rows"]} == {new}
    assert sorted(_recorded(record, new)) == [40, 60]

    shutil.rmtree(directory / "evaluations")
    for without, expected in {(20, 40): [60], (20, 40, 60): [20, 40, 60]}.items():  # rows of an earlier version
        for segment in (directory / "metrics").glob("*.jsonl"):
            segment_rows = [json.loads(text) for text in segment.read_text().splitlines()]
            kept = [{k: v for k, v in r.items() if k != "evaluation" or r["step"] not in without} for r in segment_rows]
            segment.write_text("".join(json.dumps(row) + "\n" for row in kept))
        assert list(_recorded(record, new)) == expected and list(_recorded(record, by_step[20])) == []


@pytest.mark.slow
def test_killed_before_the_rename_nothing_is_recorded_and_it_is_computed_again(trained, quiz, tmp_path):
    asked = ["eval", str(trained), "--tasks", quiz, "--max-docs", "3", "--missing"]
    named = lambda: {path.name for path in (trained / "evaluations").glob("0*.json")}  # noqa: E731
    before, env = named(), os.environ | {"LADDER_KILL_AT": "evaluation-written:2"}
    done = subprocess.run([sys.executable, "-m", "launch.cli", *asked], env=env, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert {name[:9] for name in named() - before} == {"000000045"}
    assert [path.name[:10] for path in (trained / "evaluations").glob(".*.tmp")] == [".000000060"]
    (again,) = evaluated(tmp_path, *asked[1:])
    assert again["step"] == 60 and again["seconds"] is not None
    assert {name[:9] for name in named() - before} == {"000000045", "000000060"}
    assert evaluated(tmp_path, *asked[1:]) == []


def test_a_damaged_checkpoint_is_refused_and_nothing_recorded(trained, quiz, tmp_path, capsys):
    copy = tmp_path / trained.name
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("evaluations"))
    victim = max((copy / "checkpoints" / "60").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    victim.write_bytes(bytes([victim.read_bytes()[0] ^ 1]) + victim.read_bytes()[1:])
    assert cli.main(["eval", str(copy), "--tasks", quiz]) == 2
    message = capsys.readouterr().err
    assert victim.name in message and message.count("\n") == 1
    assert not list(copy.glob("evaluations/*"))


def test_a_checkpoint_and_a_ladder_can_be_named(trained, quiz, tmp_path):
    (one,) = evaluated(tmp_path, trained / "checkpoints" / "45", "--tasks", quiz)
    assert one["step"] == 45
    (in_ladder,) = evaluated(tmp_path, trained.parent, "--tasks", quiz, "--step", 45)
    assert (in_ladder["step"], in_ladder["rows"]) == (45, one["rows"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--step", "7"], "no checkpoint of step 7; there are 45, 60"),
        (["--tasks", "arc_eazy"], "unknown task 'arc_eazy'"),
        (["--tasks", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--max-docs", "0"], "--max-docs 0: must be at least 1"),
        (["--missing", "--step", "45"], "choose one"),
    ],
)
def test_wrong_input_is_one_line(trained, arguments, says, capsys):
    assert cli.main(["eval", str(trained), *arguments]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def test_a_run_without_checkpoints_is_refused(tmp_path, capsys):
    world = World(tmp_path)
    (directory,) = world([world.rung(eval=Eval((), validation_tokens=2048))], tmp_path / "runs")
    assert cli.main(["eval", str(directory)]) == 2
    assert "no checkpoint to evaluate; train it first" in capsys.readouterr().err
