"""Two real processes of two emulated devices each train one run as one process does, and stop and resume together."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladder.config import Rung
from ladder.errors import InputError
from ladder.loop import step
from ladder.overrides import from_dict
from ladder.parallel import sharding
from ladder.parallel.processes import settings, stop_notice
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.files import create, sealed
from ladder.rundir.lease import read_lease
from ladder.rundir.record import Record

HERE = Path(__file__).parent
STEPS, BATCH, SEQ = 20, 16, 32


def rung(world) -> Rung:
    # Collectives of emulated devices take most of the time.
    model = replace(world.rung().model, n_layers=1)
    evaluation = replace(world.rung().eval, validation_tokens=512)
    tokens = STEPS * BATCH * SEQ
    return world.rung(model=model, batch_tokens=BATCH * SEQ, tokens=tokens, save_every=5, eval=evaluation)


class Started:
    """The processes of one run; process i's output is in `logs[i]`, the windows it read in `read(i)`, step by step."""

    def __init__(self, directory: Path, count: int, devices: int, only: dict[int, dict] | None = None, **env: str):
        """only: {i: further variables of process i}."""
        self.directory, self.logs = directory, [directory / f"process-{i}.txt" for i in range(count)]
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        flags = ["--coordinator", f"localhost:{port}", "--processes", str(count)] if count > 1 else []
        env = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles in a third of the time
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": str(HERE.parents[2]),
        } | env  # fmt: skip
        self.processes = []
        for i, log in enumerate(self.logs):
            worker = [sys.executable, str(HERE / "windows_read.py"), str(directory / f"read-{i}.json"), str(directory)]
            process_flags = [*flags, "--process", str(i)] if flags else []
            with log.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [*worker, *process_flags],
                        env=env | (only or {}).get(i, {}),
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )

    def codes(self) -> list[int]:
        return [process.wait(timeout=180) for process in self.processes]

    def read(self, i: int) -> list[list[int]]:
        return json.loads((self.directory / f"read-{i}.json").read_text())

    def wait_for_a_segment(self) -> None:
        while not list((self.directory / "metrics").glob("*.jsonl")):
            assert all(process.poll() is None for process in self.processes), self.logs[0].read_text()
            time.sleep(0.01)


def values(directory: Path) -> dict:
    return {(row["step"], row["task"], row["metric"]): row["value"] for row in Record(directory).rows()}


def state(directory: Path, saved_step: int) -> dict[str, np.ndarray]:
    """The saved state, on one device."""
    import jax

    trained = from_dict(Rung, Record(directory).read_config()["rung"])
    program = step.build(trained, sharding.make_mesh(trained.mesh))
    saved = Checkpoints(directory / "checkpoints").read(saved_step, program.abstract_state)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(saved)}


def assert_same_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert x.tobytes() == other[name].tobytes(), name


def assert_same_to_the_last_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key, value in other.items():
        # Another order of summation differs in the last bits, which training amplifies.
        assert one[key] == pytest.approx(value, rel=1e-5 if key[0] <= 20 else 1e-3), key


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """The same run twice: by one process and by two."""
    root = tmp_path_factory.mktemp("runs")
    started = {}
    for name, processes, devices in (("alone", 1, 1), ("whole", 2, 2)):
        (directory,) = world([rung(world)], root / name)
        started[name] = Started(directory, processes, devices)
        assert started[name].codes() == [0] * processes, started[name].logs[0].read_text()
    return started


@pytest.mark.slow
def test_two_processes_train_as_one(runs):
    two, one = values(runs["whole"].directory), values(runs["alone"].directory)
    assert len([key for key in one if key[1:] == ("train", "loss")]) == STEPS // 10
    assert_same_to_the_last_bits(two, one)
    assert Record(runs["whole"].directory).state().name == "done"


