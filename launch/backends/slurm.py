"""Slurm by its commands sbatch, squeue and scancel. Needs no slurmdbd and no Python package.

Slurm itself requeues a preempted job. squeue shows an ended job for a few minutes only; the job's number stays in
job.json in the run directory until `delete` has acknowledged the end.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import read_sealed, sealed, write_atomic
from ladder.rundir.record import Record
from launch.backends.protocol import PROGRAM, Busy, Job, Seen
from launch.settings import Environment, Slurm

QUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED", "RESIZING"}
# The variables of our own environment that a job gets, and those that [secrets] names; no others are passed on.
PASSED = re.compile(r"(PATH|HOME|USER|LOGNAME|LANG|LC_ALL|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHONPATH|SLURM_CONF)|"
                    r"(JAX|XLA|LADDER|NCCL|CUDA)_[A-Z0-9_]+")  # fmt: skip
_COLUMNS = (("JobID", 20), ("Name", 64), ("State", 24), ("exit_code", 12), ("Reason", 60))
# With several tasks, each gives jax.distributed the address of the first one and its own index. JAX's own detection of
# Slurm hangs where node names do not resolve.
_TASK = (
    "export LADDER_COORDINATOR=$SLURM_LAUNCH_NODE_IPADDR:$((20000 + SLURM_JOB_ID % 20000))"
    ' LADDER_PROCESSES=$SLURM_NTASKS LADDER_PROCESS=$SLURM_PROCID; exec "$@"'
)


class Cluster:
    name = "slurm"
    max_jobs = None
    keeps_machines = False
    chains = True
    retry_delay = 60.0

    def __init__(self, settings: Slurm, environment: Environment, program: Sequence[str] = PROGRAM):
        self.settings, self.environment, self.program = settings, environment, tuple(program)

    def render(self, job: Job) -> str:
        """The batch script. Comments above it show the sbatch command and which secrets are passed, by name."""
        secrets = [f"{name}{'' if name in os.environ else ' (not set here)'}" for name in self.environment.secrets]
        passed = f"# passed by name, from the environment of sbatch: {', '.join(secrets)}\n" if secrets else ""
        return f"# {shlex.join(self._sbatch(job, ()))}\n{passed}{self._script(job)}"

    def submit(self, job: Job) -> None:
        numbers = [number for run_id, _ in job.after if (number := self._dependency(job, run_id))]
        number = self._run(self._sbatch(job, numbers), self._script(job)).strip().split(";")[0]
        write_atomic(Path(job.directory) / "job.json", sealed({"slurm": number}))

    def poll(self, jobs: Sequence[Job]) -> dict[str, tuple[Seen, ...]]:
        columns = ",".join(f"{name}:{width}" for name, width in _COLUMNS)
        by_name = {job.name: job for job in jobs}
        seen_by_name: dict[str, list[Seen]] = {}
        for line in self._run(["squeue", "--noheader", "--states=all", "--me", "-O", columns]).splitlines():
            number, name, state, status, reason = _split_columns(line)
            seen = _seen(number, state, int(status or 0), reason)
            if name in by_name and (seen.phase != "ended" or number == _job_number(by_name[name].directory)):
                seen_by_name.setdefault(name, []).append(seen)
        return {name: tuple(seen) for name, seen in seen_by_name.items()}

    def delete(self, job: Job, seen: Seen) -> None:
        if seen.phase == "ended":
            if _job_number(job.directory) == seen.id:
                (Path(job.directory) / "job.json").unlink(missing_ok=True)
            return
        self._run(["scancel", seen.id])

    def logs(self, job: Job) -> list[str]:
        return []  # log.txt in the run directory is the job's output

    def _sbatch(self, job: Job, after: Sequence[str]) -> list[str]:
        """The command; after: numbers of the jobs that must succeed first."""
        s, tasks = self.settings, self.settings.nodes * self.settings.tasks_per_node
        log = str(Path(job.directory).resolve() / "log.txt").replace("%", "%%")
        # singleton: if a job is submitted twice, the second waits for the first, and then finds the run done.
        dependencies = ["singleton", *(["afterok:" + ":".join(after)] if after else [])]
        command = ["sbatch", "--parsable", f"--job-name={job.name}", f"--output={log}", "--open-mode=append"]
        command += ["--requeue", f"--dependency={','.join(dependencies)}", "--kill-on-invalid-dep=yes"]
        nodes = 1 if job.is_fit else s.nodes
        command += [f"--nodes={nodes}", f"--ntasks-per-node={1 if job.is_fit else s.tasks_per_node}"]
        flags = {"partition": s.fit_partition if job.is_fit else s.partition, "account": s.account}
        flags |= {"qos": "" if job.is_fit else s.qos, "time": s.time}
        command += [f"--{flag}={value}" for flag, value in flags.items() if value]
        # SIGTERM before the time limit: to the shell (B:), which is the job itself; with srun to its tasks.
        to_tasks = tasks > 1 and not job.is_fit
        command += [f"--signal={'' if to_tasks else 'B:'}TERM@{s.seconds_to_save}"] if s.time else []
        return [*command, *(() if job.is_fit else s.options)]

    def _script(self, job: Job) -> str:
        argv = [*self.program, *job.argv]
        if self.settings.nodes * self.settings.tasks_per_node > 1 and not job.is_fit:
            argv = ["srun", "--kill-on-bad-exit=1", "bash", "-c", _TASK, "task", *argv]
        return f"#!/bin/bash\nexec {shlex.join(argv)}\n"

    def _dependency(self, job: Job, run_id: str) -> str | None:
        """The number of the Slurm job of `run_id`, which `job` needs; None where that run is done."""
        directory = Path(job.directory).parents[1 if job.is_fit else 0] / run_id
        return None if Record(directory).is_done() else _job_number(directory)

    def _run(self, command: Sequence[str], script: str | None = None) -> str:
        by_name = self.environment.secrets if command[0] == "sbatch" else ()
        env = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name) or name in by_name}
        env |= self.environment.variables
        try:
            process = subprocess.run(command, input=script, env=env, capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            raise InputError(f"{command[0]}: not found; run this on a machine that can submit to Slurm") from None
        except subprocess.TimeoutExpired:
            raise Busy(f"{command[0]} did not answer within a minute") from None
        if process.returncode == 0:
            return process.stdout
        message = " ".join(process.stderr.split()) or f"exit code {process.returncode}"
        if command[0] == "scancel" and "Invalid job id" in message:
            return ""  # the job has ended already
        if re.search(r"Invalid (partition|account|qos|time|node|generic)|unrecognized option|not available", message):
            raise InputError(f"sbatch: {message}; see [slurm] in ladder.toml")
        raise Busy(f"{command[0]}: {message}")


def _job_number(directory) -> str | None:
    try:
        return read_sealed(Path(directory) / "job.json").get("slurm")
    except (FileNotFoundError, InputError):  # a damaged one: Slurm itself still knows the job
        return None


def _split_columns(line: str) -> list[str]:
    cells = []
    for _, width in _COLUMNS:
        cells.append(line[:width].strip())
        line = line[width:]
    return cells


def _seen(number: str, state: str, status: int, reason: str) -> Seen:
    if state in QUEUED:
        return Seen(number, "queued", reason=reason)
    if state in RUNNING:
        return Seen(number, "running")
    if state == "COMPLETED":
        return Seen(number, "ended", 0)
    if state == "OUT_OF_MEMORY":
        return Seen(number, "ended", 1, "out of memory (Slurm)")
    if state == "FAILED":
        code = os.waitstatus_to_exitcode(status)
        return Seen(number, "ended", code, f"exit code {code}")
    return Seen(number, "ended", None, state)  # TIMEOUT, NODE_FAIL, CANCELLED, PREEMPTED ...
