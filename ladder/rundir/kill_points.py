"""Kill points for tests: with LADDER_KILL_AT="before-manifest:2" the process dies at the second call of that phase.

Tests and `make proof-chaos` kill a run where an interruption could do most damage. Without the variable nothing
happens.
"""

import os
import signal
from collections import Counter

_reached = Counter()


def phase(name):
    """Count that phase `name` is reached; kill -9 this process if LADDER_KILL_AT asks for it now."""
    target, _, count = os.environ.get("LADDER_KILL_AT", "").partition(":")
    if name == target:
        _reached[name] += 1
        if _reached[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
