"""Many processes that train one run: how they find each other, what they tell each other, when they stop together.

All of them run the same loop and issue the same device programs in the same order; nothing waits for another process
but a collective inside a step, a checkpoint's publication, and what stands here.
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from ladder.errors import InputError, Preempted

# Who starts us has already numbered its processes: ours, then Slurm's, then a Kubernetes indexed job's.
INDEX = ("LADDER_PROCESS", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
START_SECONDS = 1800  # the slowest of many machines: image pulled, corpus mounted
# Longer than a compilation (387 s seen, a 1.4B rung on two cores), which must never look like a death. Where a process
# is killed and no scheduler ends the others, they wait in a collective for this long and then abort (exit code 134).
HEARTBEAT_SECONDS = 600
END_SECONDS = 30  # how long the others may be behind at the end; after it the run counts as broken


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> int:
    """Make this process one of `count` (jax.distributed) and return which; without a coordinator it stays alone.

    coordinator: host:port of process 0, or "auto" where JAX finds its own (TPU pods). What is not given is read from
    LADDER_COORDINATOR, LADDER_PROCESSES and the first of INDEX that is set. Call it before any other use of jax.
    Raises InputError where they contradict each other, Preempted where the coordinator does not answer.
    """
    coordinator, count, index = settings(coordinator, count, index, os.environ)
    if coordinator is None:
        return 0
    where = {} if coordinator == "auto" else {"cluster_detection_method": "deactivate"}
    named = {} if coordinator == "auto" else {"coordinator_address": coordinator}
    try:
        jax.distributed.initialize(
            **named,
            **where,
            num_processes=count,
            process_id=index,
            initialization_timeout=int(os.environ.get("LADDER_START_SECONDS", START_SECONDS)),
            heartbeat_timeout_seconds=int(os.environ.get("LADDER_HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)),
            shutdown_timeout_seconds=END_SECONDS,
        )
    except RuntimeError as error:  # a peer that has not come: its machine is to blame
        raise Preempted(f"coordinator {coordinator}, process {index} of {count}: {error}") from None
    except ValueError as error:
        raise InputError(f"coordinator {coordinator}, process {index} of {count}: {error}") from None
    return jax.process_index()


def settings(coordinator: str | None, count: int | None, index: int | None, env: Mapping[str, str]):
    """(coordinator, count, index) from flags and environment; all None for one process alone."""
    coordinator = coordinator or env.get("LADDER_COORDINATOR")
    if coordinator is None:
        if count is not None or index is not None or "LADDER_PROCESSES" in env:
            raise InputError("several processes need --coordinator HOST:PORT (or LADDER_COORDINATOR), process 0's")
        return None, None, None
    if count is None:
        count = _whole("LADDER_PROCESSES", env)
    if index is None:
        index = next((_whole(name, env) for name in INDEX if name in env), None)
    if coordinator == "auto":
        return coordinator, count, index
    if not coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"coordinator {coordinator!r}: write HOST:PORT")
    if count is None or index is None:
        raise InputError("a coordinator needs --processes N and --process I (or LADDER_PROCESSES and LADDER_PROCESS)")
    if not 0 <= index < count:
        raise InputError(f"process {index} of {count}: must be from 0 to {count - 1}")
    return coordinator, count, index


def _whole(name: str, env: Mapping[str, str]) -> int | None:
    text = env.get(name)
    if text is not None and not text.isdigit():
        raise InputError(f"{name} = {text!r}: must be a whole number")
    return None if text is None else int(text)


def gather(value) -> list:
    """Every process's value (plain JSON types), in their order; a collective, so all must call it."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(text.size))
    texts = multihost_utils.process_allgather(np.pad(text, (0, sizes.max() - text.size)))
    return [json.loads(bytes(row[:size])) for row, size in zip(texts, sizes, strict=True)]


def together(action: Callable, errors: tuple[type[Exception], ...]) -> list:
    """action() in every process and all their results; where it raises one of `errors` in one, all of them raise."""
    result, raised = None, None
    try:
        result = action()
    except errors as error:
        raised = error
    told = gather({"result": result, "error": None if raised is None else str(raised)})
    if raised is not None:
        raise raised
    for process, one in enumerate(told):
        if one["error"] is not None:
            raise errors[0](f"process {process}: {one['error']}")
    return [one["result"] for one in told]


@contextmanager
def notice():
    """A function of the step that says whether to save and stop there, because SIGTERM came.

    With several processes it is enough that one of them has it: JAX agrees on a step that none of them has begun, and
    the function is true at that step in all. Call it once for every step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may have handlers
        yield lambda step: event.is_set()
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield lambda step: event.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
