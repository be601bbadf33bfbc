"""Seconds that the loop waits for data; test_mixture_runs.py has a run that waits."""

import pytest

from ladder.monitor.data_waits import DataWaits
from ladder.rundir.record import Record


def test_a_resumed_run_counts_on(tmp_path):
    waits = DataWaits(before=2.5)
    stream = iter([(4, "a"), (5, "b")])
    assert [waits.next(stream), waits.next(stream)] == [(4, "a"), (5, "b")]
    assert 2.5 <= waits.seconds < 2.6
    assert waits.take()["steps"] == 2 and waits.take() == {"seconds": 0.0, "steps": 0, "stalls": {}}
    record = Record(tmp_path)
    record.heartbeat(5, 1.0, None, waits.seconds)
    assert record.beat()["data_seconds"] == pytest.approx(waits.seconds, abs=1e-3)
