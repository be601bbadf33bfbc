"""Processes on this machine, a few jobs at a time. They continue when the submitter dies, and are found again by a file
lock that all processes of a job inherit and that the kernel releases when the last of them ends."""

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import read_sealed, sealed, write_atomic
from ladder.rundir.lease import read_lease
from launch import run_log
from launch.backends.protocol import PROGRAM, Busy, Job, Seen

GRACE_SECONDS = 60.0  # to save, between SIGTERM and SIGKILL


class Local:
    """max_jobs: at a time. processes: of each job, joined by jax.distributed."""

    name = "local"
    keeps_machines = False
    chains = False
    retry_delay = 1.0

    def __init__(self, max_jobs: int = 1, processes: int = 1, program: Sequence[str] = PROGRAM):
        self.max_jobs, self.processes, self.program = max_jobs, processes, tuple(program)
        self._started: dict[str, list[subprocess.Popen]] = {}  # by job name

    def render(self, job: Job) -> str:
        return shlex.join((*self.program, *job.argv))

    def submit(self, job: Job) -> None:
        directory = Path(job.directory)
        lock = _lock(directory, fcntl.LOCK_EX)
        if lock is None:
            raise Busy(f"{job.run_id}: one of its processes is still running")
        try:
            (directory / "job.json").unlink(missing_ok=True)  # its pid may belong to another process by now
            self._started[job.name] = self._start(job, directory, lock)
        finally:
            os.close(lock)
        pid = self._started[job.name][0].pid
        write_atomic(directory / "job.json", sealed({"host": socket.gethostname(), "pid": pid}))

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        seen = {}
        for job in jobs:
            if job.name in self._started:
                seen[job.name] = (self._seen(job),)
            elif is_running(Path(job.directory)):
                seen[job.name] = (Seen("", "running"),)
        return seen

    def delete(self, job: Job, seen: Seen) -> None:
        processes = self._started.pop(job.name, None)
        if seen.phase == "ended":
            return
        stop(Path(job.directory), processes[0].pid if processes else None)
        for process in processes or ():
            process.wait()

    def logs(self, job: Job) -> list[str]:
        return []

    def stop(self, jobs: Sequence[Job]) -> None:
        """Send SIGTERM to the jobs that this object started; they save and end."""
        for job in jobs:
            if job.name in self._started:
                self.delete(job, Seen("", "running"))

    def _start(self, job: Job, directory: Path, lock: int) -> list[subprocess.Popen]:
        processes: list[subprocess.Popen] = []
        count = 1 if job.is_fit else self.processes
        coordinator = f"127.0.0.1:{_free_port()}" if count > 1 else ""
        with open(directory / "log.txt", "ab") as log:
            for index in range(count):
                env = dict(os.environ)
                if count > 1:
                    env["LADDER_COORDINATOR"] = coordinator
                    env["LADDER_PROCESSES"], env["LADDER_PROCESS"] = str(count), str(index)
                processes.append(
                    subprocess.Popen(
                        [*self.program, *job.argv],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=env,
                        pass_fds=(lock,),
                        # A process group of its own: Ctrl-C reaches only the submitter, which sends SIGTERM.
                        process_group=processes[0].pid if processes else 0,
                    )
                )
        return processes

    def _seen(self, job: Job) -> Seen:
        codes = [process.poll() for process in self._started[job.name]]
        if None in codes:
            if any(codes):  # one of several failed: the others would wait for it without end
                stop(Path(job.directory), self._started[job.name][0].pid)
            return Seen("", "running")
        code = next((c for c in (78, 2, 1) if c in codes), next((c for c in codes if c), 0))
        last_line = run_log.last(job.directory) if code == 2 else ""
        return Seen("", "ended", code, f"exit code {code}" + (f": {last_line}" if last_line else ""))


def runs_at_once() -> int:
    """One for each core, at most four, where JAX_PLATFORMS is cpu: a model of this size cannot use two cores. Otherwise
    one, because runs cannot share an accelerator."""
    return min(4, os.cpu_count() or 1) if os.environ.get("JAX_PLATFORMS") == "cpu" else 1


def is_running(directory: Path) -> bool:
    """Whether a process of the run's job is alive, whoever started it."""
    lock = _lock(directory, fcntl.LOCK_SH)  # shared: two readers do not take each other for a job
    if lock is None:
        return True
    os.close(lock)
    return False


def stop(directory: Path, group: int | None = None) -> None:
    """Send SIGTERM to the job's processes, and SIGKILL after GRACE_SECONDS; returns when they have ended."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 10.0)):
        if not _send(directory, number, group):
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_running(directory):
                return
            time.sleep(0.05)


def _send(directory: Path, number: int, group: int | None) -> bool:
    """Send a signal to the job's process group. Its lock is held, so the pid is still that of the job."""
    if not is_running(directory):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group or _process_group(directory), number)
    return True


def _process_group(directory: Path) -> int:
    """Of a job that another process has started."""
    try:
        job = read_sealed(directory / "job.json")
    except (FileNotFoundError, InputError):
        job = None
    # A submitter that was killed before it wrote job.json leaves only the lease of the run itself.
    if job is None:
        job = read_lease(directory)
    if job is None:
        raise Busy(f"{directory}: a process has just been started; try again in a few seconds")
    if job["host"] != socket.gethostname():
        raise Busy(f"{directory}: its process runs on the host {job['host']}; stop it there")
    return job["pid"]


def _lock(directory: Path, kind: int) -> int | None:
    """A file descriptor that holds the lock of the run's job; None where the job's processes hold it."""
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
