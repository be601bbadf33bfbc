"""A process of Beam's environment, which runs one step; environment.py starts it.

Its request is a line of JSON on stdin; the answer is one on stdout. When stdin ends, because the process that asked was
killed, this one and its workers end too.
"""

import json
import os
import signal
import sys
import threading
import traceback

from ladder.data.sharded import pipeline
from ladder.errors import InputError


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Beam prints goes to the log
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_asking_process, daemon=True).start()
    try:
        pipeline.run(**request)
        answer = {"done": True}
    except InputError as error:
        answer = {"error": str(error), "argument": error.argument}
    except Exception as error:  # of a runner; where it is of a worker, its text is the traceback there
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        answer = {"failed": f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]}
    print(json.dumps(answer), file=answers, flush=True)


def _end_with_the_asking_process() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
