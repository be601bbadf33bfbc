"""Counts compilations while a run trains, and warns where a program compiles a second time.

A program compiles when it is first called with arguments of some shapes, types and layouts. In the loop every program
has one set of them, so a second compilation means that something changed. On a large model it costs minutes.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import contextmanager

import jax

from ladder.monitor.spans import Spans

_COMPILED = "/jax/core/compile/backend_compile_duration"
_EVENTS = (_COMPILED, *(f"/jax/core/compile/{name}_duration" for name in ("jaxpr_trace", "jaxpr_to_mlir_module")))
# A save exchanges texts of any length between the processes of a run, and each length is a small program.
_CHECKED = ("productive", "evaluation")
_log = logging.getLogger(__name__)


class Compilations:
    """Moves the time of compilations to its part of `spans`, where unexpected ones are counted too.

    A program may compile several times in one step (each member of a group has its own evaluator), and again in
    another part of the sitting. label: of the run, for the warning.
    """

    def __init__(self, spans: Spans, label: str):
        self.spans, self.label, self.step = spans, label, 0
        self._thread = threading.get_ident()
        self._steps: dict[tuple[str, str], int] = {}  # (part, program) -> the step in which it compiled
        self._times: list[tuple[float, float]] = []  # of events, without those that a later one includes
        self._arguments, self._expected = None, None  # of the train step: now, and when it compiled first

    @contextmanager
    def counted(self):
        """Count until the end of the `with`; the calls of other threads are not counted."""
        jax.monitoring.register_event_time_span_listener(self._on_event)
        try:
            yield self
        finally:
            jax.monitoring.unregister_event_time_span_listener(self._on_event)

    def watched(self, train_step: Callable, first: int) -> Callable:
        """`train_step`, to be called for every step from `first` on; where it compiles again, the warning says what
        changed in its arguments."""
        self.step = first

        def call(*arguments):
            self._arguments = arguments
            out = train_step(*arguments)
            self._expected = self._expected or _described(arguments)
            self._arguments, self.step = None, self.step + 1
            return out

        return call

    def _on_event(self, event: str, start: float, end: float, fun_name: str = "", **_):
        if event not in _EVENTS or threading.get_ident() != self._thread:
            return
        # Tracing a program includes tracing those that it calls, whose events came first.
        inner = [times for times in self._times if times[0] >= start]
        self._times = [times for times in self._times if times[0] < start] + [(start, end)]
        self.spans.compiled(end - start - sum(b - a for a, b in inner))
        if event == _COMPILED and self.spans.part in _CHECKED:
            first = self._steps.setdefault((self.spans.part, fun_name), self.step)
            if first != self.step:
                self._warn(fun_name, end - start)

    def _warn(self, program: str, seconds: float):
        self.spans.recompilations += 1
        changes = []
        if self._arguments is not None and self._expected is not None:
            now = _described(self._arguments)
            for name, (kind, layout) in self._expected.items():
                if now.get(name) != (kind, layout):
                    new_kind, new_layout = now.get(name, ("absent", ""))
                    was, new = (kind, new_kind) if kind != new_kind else (layout, new_layout)
                    changes.append(f"{name} was {was} and is {new}")
        reason = f": {'; '.join(changes[:2])}{'; ...' * (len(changes) > 2)}" if changes else ""
        _log.warning("%s: step %d: %s compiled again (%.1f s)%s", self.label, self.step, program, seconds, reason)


def _described(arguments) -> dict[str, tuple[str, str]]:
    """{name: (type and shape, layout)} of every array: what a program is compiled for."""
    return {
        jax.tree_util.keystr(path[1:], simple=True, separator="."): (f"{x.dtype}{list(x.shape)}", str(x.sharding))
        for path, x in jax.tree_util.tree_leaves_with_path(arguments)
        if isinstance(x, jax.Array)
    }
