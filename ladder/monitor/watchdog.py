"""Ends a training process that hangs, with the stacks of all its threads in the log, so that it is started again.

A thread looks at the phase that the process reached last (rundir/kill_points.py): a step, an evaluation, a part of a
save. It works while the main thread waits in C, such as for a collective or a device, because JAX releases the GIL
there. It does not work where a thread hangs and keeps the GIL.
"""

import contextlib
import faulthandler
import os
import signal
import threading
import time

import jax

from ladder.errors import InputError
from ladder.rundir.kill_points import latest_sign, phase

VARIABLE = "LADDER_WATCHDOG_SECONDS"
SECONDS = 1800.0  # until the next phase; longer than an evaluation or a save takes
# After a phase that is reached for the first time: what follows it is compiled, and before the first step the corpus is
# copied and a checkpoint is read.
FIRST = 4
# Process 0 ends so much later than the others: they would lose their coordinator before they write their stacks.
COORDINATOR_SECONDS = 4.0
WRITE_SECONDS = 5.0  # until the process ends even if its log takes no more text
TRY_AGAIN = 75  # the exit code of Preempted


@contextlib.contextmanager
def watch():
    """While the body runs, end the process with exit code 75 if it reaches no phase in time; kill -USR1 writes the
    stacks of all threads.

    LADDER_WATCHDOG_SECONDS replaces SECONDS; 0 turns the watchdog off. Raises InputError where it is not a number.
    """
    seconds, ended = _seconds(), threading.Event()
    phase("start")
    delay = COORDINATOR_SECONDS if jax.process_count() > 1 and jax.process_index() == 0 else 0.0
    thread = threading.Thread(target=_end_if_late, args=(seconds, delay, ended), name="watchdog", daemon=True)
    faulthandler.register(signal.SIGUSR1, file=2)
    try:
        if seconds:
            thread.start()
        yield
    finally:
        ended.set()
        faulthandler.unregister(signal.SIGUSR1)


def _seconds() -> float:
    text = os.environ.get(VARIABLE, str(SECONDS))
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < threading.TIMEOUT_MAX:
            return float(text)
    raise InputError(f"{VARIABLE} = {text!r}: write a number of seconds, or 0 for no watchdog")


def _end_if_late(seconds: float, delay: float, ended: threading.Event) -> None:
    left = seconds
    while left > 0:
        if ended.wait(min(left, 1.0)):
            return
        sign = latest_sign()
        allowed = seconds * (FIRST if sign.count == 1 or sign.name == "start" else 1)
        left = sign.time + allowed - time.monotonic()
    _end(f"nothing has happened for {allowed:,.0f} s, since phase {sign.name!r} was reached ({sign.count})", delay)


def _end(what: str, delay: float) -> None:
    """Write `what` and the stacks of all threads to stderr, and end the process with exit code 75."""
    end_anyway = threading.Timer(delay + WRITE_SECONDS, os._exit, (TRY_AGAIN,))
    end_anyway.daemon = True
    end_anyway.start()
    text = f"watchdog: {what}; the stacks of all threads follow; exit code {TRY_AGAIN}, so that the run is tried again"
    os.write(2, f"\n{text}\n".encode())  # not through sys.stderr, which another thread may hold
    faulthandler.dump_traceback(file=2)
    time.sleep(delay)
    os._exit(TRY_AGAIN)
