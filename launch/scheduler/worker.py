"""What a job does: train a run, or conclude a ladder, and record in the run directory how it ended."""

import contextlib
import errno
import signal
import threading
import time
import traceback
from collections.abc import Callable

from ladder.errors import Diverged, InputError, Preempted
from ladder.rundir.files import is_store_error
from ladder.rundir.lease import is_live, read_lease
from ladder.rundir.record import Record

# How the message of an XLA error begins where a machine or a network failed, not the program.
_INFRASTRUCTURE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "INTERNAL: Failed to", "UNKNOWN: TPU")
# What joins processes on CPUs and on GPUs: its errors are of a process that was lost, or of the network.
_INFRASTRUCTURE += ("UNKNOWN: Gloo", "INTERNAL: Gloo", "INTERNAL: NCCL", "UNKNOWN: NCCL")


def train(directory, join: Callable[[], int] = lambda: 0, steps: tuple[int, int] | None = None) -> None:
    """`ladder train RUN_DIR`. join: connects the run's processes; returns the index of this one. steps: first and last
    that are traced with the profiler.

    Raises InputError where these are not steps that are left.
    """
    if steps:
        _check_left(Record(directory), *steps)

    def body(began: float):
        from ladder.loop.train import train as train_run
        from ladder.monitor.profiler import Window
        from launch.profiling import step_times

        train_run(directory, began, steps and Window(*steps, then=step_times.show))

    _run(directory, body, join)


def _check_left(record: Record, first: int, last: int) -> None:
    config, saved, done = record.read_config(), record.saved_steps(), record.is_done()
    end = config["derived"]["steps"]
    begin = end if done else saved[-1] if saved else config.get("rung", {}).get("parent_step") or 0
    if not begin <= first < last <= end:
        left = f"steps {begin:,} to {end:,} are left" if begin < end else "no steps are left, the run is trained"
        raise InputError(f"{record.directory.name}: cannot profile steps {first}:{last}; {left}", "profile")


def conclude(directory) -> None:
    """`ladder conclude FIT_DIR`."""

    def body(began: float):
        from launch.scheduler import conclude as concluding

        concluding.conclude(directory)

    _run(directory, body)


def _run(directory, body: Callable[[float], None], join: Callable[[], int] = lambda: 0) -> None:
    """Record the attempt, call `body` with the time at which it began, and write STOPPED.json if it failed in a way
    that a retry cannot help. A failure of a machine or a network becomes Preempted (exit code 75); a full disk, which
    stays full, is an InputError."""
    with _sigint_ends_the_process():
        _run_once(directory, body, join)


@contextlib.contextmanager
def _sigint_ends_the_process():
    """Until the training loop handles SIGINT: a KeyboardInterrupt inside an import of JAX becomes an ImportError, and
    the run would count as failed."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _run_once(directory, body: Callable[[float], None], join: Callable[[], int]) -> None:
    began = time.time()
    record = Record(directory)
    record.read_config()
    if record.is_done():
        return
    record.process_index = join()
    lease = read_lease(record.directory)
    if not (lease and is_live(lease)):  # otherwise another process trains the run, and `body` raises Preempted
        for member in record.group():
            member.attempt("train", began)
    try:
        body(began)
    except (Preempted, Diverged):
        raise
    except InputError as error:
        _failed(record, str(error))
        raise
    except Exception as error:
        if _is_full_disk(error):
            message = f"{_first_line(error)}; make room on the disk of this machine, then: ladder submit NAME --retry"
            with contextlib.suppress(OSError):  # the run directory may be on the same disk
                _failed(record, message)
            raise InputError(message) from error
        if _is_infrastructure(error):
            traceback.print_exc()
            _leave_others(_first_line(error))
            raise Preempted(_first_line(error)) from None
        _failed(record, _first_line(error))
        raise


def _leave_others(reason: str) -> None:
    """End this process where it is one of several: they are lost, or cannot go on without it."""
    from ladder.parallel import processes

    processes.leave(f"stopped: {reason}")


def _is_full_disk(error: Exception) -> bool:
    """The error of a checkpoint that could not be saved has TensorStore's message, and no number."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, OSError) and (error.errno in full or "No space left on device" in str(error))


def _is_infrastructure(error: Exception) -> bool:
    if isinstance(error, OSError) or is_store_error(error):  # such as a bucket that does not answer
        return True
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and str(error).startswith(_INFRASTRUCTURE)


def _failed(record: Record, reason: str) -> None:
    beat = record.beat() or {}
    record.stop("failed", beat.get("step"), beat.get("loss"), reason)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
