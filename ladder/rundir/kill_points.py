"""The phases that a process reaches as it trains: signs of life for the watchdog, and places for the faults of tests.

With LADDER_KILL_AT="before-manifest:2" the process dies at the second call of that phase; with LADDER_HANG_AT it hangs
there. Tests and `make proof-chaos` stop a run where an interruption could do most damage. Without the variables a phase
is only counted.
"""

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass

_reached = Counter()


@dataclass(frozen=True)
class Sign:
    """Phase `name` was reached for the `count`-th time when time.monotonic() was `time`."""

    name: str
    count: int
    time: float


_latest = Sign("start", 1, time.monotonic())


def phase(name):
    """Count that the training loop has reached phase `name`: a sign of life; and a fault point."""
    global _latest
    _latest = Sign(name, _reached[name] + 1, time.monotonic())
    fault_point(name)


def fault_point(name):
    """Count that `name` is reached; kill -9 this process, or let it hang, if a variable asks for it now. Not a sign of
    life: other threads, such as the loader's, reach fault points while the loop hangs or compiles."""
    _reached[name] += 1
    for variable, action in (("LADDER_KILL_AT", _kill), ("LADDER_HANG_AT", _hang)):
        target, _, count = os.environ.get(variable, "").partition(":")
        if name == target and _reached[name] == int(count or 1):
            action()


def latest_sign():
    return _latest


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _hang():
    print("hangs, as LADDER_HANG_AT asks", flush=True)
    time.sleep(1e6)
