"""The compact loop: train one rung, from wherever its run directory stands, to DONE."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager

import jax

from ladder.data import batches
from ladder.errors import Preempted
from ladder.loop import compile_cache
from ladder.loop.group import Group
from ladder.loop.run import Run, open_run
from ladder.parallel import processes
from ladder.rundir.files import absolute
from ladder.rundir.kill_points import phase
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record


def train(directory) -> None:
    """Train the rung of a run directory, or take it up again; returns when DONE.json is written.

    A rung that is trained at once with others (`--vmap`) is trained with them, whichever of them is named.
    Raises Preempted after SIGTERM (everything saved), Diverged at a NaN or Inf in the loss or the gradient norm,
    InputError where the directory, its corpus or its parent is not what config.json says.
    """
    record = _record(directory)
    members = record.read_config().get("group", {}).get("members", ())
    records = [_record(record.directory.parent / run_id) for run_id in members] or [record]
    if all(one.is_done() for one in records):
        return
    compile_cache.keep(record.directory.parent / ".compiled")
    with _leased(records) as leases, processes.notice() as stops:
        runs = [open_run(one) for one in records]
        run = Group(runs) if members else runs[0]
        first, state = run.restore()
        _loop(run, first, state, leases, stops)


def _loop(run: Run | Group, first: int, state: dict, leases: Sequence[Lease], stops: Callable[[int], bool]) -> None:
    """The host only schedules; but for evaluations and saves it waits for nothing but the step before."""
    pending, loss, ahead = None, math.nan, batches.prefetched(run.data, first, run.steps)
    for done in range(first, run.steps + 1):  # `done` updates are in the state
        stopping = stops(done)
        if done > first and (run.evaluates(done) or run.saves(done) or stopping):
            loss, pending = run.read(pending), None  # nothing is saved or evaluated before its own loss was finite
            if run.evaluates(done):
                run.evaluate(done, state["params"])
            if run.saves(done) or stopping:
                run.save(done, state)
            run.status.restart(done)
            run.heartbeat(done, loss, None)
        if done == run.steps:
            break
        if stopping:
            raise Preempted(f"stopped at step {done:,} of {run.steps:,}, saved; run it again to go on")
        _, batch = next(ahead)
        state, metrics = run.program.train_step(state, run.put(batch, done))
        if pending is not None:
            loss = run.read(pending)
            if leases and run.status.due():  # process 0 speaks for all
                run.heartbeat(done, loss, run.status.show(done, loss, run.epoch(done)))
                for lease in leases:
                    lease.renew()
        pending = (done + 1, metrics)
        phase("step")
    if jax.process_index() == 0:
        run.finish()


def _record(directory) -> Record:
    return Record(absolute(directory), jax.process_index())


@contextmanager
def _leased(records: Sequence[Record]):
    """Their leases, which process 0 holds for all (none in the others); where one is refused, all raise Preempted."""
    with ExitStack() as stack:
        leases = []

        def enter():
            if jax.process_index() == 0:
                leases.extend(stack.enter_context(Lease(record.directory)) for record in records)

        processes.together(enter, (Preempted,))
        yield leases
