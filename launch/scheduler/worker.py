"""What happens inside a job: train a run, or conclude a ladder, and leave in the run directory how it ended."""

import traceback
from collections.abc import Callable

from ladder.errors import Diverged, InputError, Preempted
from ladder.rundir.lease import is_live, read_lease
from ladder.rundir.record import Record

# How the status of an XLA error begins where a machine or a network is to blame, not the program.
_INFRASTRUCTURE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "INTERNAL: Failed to", "UNKNOWN: TPU")


def train(directory, join: Callable[[], int] = lambda: 0) -> None:
    """`ladder train RUN_DIR`. join: finds the run's other processes; returns which of them this is."""

    def body():
        from ladder.loop.train import train as train_run

        train_run(directory)

    _work(directory, body, join)


def conclude(directory) -> None:
    """`ladder conclude FIT_DIR`."""

    def body():
        from launch.scheduler import conclude as concluding

        concluding.conclude(directory)

    _work(directory, body)


def _work(directory, body: Callable[[], None], join: Callable[[], int] = lambda: 0) -> None:
    """Note the attempt, do it, and where it failed for good write STOPPED.json. What a machine, a disk or a network
    is to blame for becomes Preempted (exit code 75)."""
    record = Record(directory)
    record.read_config()
    if record.is_done():
        return
    record.process_index = join()
    lease = read_lease(record.directory)
    if not (lease and is_live(lease)):  # otherwise another has it, and we shall be told so
        record.attempt("train")
    try:
        body()
    except (Preempted, Diverged):
        raise
    except InputError as error:
        _failed(record, str(error))
        raise
    except Exception as error:
        if _is_infrastructure(error):
            traceback.print_exc()
            raise Preempted(_said(error)) from None
        _failed(record, _said(error))
        raise


def _is_infrastructure(error: Exception) -> bool:
    if isinstance(error, OSError):  # a disk that is full, a bucket that does not answer
        return True
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and str(error).startswith(_INFRASTRUCTURE)


def _failed(record: Record, reason: str) -> None:
    beat = record.beat() or {}
    record.stop("failed", beat.get("step"), beat.get("loss"), reason)


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
