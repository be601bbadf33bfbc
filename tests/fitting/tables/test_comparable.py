"""fitting/tables/comparable.py: which points of one task compare, and that every result names those that do not."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fitting.bhagia2024 import methods
from fitting.loss_laws import envelope, loss_fit
from fitting.report import task_report
from fitting.tables import comparable, loss_points, runs_table
from fitting.tables.points import ladder_points
from fitting.task_laws import compare
from fitting.task_laws.forecasts import TaskForecast
from launch import cli
from tests.fitting.conftest import simulated

OTHER = "scores on other docs have other noise and another mean; evaluate again with ladder eval --max-docs"
TEXT = "another evaluation can mean another text; evaluate again with ladder eval --missing"
BEFORE = (
    "scores change until the end; finish or leave out these runs, or evaluate their ends with ladder eval --missing"
)


def table(*rows) -> runs_table.Table:
    """rows: (run, step, n_docs, evaluation, final, kind) of one task."""
    names = ("run", "step", "n_docs", "evaluation", "final", "kind")
    common = {"n_params": 1e6, "tokens": 1e7, "task": "quiz", "metric": "bpb", "value": 1.0, "place": "here"}
    return runs_table.from_rows([common | dict(zip(names, row, strict=True)) for row in rows], "here")


def ends(**n_docs_or_hash):
    values = [(v, "") if isinstance(v, int) else (None, v) for v in n_docs_or_hash.values()]
    return [(run, 10, n, hash_, True, "full") for run, (n, hash_) in zip(n_docs_or_hash, values, strict=True)]


before_a, before_trunk = ("a", 9, 50, "", False, "full"), ("trunk", 9, 50, "", False, "trunk")
CASES = {
    "uniform": (ends(a=50, b=50), []),
    "one differs": (ends(a=1000, b=1000, c=9), [f"2 runs are scored on 1,000 docs, c on 9: {OTHER} 1000 --missing"]),
    "many differ": (
        ends(a=9, b=9, c=9, d=9, e=9, f=1, g=1, h=1, i=1, j=2),
        [f"5 runs are scored on 9 docs, f, g, h and 1 more on 1, j on 2: {OTHER} 9 --missing"],
    ),
    "within the only run": ([*ends(a=50), ("a", 9, 20, "", False, "full")],
        [f"a is scored on 20 and 50 docs: {OTHER} 50 --missing"]),
    "within one of two": ([*ends(a=50, b=50), ("a", 9, 20, "", False, "full")],
        [f"a is scored on 20 and 50 docs, b on 50: {OTHER} 50 --missing"]),
    "nothing known": ([("a", 10, None, "", True, "full"), *ends(b=50)], []),
    "another text": (ends(a="0f", b="0f", c="1e"), [f"2 runs are scored by evaluation 0f, c by 1e: {TEXT}"]),
    "a hash in some runs": (ends(a="0f", b="", c="0f"), []),
    "same docs, another hash": ([("a", 10, 50, "0f", True, "full"), ("b", 10, 50, "1e", True, "full")], []),
    "no end": ([before_a, *ends(b=50, c=50)],
        [f"2 runs are scored at the end of training, a only at checkpoints before it: {BEFORE}"]),
    "ends and checkpoints of each": ([before_a, *ends(a=50, b=50)], []),
    "no ends": ([before_a, before_trunk], []),
    "a trunk": ([before_trunk, *ends(a=50)],
        [f"a is scored at the end of training, trunk only at checkpoints before it: {BEFORE}"]),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), CASES.values(), ids=CASES)
def test_points_that_do_not_compare_are_named(rows, expected):
    assert list(comparable.lines(table(*rows))) == expected
    one_by_one = [table(row) for row in rows]
    assert list(comparable.lines(*one_by_one)) == expected
    without_trunks = [line for line in expected if "trunk" not in line]
    assert list(comparable.lines(table(*rows), trunks=False)) == without_trunks


def ladder(**n_docs) -> runs_table.Table:
    """A simulated ladder whose quiz is scored on other docs in some runs."""
    table = simulated()
    is_quiz = table["task"] == "quiz"
    docs = [
        n_docs.get(run.replace("-", "_"), 1000) if quiz else np.nan
        for run, quiz in zip(table["run"], is_quiz, strict=True)
    ]
    return replace(table, columns=table.columns | {"n_docs": np.array(docs, float)})


LINE = f"d10000-1xC on 200: {OTHER} 1000 --missing"


def test_a_prediction_its_page_and_its_json_name_the_runs(tmp_path, capsys):
    """17 runs enter: 12 of the ladder and 4 trunks in both steps, and the target's own as the measurement."""
    mixed, out = ladder(d10000_1xC=200), tmp_path / "out.json"
    runs_table.write(mixed, tmp_path / "runs.csv")
    line = f"16 runs are scored on 1,000 docs, {LINE}"
    asked = ["predict", str(tmp_path / "runs.csv"), "--tasks", "quiz", "--bootstrap", "8", "--json", str(out)]
    assert cli.main(asked) == 0
    assert f"quiz: {line}" in " ".join(capsys.readouterr().out.split())
    assert line in json.loads(out.read_text())["predictions"][0]["flags"]
    assert f"<b>quiz</b>: {line}" in task_report._flags([TaskForecast("t", "quiz", flags=(line,))], mixed)


def test_designs_comparisons_and_losses_name_the_runs(tmp_path, capsys):
    mixed, uniform, out = ladder(d10000_1xC=200), ladder(), tmp_path / "out.json"
    line = f"quiz: 11 runs are scored on 1,000 docs, {LINE}"
    runs_table.write(mixed, tmp_path / "runs.csv")
    assert cli.main(["design", str(tmp_path / "runs.csv"), "--budget", "1e13", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["flags"] == [line]
    assert line in " ".join(capsys.readouterr().out.split())

    paper = methods._mixed(mixed, methods.points(mixed, None), "quiz", {"step2": None})
    assert [f"quiz: {flag}" for flag in paper] == [line]

    a, b = prediction(mixed), prediction(uniform)
    assert compare.mixed(b, b) == []
    assert compare.mixed(a, b) == [
        f"A (simulated), {line}",
        f"quiz: A (simulated) is scored on 200 and 1,000 docs, B (simulated) on 1,000: {OTHER} 1000 --missing",
    ]

    points = loss_points.read(tmp_path / "runs.csv", task="quiz")
    assert points.flags == (line,) and line in loss_fit.fit(points, "kaplan-n", n_resamples=2).flags
    trunks = "d10000-trunk, d17000-trunk, d33000-trunk and 1 more"
    curves = loss_points.read(tmp_path / "runs.csv", task="quiz", curves=True)
    ends = f"quiz: 12 runs are scored at the end of training, {trunks} only at checkpoints before it: {BEFORE}"
    assert curves.flags == (line.replace("11", "15"), ends)
    assert set(curves.flags) <= set(envelope.envelope(curves, 2, 0).notes)


def prediction(runs: runs_table.Table) -> SimpleNamespace:
    points = ladder_points(runs, None, "n_params")
    return SimpleNamespace(points=points, step2={}, fitted=points.tasks)
