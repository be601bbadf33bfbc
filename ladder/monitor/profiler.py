"""A profiler's trace of some steps of a run (`ladder train ... --profile 50:55`). The numbers do not change by it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax

from ladder.rundir.files import files_under, is_local, read_bytes, write_atomic

FOLDER = "profile"  # in the run directory
STEP, WINDOW = "train", "window"  # names of annotations in the trace


@dataclass(frozen=True)
class Window:
    """The steps to trace: those that take the state from update `first` to update `last`. then: is given the folder of
    the trace on this machine, when it is written."""

    first: int
    last: int
    then: Callable[[Path], None]


@contextmanager
def profiled(train_step: Callable, first: int, window: Window | None, directory) -> Iterator[Callable]:
    """Yields `train_step`, to be called for every step from `first` on, which traces the window into `directory`.

    Before and after the window it waits for the devices, so that the trace holds these steps only. Of several
    processes, the first traces its own devices.
    """
    if window is None or jax.process_index() != 0:
        yield train_step
        return
    step, annotation = first, None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(directory) / FOLDER if is_local(directory) else Path(temporary)

        def call(state, batch):
            nonlocal step, annotation
            if step == window.first:
                jax.block_until_ready(state)
                jax.profiler.start_trace(folder, profiler_options=_options())
                annotation = jax.profiler.TraceAnnotation(WINDOW)
                annotation.__enter__()
            with jax.profiler.StepTraceAnnotation(STEP, step_num=step):
                out = train_step(state, batch)
            step += 1
            if step == window.last:
                jax.block_until_ready(out)
                annotation.__exit__(None, None, None)
                annotation = None
                jax.profiler.stop_trace()
                for name, path in files_under(folder).items() if not is_local(directory) else ():
                    write_atomic(directory / FOLDER / name, read_bytes(path))
                window.then(folder)
            return out

        try:
            yield call
        finally:
            if annotation is not None:  # stopped within the window
                jax.profiler.stop_trace()


def _options() -> jax.profiler.ProfileOptions:
    """Without a record of every Python call, which would slow the host down."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    return options
