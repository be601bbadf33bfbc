"""Processes that index files. Threads would take turns: Python hashes a short document without giving way to others.

Parent and worker speak in lines: a file to index goes in as JSON; out come bytes read so far, then how it ended.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict

from ladder.errors import InputError, Preempted


class Workers:
    """At most `n` processes, started when they are needed. They end with this process, even if it is killed: then
    there is nothing to read and nobody to write to."""

    def __init__(self, n: int):
        self._idle: queue.Queue = queue.Queue()
        self._processes: list[subprocess.Popen] = []
        for _ in range(n):
            self._idle.put(None)

    def index_file(self, folder, job, advance: Callable[[int], None], stop: threading.Event) -> None:
        """As `indexing.index_file`, in a process; waits for one that is idle. Raises as that does."""
        process = self._idle.get()
        try:
            if stop.is_set():
                return
            process = process or self._start()
            task = {"folder": str(folder), "job": asdict(job)}
            task["job"]["file"]["path"] = str(job.file.path)
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                answer = json.loads(line)
                if isinstance(answer, int):
                    advance(answer)
                elif answer["error"] is not None:
                    if answer["later"]:
                        raise Preempted(answer["error"])
                    raise InputError(answer["error"], answer["argument"])
                else:
                    return
            raise BrokenPipeError
        except BrokenPipeError:
            if not stop.is_set():
                code = process.wait()
                message = f"{job.file.path}: the process that indexes it ended with code {code}; run the command again"
                raise Preempted(message) from None
        finally:
            self._idle.put(process)

    def _start(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            start_new_session=True,  # Ctrl-C reaches this process, which ends the others
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def main() -> None:
    """Index the files that the parent names, until it has no more."""
    from ladder.data.storage.locations import location
    from ladder.data.tokens import formats, indexing

    def say(value) -> None:
        print(json.dumps(value), flush=True)

    for line in sys.stdin:
        task = json.loads(line)
        file = formats.TokenFile(**task["job"]["file"] | {"path": location(task["job"]["file"]["path"])})
        answer = {"error": None}
        try:
            indexing.index_file(location(task["folder"]), indexing.Job(**task["job"] | {"file": file}), say)
        except BrokenPipeError:
            raise
        except InputError as error:
            answer = {"error": str(error), "argument": error.argument, "later": False}
        except Preempted as error:
            answer = {"error": str(error), "argument": None, "later": True}
        except OSError as error:
            answer = {"error": f"{error.filename or file.path}: {error.strerror}", "argument": None, "later": False}
        say(answer)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent was killed
        main()
    os._exit(0)  # without a last attempt to write to it
