"""The time of a sitting by part, and compilations: their time, and the warning of a second one."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder.monitor.compilations import Compilations
from ladder.monitor.spans import Spans


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds): time goes by; for all clocks."""
    now = [500.0]
    monkeypatch.setattr(time, "time", lambda: 1e9 + now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def test_every_moment_counts_in_one_part(clock):
    spans = Spans(began=1e9 + 490.0)
    clock(2)
    assert spans.so_far() == {"began": 1e9 + 490, "first": None, "seconds": {"restart": 12.0}, "recompilations": 0}
    spans.training(7)
    clock(3)
    with spans("evaluation"):
        clock(4)
        with spans("checkpoint"):  # as in a group
            clock(1)
        clock(0.5)
    with pytest.raises(OSError), spans("data_wait"):
        clock(0.25)
        raise OSError
    clock(5)
    spans.compiled(4.5)
    seconds = {"restart": 12.0, "productive": 3.5, "evaluation": 4.5, "checkpoint": 1.0, "data_wait": 0.25}
    assert spans.so_far()["seconds"] == seconds | {"compile": 4.5}
    assert spans.so_far()["first"] == 7


def test_compilations_count_once_however_they_nest(clock):
    spans = Spans()
    compilations = Compilations(spans, "run")
    clock(100)
    names = ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
    trace, lower, xla = (f"/jax/core/compile/{name}_duration" for name in names)
    for event, start, end in [
        (trace, 10, 12),  # traced within the next
        (trace, 13, 14),
        (trace, 9, 20),
        (lower, 20, 25),
        (xla, 30, 40),
        ("/jax/other", 40, 90),
    ]:
        compilations._on_event(event, start, end, fun_name="f")
    assert spans.so_far()["seconds"] == {"restart": 100 - 11 - 5 - 10, "compile": 26}


def train(shapes):
    """A step for each shape of the batch, and an evaluation after it; returns the Spans."""
    spans = Spans()
    evaluate = jax.jit(lambda state: (state * 3).sum())
    with Compilations(spans, "tiny").counted() as compilations:
        step = compilations.watched(jax.jit(lambda state, batch: state + batch["tokens"].sum()), 10)
        state = jnp.zeros(3)
        spans.training(10)
        for shape in shapes:
            state = step(state, {"tokens": jnp.ones(shape)})
            with spans("evaluation"):
                evaluate(state)
    return spans


def test_a_second_compilation_is_named_with_its_cause(caplog):
    assert train([(2, 4)] * 3).recompilations == 0 and not caplog.text
    spans = train([(2, 4), (2, 4), (2, 3), (2, 3)])
    assert spans.recompilations == 1 == len(caplog.records)
    message = caplog.records[0].getMessage()
    assert message.startswith("tiny: step 12: jit(<lambda>) compiled again (")
    assert message.endswith("s): tokens was float32[2, 4] and is float32[2, 3]")
    assert spans.so_far()["seconds"]["compile"] > 0


def test_what_is_compiled_after_the_run_or_in_saves_is_not_counted(caplog):
    spans = Spans()
    with Compilations(spans, "tiny").counted() as compilations:
        step = compilations.watched(lambda x: x, 0)
        for size in (5, 6):  # of texts that processes exchange
            with spans("checkpoint"):
                jax.jit(lambda x: x + 1)(np.ones(size))
            step(np.ones(1))
    before = spans.so_far()["seconds"]["compile"]
    jax.jit(lambda x: x + 2)(np.ones(7))
    assert spans.so_far()["seconds"]["compile"] == before > 0
    assert spans.recompilations == 0 and not caplog.text
