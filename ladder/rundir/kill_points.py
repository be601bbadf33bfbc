"""Named kill points: LADDER_KILL_AT="before-manifest:2" dies at the second time that phase comes.

Tests and `make chaos` use it to stop a run where it hurts; without the variable it does nothing.
"""

import os
import signal
from collections import Counter

_reached = Counter()


def phase(name):
    """Say that `name` is reached; kill -9 this process where LADDER_KILL_AT asks for it."""
    at, _, nth = os.environ.get("LADDER_KILL_AT", "").partition(":")
    if name == at:
        _reached[name] += 1
        if _reached[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)