@pytest.mark.slow
def test_each_process_reads_its_half_of_every_batch_and_nothing_else(runs):
    one, halves = np.array(runs["alone"].read(0)), [np.array(runs["whole"].read(i)) for i in (0, 1)]
    assert one.shape == (STEPS, BATCH)
    np.testing.assert_array_equal(halves[0], one[:, : BATCH // 2])
    np.testing.assert_array_equal(halves[1], one[:, BATCH // 2 :])


@pytest.mark.slow
def test_only_process_0_prints_and_publishes(runs):
    assert "Traceback" not in (log := runs["whole"].logs[1].read_text()) and "loss" not in log
    manifest = json.loads((runs["whole"].directory / f"checkpoints/{STEPS}/MANIFEST.json").read_text())
    written = {name.split("/")[1] for name in manifest["files"] if "/ocdbt.process_" in name}
    assert written == {"ocdbt.process_0", "ocdbt.process_1"}
    assert Checkpoints(runs["whole"].directory / "checkpoints").verify(STEPS) == []
    assert read_lease(runs["whole"].directory) is None


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_and_one_or_two_resume(world, runs, tmp_path):
    (directory,) = world([rung(world)], tmp_path / "two")
    stopped, whole = Started(directory, 2, 2), runs["whole"].directory
    stopped.wait_for_a_segment()
    stopped.processes[1].terminate()
    began = time.monotonic()
    assert stopped.codes() == [75, 75]
    assert time.monotonic() - began < 10
    stopped_at = Checkpoints(directory / "checkpoints").steps()[-1]
    assert 0 < stopped_at < STEPS
    for log in stopped.logs:
        assert f"stopped at step {stopped_at} of {STEPS}, saved" in log.read_text()
    one = Path(shutil.copytree(directory, tmp_path / "one" / directory.name))
    assert Started(directory, 2, 2).codes() == [0, 0]
    assert values(directory) == values(whole)
    assert_same_bits(state(directory, STEPS), state(whole, STEPS))
    assert Started(one, 1, 1).codes() == [0]
    assert_same_to_the_last_bits(values(one), values(whole))


@pytest.mark.chaos
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_both_resume(world, runs, tmp_path, victim):
    (directory,) = world([rung(world)], tmp_path)
    started = Started(directory, 2, 2, LADDER_HEARTBEAT_SECONDS="10")
    started.wait_for_a_segment()
    started.processes[victim].kill()
    began = time.monotonic()
    assert started.codes()[1 - victim] == 75
    seconds = time.monotonic() - began
    print(f"process {victim} killed: the other ended with 75 after {seconds:.1f} s")
    assert seconds < 20
    assert Started(directory, 2, 2).codes() == [0, 0]
    assert values(directory) == values(runs["whole"].directory)


@pytest.mark.chaos
@pytest.mark.parametrize("hanging", [0, 1])
def test_a_hang_in_one_process_ends_both_with_75_and_both_resume(world, runs, tmp_path, hanging):
    (directory,) = world([rung(world)], tmp_path)
    started = Started(directory, 2, 2, {hanging: {"LADDER_HANG_AT": "step:12"}}, LADDER_WATCHDOG_SECONDS="30")
    while "hangs, as LADDER_HANG_AT asks" not in started.logs[hanging].read_text():
        assert all(process.poll() is None for process in started.processes), started.logs[0].read_text()
        time.sleep(0.05)
    began = time.monotonic()
    assert started.codes() == [75, 75], [log.read_text() for log in started.logs]
    seconds = time.monotonic() - began
    print(f"process {hanging} hangs: both ended with 75 within {seconds:.1f} s")
    assert 29 < seconds < 30 + 10
    text = started.logs[hanging].read_text()
    assert "watchdog: nothing has happened for 30 s" in text and "in _hang\n" in text
    for log in started.logs:
        assert "most recent call first" in log.read_text()
    assert Started(directory, 2, 2).codes() == [0, 0]
    assert values(directory) == values(runs["whole"].directory)
    assert_same_bits(state(directory, STEPS), state(runs["whole"].directory, STEPS))


@pytest.mark.chaos
@pytest.mark.parametrize("process", [0, 1])
def test_ctrl_c_to_one_process_stops_both(world, runs, tmp_path, process):
    (directory,) = world([rung(world)], tmp_path)
    started = Started(directory, 2, 2)
    started.wait_for_a_segment()
    started.processes[process].send_signal(signal.SIGINT)
    assert started.codes() == [75, 75]
    assert Started(directory, 2, 2).codes() == [0, 0]
    assert values(directory) == values(runs["whole"].directory)


@pytest.mark.chaos
def test_a_lost_lease_ends_all_processes_with_75(world, runs, tmp_path):
    """Process 0 alone holds the lease; the other one is told in the next save."""
    (directory,) = world([rung(world)], tmp_path)
    started = Started(directory, 2, 2)
    started.wait_for_a_segment()
    other = {"owner": "elsewhere:1:0", "host": "elsewhere", "pid": 1, "expires": 0.0}
    assert create(directory / "leases" / "2.json", sealed(other))
    published = Checkpoints(directory / "checkpoints").steps()
    assert started.codes() == [75, 75], [log.read_text() for log in started.logs]
    assert len(Checkpoints(directory / "checkpoints").steps()) <= len(published) + 1
    for log in started.logs:
        assert "Traceback" not in log.read_text()
    assert Started(directory, 2, 2).codes() == [0, 0]
    assert values(directory) == values(runs["whole"].directory)


def test_a_signal_asks_to_stop_and_a_second_ctrl_c_stops_at_once(capsys):
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt), stop_notice() as notice:
            assert not notice.is_due(1)
            os.kill(os.getpid(), number)
            assert notice.is_due(2)
            os.kill(os.getpid(), signal.SIGINT)
    assert "Ctrl-C again stops at once" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


ENVIRONMENTS = [
    ({}, (None, None, None)),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (None, None, None)),  # many runs in one Slurm job
    ({"LADDER_COORDINATOR": "a:1", "LADDER_PROCESSES": "4", "LADDER_PROCESS": "3"}, ("a:1", 4, 3)),
    ({"LADDER_COORDINATOR": "a:1", "LADDER_PROCESSES": "4", "SLURM_PROCID": "2"}, ("a:1", 4, 2)),
    ({"LADDER_COORDINATOR": "a:1", "LADDER_PROCESSES": "4", "JOB_COMPLETION_INDEX": "0"}, ("a:1", 4, 0)),
    ({"LADDER_COORDINATOR": "auto"}, ("auto", None, None)),
]


@pytest.mark.parametrize("env, expected", ENVIRONMENTS)
def test_settings_from_the_environment_of_a_job(env, expected):
    assert settings(None, None, None, env) == expected


@given(st.integers(1, 9), st.integers(0, 9))
def test_flags_take_precedence_over_the_environment(count, index):
    env = {"LADDER_COORDINATOR": "a:1", "LADDER_PROCESSES": "99", "LADDER_PROCESS": "98"}
    if index < count:
        assert settings("b:2", count, index, env) == ("b:2", count, index)
    else:
        with pytest.raises(InputError, match=f"process {index} of {count}: must be from 0 to {count - 1}"):
            settings("b:2", count, index, env)


@pytest.mark.parametrize(
    "flags, env, message",
    [
        ((None, 2, 0), {}, "several processes need a coordinator, HOST:PORT"),
        ((None, None, None), {"LADDER_PROCESSES": "2"}, "several processes need a coordinator, HOST:PORT"),
        (("host", 2, 0), {}, "write HOST:PORT"),
        (("host:1", None, 0), {}, "needs the number of processes and the index of this one"),
        (("host:1", 2, None), {"LADDER_PROCESS": "one"}, "LADDER_PROCESS = 'one': must be a whole number"),
    ],
)
def test_contradictions_are_one_line(flags, env, message):
    with pytest.raises(InputError, match=message):
        settings(*flags, env)
