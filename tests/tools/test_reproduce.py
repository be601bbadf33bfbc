"""`make reproduce` notices a figure that has moved, and README and docs show the recorded figures."""

import copy
import json
import sys

import pytest

from tools import reproduce

RECORD = json.loads(reproduce.RECORD.read_text())
FIGURES = RECORD["figures"]


def moved(method: str, figure: str, points: float = 0.0, percent: float = 0.0) -> list[str]:
    """The lines of the check after one figure of piqa has moved."""
    now = copy.deepcopy(FIGURES)
    values = now["7B-4T"]["piqa_val"][method]
    values[figure] = values[figure] * (1 + percent / 100) + points / 100
    return reproduce.drifts(FIGURES, now)


def test_a_figure_that_has_moved_is_named():
    assert reproduce.drifts(FIGURES, FIGURES) == reproduce.drifts(RECORD["scripts"], FIGURES) == []
    for method, figure in (("default", "acc"), ("paper", "acc"), ("default", "acc_low"), ("measured", "acc")):
        assert moved(method, figure, points=0.04) == moved(method, figure, points=-0.04) == []
        for points in (0.06, -0.06):
            [line] = moved(method, figure, points=points)
            assert line.startswith(f"7B-4T piqa_val, {method}: {figure} was 0.")
            assert line.endswith(f": {points:+.3f} points, more than 0.05")
    assert moved("paper", "bpb", percent=0.04) == []
    assert moved("paper", "bpb", percent=-0.06)[0].endswith(": -0.060 %, more than 0.05")


def test_a_figure_that_is_gone_is_named_and_methods_that_were_not_asked_for_are_not():
    now = copy.deepcopy(FIGURES)
    del now["7B-4T"]["piqa_val"]["default"]["bpb"]
    [line] = reproduce.drifts(FIGURES, now)
    assert line.startswith("7B-4T piqa_val, default: bpb was") and line.endswith("not predicted or measured any more")
    only = {t: {task: {"default": v["default"]} for task, v in tasks.items()} for t, tasks in FIGURES.items()}
    assert reproduce.drifts(FIGURES, only) == []
    assert len(reproduce.drifts(FIGURES, {"7B-4T": only["7B-4T"]})) == 4 * len(reproduce.TASKS)  # of 13B-5T


def test_the_record_holds_every_figure_of_both_targets():
    for target, measured in (("7B-4T", {"bpb", "acc"}), ("13B-5T", set())):
        assert set(FIGURES[target]) == set(reproduce.TASKS)
        for values in FIGURES[target].values():
            assert set(values) == {"measured", *reproduce.METHODS} and set(values["measured"]) == measured
    assert set(RECORD["scripts"]["7B-4T"]) == set(reproduce.TASKS)


@pytest.mark.parametrize("path", reproduce.pages(FIGURES), ids=lambda path: path.name)
def test_the_pages_show_the_record(path):
    assert reproduce.block(path.read_text()) == reproduce.pages(FIGURES)[path]


@pytest.mark.parametrize("by", [0.0004, 0.0006])
def test_the_exit_code(by, monkeypatch, tmp_path, capsys):
    now = copy.deepcopy(FIGURES)
    now["7B-4T"]["piqa_val"]["default"]["acc"] += by
    monkeypatch.setattr(reproduce, "computed", lambda table, methods: (now, "0"))
    monkeypatch.setattr(sys, "argv", ["reproduce.py", str(reproduce.RECORD)])
    assert reproduce.main() == (by > 0.0005)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(
        "drifted: 7B-4T piqa_val, default: acc was" if by > 0.0005 else "every figure is the recorded"
    )
    monkeypatch.setattr(sys, "argv", ["reproduce.py", str(tmp_path / "none.csv")])
    assert reproduce.main() == 2
    assert "ladder data paper" in capsys.readouterr().out
