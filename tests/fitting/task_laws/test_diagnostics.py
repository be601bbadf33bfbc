"""What is said of several tasks is said once."""

import pytest

from fitting.task_laws.diagnostics import EVERY, said_once

CASES = [
    ([], []),
    ([("big", "a", ["far"])], [("big", "a", "far")]),
    ([("big", "a", ["far", "few"]), ("big", "b", ["far"])], [("big", EVERY, "far"), ("big", "a", "few")]),
    ([("big", "a", ["far"]), ("big", "b", [])], [("big", "a", "far")]),
    (
        [("big", "a", ["far"]), ("big", "b", ["far"]), ("huge", "a", ["far"]), ("huge", "b", ["farther"])],
        [("big", EVERY, "far"), ("huge", "a", "far"), ("huge", "b", "farther")],
    ),
]


@pytest.mark.parametrize("entries, said", CASES)
def test_a_flag_that_every_task_carries_is_said_once(entries, said):
    assert said_once([{"target": t, "task": k, "flags": f} for t, k, f in entries]) == said
