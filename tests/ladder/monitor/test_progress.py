"""The status line: rate, share of the machine's matmul rate, time left."""

import itertools

import jax
import pytest

from ladder.monitor import progress


def test_the_matmul_rate_is_that_of_all_devices(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    assert progress.matmul_flops(size=8, seconds=2.5) == 2 * 8**3 * jax.device_count()


def test_the_line_names_rate_share_and_time_left(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(progress, "matmul_flops", lambda: 1e6)
    line = progress.StatusLine("d16", steps=110, batch_tokens=1000, flops_per_token=20, bytes_per_token=4.0)
    line.restart(step=10)
    now += 2.0
    assert line.show(step=20, loss=2.7725887, epoch=0.2) == pytest.approx(5000)
    out = capsys.readouterr().out
    assert "step 20/110" in out and "bpb 1.000" in out and "5,000 tokens/s" in out
    assert "10% of matmul peak" in out and "0m18s left" in out
