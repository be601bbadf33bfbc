"""Many requests to an object store, each sent again until it succeeds, fails for good, or the store stays down."""

import random
import time
from collections.abc import Callable, Iterator

from ladder.errors import Preempted
from ladder.rundir.files import is_store_error

PATIENCE = 120.0  # seconds that a store may be down
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 20.0  # seconds


class ShortAnswerError(OSError):
    """The store sent fewer or more bytes than it was asked for."""


def answers(
    n: int,
    send: Callable[[list[int]], list],
    name: Callable[[int], str],
    failed: Callable[[int], None] = lambda request: None,
) -> list:
    """The answer of each of n requests, or the exception of one that fails for good.

    send(requests) -> their answers and exceptions, in order. name(request): for the message. failed(request) is called
    with one of those that failed before they are sent again; it may raise. Raises Preempted where requests still fail
    after PATIENCE seconds.
    """
    results: list = [None] * n
    pending, pauses = list(range(n)), _pauses()
    while pending:
        again = []
        for request, answer in zip(pending, send(pending), strict=True):
            results[request] = answer
            if isinstance(answer, BaseException) and is_transient(answer):
                again.append(request)
        if again:
            failed(again[0])
            pause = next(pauses, None)
            if pause is None:
                reason = f"the store did not answer for {PATIENCE:.0f} s ({one_line(results[again[0]])})"
                raise Preempted(f"{name(again[0])}: {reason}; start it again when the store answers, it goes on")
            time.sleep(pause)
        pending = again
    return results


def _pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt, twice as long each time, half of them random; they end after
    PATIENCE seconds."""
    until, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while time.monotonic() < until:
        yield pause * (0.5 + 0.5 * random.random())
        pause = min(2 * pause, LONGEST_PAUSE)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: a connection that was cut, a timeout, 408, 429, 5xx."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    status = next((code for code in map(_number, _codes(error)) if code is not None), None)
    if status is not None and 400 <= status < 500:
        return status in (408, 416, 429)  # 416: beyond the end; `failed` sees whether the object was cut
    if isinstance(error, OSError):
        return not str(error).startswith("Forbidden")  # gcsfs
    return isinstance(error, EOFError) or is_store_error(error)


def _codes(error: BaseException) -> list:
    """The status of HTTP, where each package puts it: gcsfs and google, aiohttp, botocore."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return [getattr(error, "code", None), getattr(error, "status", None), metadata.get("HTTPStatusCode")]


def _number(code) -> int | None:
    try:
        return int(code)
    except (TypeError, ValueError):
        return None


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
