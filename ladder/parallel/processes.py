"""Several processes that train one run: how they connect, exchange values and agree on the step to stop at.

All of them run the same loop and issue the same device programs in the same order. A process waits for the others only
in a collective inside a step, in the publication of a checkpoint, and in the functions of this file.
"""

import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils

from ladder.errors import InputError, Preempted

# Environment variables with the index of this process; the first that is set counts: ladder's own, Slurm's, and that of
# a Kubernetes indexed job.
INDEX = ("LADDER_PROCESS", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
START_SECONDS = 1800  # until the slowest machine has pulled its image and mounted the corpus
# Longer than a compilation (387 s seen, a 1.4B rung on two cores), so that a compiling process is not taken for dead.
# Where one is killed and no scheduler ends the others, they may wait this long in a collective (then exit code 75).
HEARTBEAT_SECONDS = 600
END_SECONDS = 30  # how long a process waits at the end for the others; after it the run counts as failed


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> int:
    """Connect this process to the `count` of the run (jax.distributed); returns its index, 0 without a coordinator.

    coordinator: HOST:PORT of process 0, or "auto" where JAX finds coordinator, count and index itself (TPU pods).
    Arguments that are None are read from LADDER_COORDINATOR, LADDER_PROCESSES and the first of INDEX that is set. Call
    it before any other use of jax.
    Raises InputError where the settings are incomplete or contradictory, Preempted where processes do not connect.
    """
    coordinator, count, index = settings(coordinator, count, index, os.environ)
    if coordinator is None:
        return 0
    address = {"coordinator_address": coordinator, "cluster_detection_method": "deactivate"}
    try:
        jax.distributed.initialize(
            **(address if coordinator != "auto" else {}),
            num_processes=count,
            process_id=index,
            initialization_timeout=int(os.environ.get("LADDER_START_SECONDS", START_SECONDS)),
            heartbeat_timeout_seconds=int(os.environ.get("LADDER_HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)),
            shutdown_timeout_seconds=END_SECONDS,
        )
    except RuntimeError as error:  # another process did not connect in time: its machine failed, try again
        raise Preempted(f"process {index} of {count} could not join coordinator {coordinator}: {error}") from None
    except ValueError as error:
        raise InputError(f"process {index} of {count} could not join coordinator {coordinator}: {error}") from None
    _replace_abort()
    return jax.process_index()


def _replace_abort() -> None:
    """Let this process end with the stacks of its threads and exit code 75 where it would abort: JAX aborts it when
    another process is lost, from a thread in C. JAX has a callback for that, missed_heartbeat_callback, but calling it
    fails (std::bad_cast, jaxlib 0.10.2). Python's signal handlers come too late: they run when the thread goes on.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(_end_with_75, ctypes.c_void_p))


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _end_with_75(number: int) -> None:
    os.write(2, b"\nJAX aborts: another process of this run was lost, or see above; exit code 75, try again\n")
    faulthandler.dump_traceback(file=2)
    os._exit(75)


def leave(message: str) -> None:
    """Print the message and end this process with exit code 75, if it is one of several. A normal end waits END_SECONDS
    for the others, although they may be lost."""
    if jax.process_count() > 1:
        print(message, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(75)


def settings(coordinator: str | None, count: int | None, index: int | None, env: Mapping[str, str]):
    """(coordinator, count, index) from arguments, else from the environment; all None for a single process."""
    coordinator = coordinator or env.get("LADDER_COORDINATOR")
    if coordinator is None:
        if count is not None or index is not None or "LADDER_PROCESSES" in env:
            raise InputError(
                "several processes need a coordinator, HOST:PORT of process 0; set LADDER_COORDINATOR", "coordinator"
            )
        return None, None, None
    if coordinator == "auto":  # the index of an indexed job counts the machines of one slice only
        return coordinator, count, index
    if count is None:
        count = _env_int("LADDER_PROCESSES", env)
    if index is None:
        index = next((_env_int(name, env) for name in INDEX if name in env), None)
    if not coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"coordinator {coordinator!r}: write HOST:PORT, or auto on a TPU pod")
    if count is None or index is None:
        raise InputError(
            "a coordinator needs the number of processes and the index of this one; set LADDER_PROCESSES and"
            " LADDER_PROCESS",
            "processes",
        )
    if not 0 <= index < count:
        raise InputError(f"process {index} of {count}: must be from 0 to {max(count, 1) - 1}")
    return coordinator, count, index


def _env_int(name: str, env: Mapping[str, str]) -> int | None:
    text = env.get(name)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise InputError(f"{name} = {text!r}: must be a whole number")
    return None if text is None else int(text)


def gather(value) -> list:
    """The values (plain JSON types) of all processes, by process index. A collective: all processes must call it."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(text.size))
    texts = multihost_utils.process_allgather(np.pad(text, (0, sizes.max() - text.size)))
    return [json.loads(bytes(row[:size])) for row, size in zip(texts, sizes, strict=True)]


def together(action: Callable, errors: tuple[type[Exception], ...]) -> list:
    """Run action() in every process; returns all results (plain JSON types). A collective.

    Where it raises one of `errors` in any process, all processes raise: the others raise errors[0].
    """
    result, raised = None, None
    try:
        result = action()
    except errors as error:
        raised = error
    outcomes = gather({"result": result, "error": None if raised is None else str(raised)})
    if raised is not None:
        raise raised
    for process, outcome in enumerate(outcomes):
        if outcome["error"] is not None:
            raise errors[0](f"process {process}: {outcome['error']}")
    return [outcome["result"] for outcome in outcomes]


@dataclass(frozen=True)
class Notice:
    """is_due(step): whether to save and stop at this step; call it once at every step. stop(): ask for it."""

    is_due: Callable[[int], bool]
    stop: Callable[[], None]


@contextmanager
def stop_notice():
    """Yields the Notice of SIGTERM and SIGINT (Ctrl-C); a second SIGINT raises KeyboardInterrupt.

    With several processes a signal to one is enough: JAX chooses a step that none of them has reached, and is_due is
    true at that step in all of them.
    """
    if jax.process_count() > 1:
        notice = Notice(multihost_utils.reached_preemption_sync_point, lambda: os.kill(os.getpid(), signal.SIGTERM))
        numbers = (signal.SIGINT,)  # JAX handles SIGTERM
    else:
        event = threading.Event()
        notice = Notice(lambda step: event.is_set(), event.set)
        numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield notice
        return

    def handle(number, frame):
        notice.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGINT:
            print("stopping: it saves after this step; Ctrl-C again stops at once and loses what is not saved")

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield notice
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
