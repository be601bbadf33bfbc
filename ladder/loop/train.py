"""The training loop: train one rung from the newest checkpoint in its run directory to DONE.json."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager

import jax

from ladder.data import batches
from ladder.errors import Preempted
from ladder.loop import compile_cache
from ladder.loop.group import Group
from ladder.loop.run import Run, open_run
from ladder.monitor import watchdog
from ladder.monitor.compilations import Compilations
from ladder.monitor.profiler import Window, profiled
from ladder.monitor.spans import Spans
from ladder.parallel import processes
from ladder.rundir.files import absolute
from ladder.rundir.kill_points import phase
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record


def train(directory, began: float | None = None, window: Window | None = None) -> None:
    """Train the rung of a run directory, or resume it; returns when DONE.json is written.

    For a member of a group (`--vmap`), the whole group is trained. began: when this process started (seconds since
    1970), from which its time is counted; None for now. window: steps to trace with the profiler.
    Raises Preempted after SIGTERM or SIGINT (with everything saved), and where another process has taken the lease.
    Raises Diverged where the loss or the gradient norm is NaN or Inf, InputError where the directory, its corpus or its
    parent does not match config.json.
    """
    spans = Spans(began)
    records = Record(absolute(directory), jax.process_index()).group()
    if all(record.is_done() for record in records):
        return
    compile_cache.keep(records[0].directory.parent / ".compiled")
    with (
        watchdog.watch(),
        processes.stop_notice() as notice,
        _leased(records, notice.stop) as leases,
        Compilations(spans, records[0].directory.name).counted() as compilations,
    ):
        runs = [open_run(record, lease, spans) for record, lease in zip(records, leases, strict=True)]
        run = Group(runs) if len(runs) > 1 else runs[0]
        first, state = run.restore()
        train_step = compilations.watched(run.program.train_step, first)
        with profiled(train_step, first, window, records[0].directory) as train_step:
            _loop(run, first, state, train_step, notice.is_due)


def _loop(run: Run | Group, first: int, state: dict, train_step: Callable, should_stop: Callable[[int], bool]):
    """The host only schedules: except for evaluations and saves, it waits only for the metrics of the previous step."""
    run.spans.training(first)
    pending, loss, prefetched = None, math.nan, batches.prefetched(run.data, first, run.steps)
    for step in range(first, run.steps + 1):  # the state has had `step` updates
        stopping = should_stop(step)
        if step > first and (run.evaluates(step) or run.saves(step) or stopping):
            loss, pending = run.read(pending), None  # raises Diverged before a non-finite state is evaluated or saved
            if run.evaluates(step):
                run.evaluate(step, state["params"])
            if run.saves(step) or stopping:
                run.save(step, state)
            run.status.restart(step)
            run.heartbeat(step, loss, None)
        if step == run.steps:
            break
        if stopping:
            raise Preempted(f"stopped at step {step:,} of {run.steps:,}, saved; run it again to resume")
        with run.spans("data_wait"):
            _, batch = run.waits.next(prefetched)
        with jax.transfer_guard("disallow"):  # only run.put and run.read move data between host and devices
            state, metrics = train_step(state, run.put(batch, step))
            if pending is not None:
                loss = run.read(pending)
        if pending is not None and jax.process_index() == 0 and run.status.due():
            run.heartbeat(step, loss, run.status.show(step, loss, run.epoch(step)))
        pending = (step + 1, metrics)
        phase("step")
    if jax.process_index() == 0:
        run.finish()


@contextmanager
def _leased(records: Sequence[Record], on_lost: Callable[[], None]):
    """Hold the leases of the records; only process 0 does. Yields their numbers, the same in all processes.

    If one is refused, all processes raise Preempted. on_lost: called when another process takes one of them.
    """
    with ExitStack() as stack:

        def acquire():
            if jax.process_index() == 0:
                for record in records:
                    record.lease = stack.enter_context(Lease(record.directory, on_lost=on_lost))
            return [record.lease.number for record in records if record.lease]

        yield processes.together(acquire, (Preempted,))[0]
