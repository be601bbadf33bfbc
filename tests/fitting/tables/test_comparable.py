"""fitting/tables/comparable.py: which points of one task compare, and that every result names those that do not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fitting.api import tasks
from fitting.bhagia2024 import methods
from fitting.forecasting import compare, design, measurements
from fitting.loss_laws import envelope
from fitting.tables import comparable, loss_points, runs_table
from launch import cli
from tests.fitting.conftest import scored_on, simulated

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


def test_a_run_that_skipped_many_steps_is_named():
    shares = {"a": None, "b": 0.01, "c": 0.03, "d": 0.012}
    common = {
        "n_params": 1e6,
        "tokens": 1e7,
        "step": 10,
        "task": "quiz",
        "metric": "bpb",
        "value": 1.0,
        "place": "here",
    }
    rows = [common | {"run": run, "skipped_share": share} for run, share in shares.items()]
    lines = comparable.lines(runs_table.from_rows(rows, "here"))
    assert [line for line in lines if "skipped" in line] == [
        "c and d skipped up to 3.0% of the steps, for spikes or NaN: such a run learnt from fewer tokens than it"
        " counts; leave it out, or train it again"
    ]
    assert not [line for line in comparable.lines(runs_table.from_rows(rows[:2], "here")) if "skipped" in line]


def test_every_result_names_the_runs(tmp_path, capsys, monkeypatch):
    """(Predictions and their page: tests/fitting/report/test_task_report.py.)"""
    uniform, path, out = simulated(), tmp_path / "runs.csv", tmp_path / "out.json"
    mixed = scored_on(200, simulated(), "d10000-1xC")
    runs_table.write(mixed, path)
    line = f"quiz: 11 runs are scored on 1,000 docs, d10000-1xC on 200: {OTHER} 1000 --missing"
    row = {"budget": 1e13, "runs": [0], "flops": 1e12, "sd": 0.01, "half_width": 0.01}
    monkeypatch.setattr(design, "candidates_of", lambda *_: SimpleNamespace(flops_n=np.ones(12)))
    monkeypatch.setattr(design, "frontier", lambda *_: [row])
    published = ["fit", "--task", "quiz", "--law", "kaplan-nd", "--published", "kaplan"]
    for verb, *options in (["design"], published):
        assert cli.main([verb, str(path), *options, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["flags"] == [line]
        assert line in " ".join(capsys.readouterr().out.split())
    result = tasks.Backtests([], [], [line])
    assert result.json()["flags"] == [line] == result.lines()[-1:]

    paper = methods._mixed(mixed, methods.points(mixed, None), "quiz", {"step2": None})
    assert [f"quiz: {flag}" for flag in paper] == [line]

    a, b = prediction(mixed), prediction(uniform)
    assert compare.mixed(b, b) == []
    assert compare.mixed(a, b) == [
        f"A (simulated), {line}",
        f"quiz: A (simulated) is scored on 200 and 1,000 docs, B (simulated) on 1,000: {OTHER} 1000 --missing",
    ]

    trunks = "d10000-trunk, d17000-trunk, d33000-trunk and 1 more"
    curves = loss_points.read(path, task="quiz", curves=True)
    ends = f"quiz: 12 runs are scored at the end of training, {trunks} only at checkpoints before it: {BEFORE}"
    assert curves.flags == (line.replace("11", "15"), ends)
    assert set(curves.flags) <= set(envelope.envelope(curves, 2, 0).notes)


def prediction(runs: runs_table.Table) -> SimpleNamespace:
    read = measurements.read(runs, None, "n_params")
    return SimpleNamespace(points=read.points, measurements=read, fitted=read.points.tasks)


def test_numbers_in_another_unit_or_column_are_flagged():
    n, d = np.array([1e8, 1e9]), np.array([2e9, 2e10])
    assert comparable.other_units(n, d) == []
    [line] = comparable.other_units(n / 1e7, d)
    assert line.startswith("2 of 2 points have fewer than 1,000 parameters: are they counted in millions")
    [line] = comparable.other_units(n, np.array([2.0, 2e10]))
    assert line.startswith("1 of 2 points have fewer than 1,000 tokens")
    assert comparable.other_units(d, n) == [
        "every point has fewer tokens than parameters: are the two columns exchanged?"
    ]
