"""The last screen of a demo: at most 20 lines of 80 columns for its eleven intervals, whole numbers, the truth."""

import io

import pytest
from rich.console import Console

from fitting.forecasting.results import TaskForecast
from launch.demo import closing

BPB = [TaskForecast("d72", task, 2.05, (1.95, 2.15), measured_bpb=2.1) for task in ("validation", "mbpp", "humaneval")]
BOTH = [
    TaskForecast("d72", kind, 1.3, (1.2, 1.4), 0.712, (0.68, 0.74), (), measured, accuracy)
    for kind, measured, accuracy in (
        ("letters", 1.25, 0.70),
        ("brackets", 1.5, 0.66),
        ("words", 1.25, 0.75),
        ("indentation", 1.25, 0.7),
    )
]
SEALED = "sealed before the target was trained, unchanged since: sha256 b5c4f9f1726b..."


def screen(entries, width, tmp_path):
    console = Console(file=io.StringIO(), width=width)
    closing.show(entries, SEALED, tmp_path.joinpath("report.html").relative_to(tmp_path), console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_of_a_demo(width, tmp_path):
    lines = screen(BPB + BOTH, width, tmp_path)
    assert len(lines) <= 20 and max(len(line.rstrip()) for line in lines[1:]) <= 80
    assert lines[2].split() == ["validation", "2.050", "1.950", "to", "2.150", "2.100", "-2.4%", "yes"]
    [brackets] = [line for line in lines if line.startswith("brackets") and "points" in line]
    assert brackets.split() == ["brackets", "0.712", "0.680", "to", "0.740", "0.660", "+5.2", "points", "no"]
    assert "8 of 11 intervals of 80 % hold what was measured" in "\n".join(lines)
    assert SEALED in lines and "report: report.html" in lines
    assert sum("ladder " in line for line in lines) == len(closing.NEXT)


def test_a_ladder_without_tasks_or_with_several_targets(tmp_path):
    lines = screen(BPB[:1], 80, tmp_path)
    assert not any("accuracy" in line for line in lines) and any("1 of 1 intervals" in line for line in lines)
    other = TaskForecast("d96", "validation", 1.9, (1.8, 2.0))
    lines = screen([BPB[0], other], 80, tmp_path)
    assert any(line.startswith("d72 validation") for line in lines)
    assert [line.split() for line in lines if line.startswith("d96")] == [
        ["d96", "validation", "1.900", "1.800", "to", "2.000"]
    ]


def test_tasks_at_chance_are_not_counted():
    chance = TaskForecast("d72", "words", 1.3, (1.2, 1.4), 0.5, None, ("chance",), 1.25, 0.52)
    assert closing.verdict([chance]).startswith("1 of 1 intervals")
