"""Processes on this machine, a few at a time. They go on when the submitter dies, and are found again by a file lock
that each inherits and that the kernel lets go with the last of its processes."""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ladder.rundir.files import read_json, write_atomic
from ladder.rundir.lease import read_lease
from launch import run_log
from launch.backends.protocol import Busy, Job, Seen

PROGRAM = (sys.executable, "-m", "launch.cli")
GRACE = 60.0  # seconds to save before SIGKILL


class Local:
    """room: jobs at a time. processes: of each job, joined by jax.distributed."""

    name = "local"
    keeps_machines = False
    chains = False
    wait = 1.0

    def __init__(self, room: int = 1, processes: int = 1, program: Sequence[str] = PROGRAM):
        self.room, self.processes, self.program = room, processes, tuple(program)
        self._ours: dict[str, list[subprocess.Popen]] = {}

    def render(self, job: Job) -> str:
        return shlex.join((*self.program, *job.argv))

    def submit(self, job: Job) -> None:
        directory = Path(job.directory)
        lock = _lock(directory, fcntl.LOCK_EX)
        if lock is None:
            raise Busy(f"{job.run_id}: a process of it lives already")
        try:
            (directory / "job.json").unlink(missing_ok=True)  # the pid in it is another process's by now
            self._ours[job.name] = self._start(job, directory, lock)
        finally:
            os.close(lock)
        first = self._ours[job.name][0].pid
        write_atomic(directory / "job.json", json.dumps({"host": socket.gethostname(), "pid": first}) + "\n")

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        found = {}
        for job in jobs:
            if job.name in self._ours:
                found[job.name] = (self._own(job),)
            elif is_running(Path(job.directory)):
                found[job.name] = (Seen("", "running"),)
        return found

    def delete(self, job: Job, seen: Seen) -> None:
        processes = self._ours.pop(job.name, None)
        if seen.phase == "ended":
            return
        stop(Path(job.directory), processes[0].pid if processes else None)
        for process in processes or ():
            process.wait()

    def logs(self, job: Job) -> list[str]:
        return []

    def stop(self, jobs: Sequence[Job]) -> None:
        """SIGTERM to all that this object started; they save and end."""
        for job in jobs:
            if job.name in self._ours:
                self.delete(job, Seen("", "running"))

    def _start(self, job: Job, directory: Path, lock: int) -> list[subprocess.Popen]:
        started: list[subprocess.Popen] = []
        count = 1 if job.is_fit else self.processes
        coordinator = f"127.0.0.1:{_free_port()}" if count > 1 else ""
        with open(directory / "log.txt", "ab") as log:
            for k in range(count):
                env = dict(os.environ)
                if count > 1:
                    env["LADDER_COORDINATOR"] = coordinator
                    env["LADDER_PROCESSES"], env["LADDER_PROCESS"] = str(count), str(k)
                started.append(
                    subprocess.Popen(
                        [*self.program, *job.argv],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=env,
                        pass_fds=(lock,),
                        # A group of its own: Ctrl-C in the terminal reaches only us, and we pass it on as SIGTERM.
                        process_group=started[0].pid if started else 0,
                    )
                )
        return started

    def _own(self, job: Job) -> Seen:
        codes = [process.poll() for process in self._ours[job.name]]
        if None in codes:
            if any(codes):  # one of several failed: the others wait for it in vain
                stop(Path(job.directory), self._ours[job.name][0].pid)
            return Seen("", "running")
        code = next((c for c in (78, 2, 1) if c in codes), next((c for c in codes if c), 0))
        said = run_log.last(job.directory) if code == 2 else ""
        return Seen("", "ended", code, f"exit code {code}" + (f": {said}" if said else ""))


def is_running(directory: Path) -> bool:
    """Whether a process of the run's job lives, whoever started it."""
    lock = _lock(directory, fcntl.LOCK_SH)  # shared: two that look do not take each other for a job
    if lock is None:
        return True
    os.close(lock)
    return False


def stop(directory: Path, group: int | None = None) -> None:
    """SIGTERM to the job's processes, SIGKILL after GRACE seconds; returns when they are gone."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 10.0)):
        if not _send(directory, number, group):
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not is_running(directory):
                return
            time.sleep(0.05)


def _send(directory: Path, number: int, group: int | None) -> bool:
    """Signal the job's process group; its lock is held, so the pid has not passed to another."""
    if not is_running(directory):
        return False
    if group is None:
        group = _group(directory)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
    return True


def _group(directory: Path) -> int:
    """Of a job that another process has started."""
    # Killed between the start and job.json, a submitter leaves only what the run itself says.
    named = directory / "job.json"
    job = read_json(named) if named.exists() else read_lease(directory)
    if job is None:
        raise Busy(f"{directory}: a process has just been started; try again in a few seconds")
    if job["host"] != socket.gethostname():
        raise Busy(f"{directory}: its process is on {job['host']}; stop it there")
    return job["pid"]


def _lock(directory: Path, kind: int) -> int | None:
    """A descriptor that holds the lock of the run's job, or None where its processes do."""
    file = os.open(directory / "job.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
