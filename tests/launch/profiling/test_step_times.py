"""Profiles: a window of steps is traced, read back, and broken down into parts that add up."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ladder.errors import InputError
from ladder.monitor.profiler import Window, profiled
from ladder.monitor.spans import Spans
from launch.profiling import step_times, trace
from launch.profiling.step_times import KINDS
from launch.profiling.trace import HOST, Trace

ops = st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 30), st.sampled_from(KINDS[:3])), max_size=8)
host = st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 30), st.sampled_from(HOST)), max_size=4)


@given(st.lists(ops, min_size=1, max_size=3), host)
def test_every_nanosecond_counts_in_the_first_part_that_runs(devices, host):
    """Against a count of every nanosecond of a window of 50."""
    on_devices = {f"d{i}": [(b, b + n, kind, "op") for b, n, kind in ops] for i, ops in enumerate(devices)}
    on_host = [(b, b + n, part) for b, n, part in host]
    seconds = step_times.breakdown(Trace((0, 50), 5, on_devices, on_host))
    expected = dict.fromkeys(KINDS, 0)
    for events in on_devices.values():
        for ns in range(50):
            running = [kind for begin, end, kind, *_ in (*events, *on_host) if begin <= ns < end]
            expected[min(running, key=KINDS.index, default="idle")] += 1
    assert seconds == pytest.approx({kind: n / len(devices) / 1e9 for kind, n in expected.items()}, abs=1e-15)
    assert sum(seconds.values()) == pytest.approx(50e-9)


@pytest.mark.parametrize(
    "name, category, kind",
    [
        ("dot.38", "", "matmul"),
        ("ynn_fusion", "", "matmul"),
        ("cutlass_80_wmma_tensorop_bf16_s161616gemm", "", "matmul"),
        ("fusion.12", "convolution fusion", "matmul"),
        ("fusion.12", "loop fusion", "other computation"),
        ("all-reduce.1", "", "collectives"),
        ("fusion.7", "all-gather", "collectives"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "", "collectives"),
        ("subtract_exponential_fusion", "", "other computation"),
    ],
)
def test_the_kind_of_an_operation(name, category, kind):
    assert trace.kind_of(name, category) == kind


def steps(n, window, folder):
    """Train a tiny state for n steps with the window profiled; returns the states."""
    step = jax.jit(lambda state, batch: (jnp.tanh(state @ batch) + state, {"loss": state.sum()}), donate_argnums=0)
    state, states, spans = jnp.ones((64, 64)), [], Spans()
    with profiled(step, 100, window, folder) as train_step:
        for _ in range(n):
            with spans("data_wait"):
                batch = jnp.ones((64, 64)) * 0.01
            state, _ = train_step(state, batch)
            states.append(np.asarray(state))
    return states


def test_a_window_is_traced_and_changes_no_number(tmp_path, monkeypatch):
    out = Console(file=io.StringIO(), width=100)
    monkeypatch.setattr(step_times.terminal, "console", lambda: out)
    states = steps(6, Window(102, 105, step_times.show), tmp_path)
    for state, expected in zip(states, steps(6, None, tmp_path), strict=True):
        assert state.tobytes() == expected.tobytes()
    assert "3 steps on 1 device" in out.file.getvalue()
    seen = trace.read(tmp_path / "profile")
    assert seen.steps == 3 and {part for *_, part in seen.host} == {"data_wait"}
    seconds = step_times.breakdown(seen)
    assert seconds["matmul"] > 0 and seconds["idle"] > 0
    assert sum(seconds.values()) == pytest.approx((seen.window[1] - seen.window[0]) / 1e9)


def test_stopped_within_the_window(tmp_path):
    """The trace is closed, so that another can begin; it is no complete window."""
    steps(4, Window(102, 105, step_times.show), tmp_path)
    with pytest.raises(InputError, match="not a trace that ladder train --profile wrote to its end"):
        step_times.show(tmp_path / "profile")
    with pytest.raises(InputError, match="holds no trace"):
        step_times.show(tmp_path / "other")
    jax.profiler.start_trace(tmp_path / "again")
    jax.profiler.stop_trace()
