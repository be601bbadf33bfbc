"""The environment of Beam, whose requirements conflict with ours: a pipeline runs there, in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ladder
from ladder.errors import InputError, Preempted
from ladder.rundir.files import is_local

RUNNERS = ("direct", "dataflow", "flink", "spark")
CHECKOUT = Path(ladder.__file__).parents[1]
PYTHON = "LADDER_BEAM_PYTHON"  # names the Python of the environment, if it is not the one that `make beam` makes


def python() -> Path:
    return Path(os.environ.get(PYTHON) or CHECKOUT / ".cache" / "beam" / "bin" / "python")


@dataclass(frozen=True)
class Beam:
    """A Beam runner and its options, "KEY=VALUE" or "KEY". Raises InputError for a runner that does not exist."""

    runner: str
    options: tuple[str, ...] = ()

    def __post_init__(self):
        if self.runner not in RUNNERS:
            raise InputError(f"{self.runner!r}: no such Beam runner; choose one of {', '.join(RUNNERS)}", "runner")
        for option in self.options:
            key = option.partition("=")[0]
            if not key.isidentifier():
                raise InputError(f"{option!r}: write KEY=VALUE, for example direct_num_workers=2", "runner_option")
            if key == "runner":
                raise InputError(f"{option!r}: is no option of a runner; leave it out", "runner_option")

    def check(self, paths: Iterable[str], root) -> None:
        """Raise InputError where there is no environment, or where the machines of a cloud would not see the files."""
        if not python().is_file():
            raise InputError(f"no Beam at {python()}; install it with `make beam` (or set {PYTHON})", "runner")
        if self.runner == "dataflow":
            for path in [*paths, str(root)]:
                if is_local(path):
                    raise InputError(f"{path}: Dataflow's machines do not see it; name a bucket, gs://...", "runner")

    def run(self, step: str, folder, name: str = "") -> None:
        """Run a step ("read" or "write") of the build in a work folder, to its end.

        Raises InputError for options that Beam does not know, and Preempted where the pipeline failed: what is finished
        stays. The process ends with this one, even if this one is killed.
        """
        local = is_local(folder)
        log = Path(folder if local else tempfile.gettempdir()) / "beam.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [str(python()), "-m", "ladder.data.sharded"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=_environment(),
                start_new_session=True,  # its workers are ended with it
            )
        request = {"step": step, "folder": str(folder), "name": name, "runner": self.runner, "options": self.options}
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or "{}")
        except BrokenPipeError:
            answer = {}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
        if "error" in answer:
            raise InputError(answer["error"], answer["argument"])
        if "done" not in answer:
            reason = answer.get("failed", "its process was ended")
            raise Preempted(f"the pipeline failed: {reason}; the same command goes on (the log: {log})")


def _environment() -> dict[str, str]:
    """That of this process, in which a checkout is found, but not the packages of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return environment | ({"PYTHONPATH": str(CHECKOUT)} if (CHECKOUT / "pyproject.toml").exists() else {})
