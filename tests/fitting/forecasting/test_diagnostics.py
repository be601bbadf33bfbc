"""What is said of several tasks is said once."""

import pytest

from fitting.forecasting.diagnostics import EVERY_TASK, lines
from fitting.forecasting.results import TaskForecast

# (target, task, flags) of each prediction -> the lines that people read: (whose, flag).
CASES = [
    ([], []),
    ([("big", "a", ["far"])], [("a", "far")]),
    ([("big", "a", ["far", "few"]), ("big", "b", ["far"])], [(EVERY_TASK, "far"), ("a", "few")]),
    ([("big", "a", ["far"]), ("big", "b", [])], [("a", "far")]),
    (
        [("big", "a", ["far"]), ("big", "b", ["far"]), ("huge", "a", ["far"]), ("huge", "b", ["farther"])],
        [(f"big, {EVERY_TASK}", "far"), ("huge, a", "far"), ("huge, b", "farther")],
    ),
    (
        [("big", "a", ["far", "few"]), ("big", "b", ["far"]), ("huge", "a", ["far"])],
        [(f"big, {EVERY_TASK}", "far"), ("big, a", "few"), ("huge, a", "far")],
    ),
]


@pytest.mark.parametrize("entries, expected", CASES)
def test_a_flag_that_every_task_carries_is_said_once(entries, expected):
    assert lines([TaskForecast(target, task, flags=tuple(flags)) for target, task, flags in entries]) == expected
