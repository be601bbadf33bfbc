"""How a ladder that ran in the foreground ended."""

import pytest

from ladder.errors import Preempted
from launch.scheduler import foreground
from launch.scheduler.loop import Round


def test_a_ladder_whose_runs_were_cancelled_is_not_done():
    """`ladder submit` then ends with 75, as any run that can be resumed."""
    with pytest.raises(Preempted, match="1 runs were cancelled; the same command resumes them"):
        foreground._outcome(Round({}, {"a": "done", "b": "cancelled", "c": "blocked"}, ()))
    assert foreground._outcome(Round({}, {"a": "done", "b": "diverged"}, ())).done == ["a"]
