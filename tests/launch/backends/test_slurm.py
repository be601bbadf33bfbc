"""The Slurm backend: its scripts, and a whole ladder on a real Slurm where one is up (make slurm)."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ladder.errors import InputError
from ladder.parallel import processes
from ladder.rundir.record import Record
from launch import prepare
from launch.backends import slurm
from launch.backends.protocol import Busy, Job, Seen
from launch.backends.slurm import Cluster
from launch.scheduler import jobs, loop, status, submission
from launch.settings import Environment, Slurm
from tests.launch import stand_ins

CONF = Path(__file__).parents[3] / ".cache" / "slurm" / "slurm.conf"


def is_up():
    if not CONF.exists():
        return False
    try:
        command, env = ["sinfo", "--noheader", "--format=%T"], os.environ | {"SLURM_CONF": str(CONF)}
        states = subprocess.run(command, env=env, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return CONF.exists() and "idle" in states


needs_slurm = pytest.mark.skipif(not is_up(), reason="no Slurm is up here; `make slurm` installs and starts one")


@pytest.fixture
def pair(tmp_path):
    return jobs.read([stand_ins.run(tmp_path / "mine", "a"), stand_ins.run(tmp_path / "mine", "b", "a")])


def test_a_script_holds_the_command_and_nothing_of_the_environment(pair, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    text = Cluster(Slurm(partition="spot", time="1:00:00", options=("--gres=gpu:8",)), Environment()).render(pair[0])
    command, shebang, line = text.splitlines()
    words = shlex.split(command.removeprefix("# "))
    assert words[0] == "sbatch"
    assert {"--partition=spot", "--time=1:00:00", "--gres=gpu:8", "--requeue", "--signal=B:TERM@60"} < {*words}
    assert (shebang, shlex.split(line)) == ("#!/bin/bash", ["exec", *slurm.PROGRAM, "train", pair[0].directory])
    assert "hf_very" not in text


def test_several_tasks_know_each_other(pair):
    script = Cluster(Slurm(nodes=2, tasks_per_node=4), Environment()).render(pair[0])
    assert "exec srun --kill-on-bad-exit=1 bash -c" in script
    task = shlex.split(script.splitlines()[-1])[5]
    env = {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "3"}
    env["PATH"] = os.environ["PATH"]
    process = subprocess.run(["bash", "-c", task, "task", "env"], env=env, text=True, capture_output=True)
    assert {"LADDER_COORDINATOR=10.0.0.7:20007", "LADDER_PROCESSES=8", "LADDER_PROCESS=3"} < {*process.stdout.split()}


def test_each_of_eight_tasks_has_an_index_of_its_own_and_all_have_one_coordinator(pair):
    script = Cluster(Slurm(nodes=2, tasks_per_node=4), Environment()).render(pair[0])
    srun = shlex.split(script.splitlines()[-1])
    seen = []
    for index in range(8):  # as srun sets them
        env = {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7", "SLURM_JOB_ID": "123456", "SLURM_NTASKS": "8"}
        env |= {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index % 4), "PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", srun[5], "task", "env"], env=env, text=True, capture_output=True)
        joined = dict(line.split("=", 1) for line in done.stdout.splitlines())
        seen.append(processes.settings(None, None, None, joined))
    assert [index for _, _, index in seen] == list(range(8))
    assert {(coordinator, count) for coordinator, count, _ in seen} == {("10.0.0.7:23456", 8)}


def test_the_fit_asks_for_no_gpu(pair):
    fit = Job("l-mine-fit", "fit", str(Path(pair[0].directory).parent / "fit" / "f"), ("conclude", "f"), kind="fit")
    settings = {"partition": "gpu", "account": "us", "qos": "gpu", "time": "1:00:00", "options": ("--gres=gpu:8",)}
    for more, says in (({}, set()), ({"fit_partition": "cpu"}, {"--partition=cpu"})):
        sbatch = Cluster(Slurm(**settings, nodes=2, **more), Environment()).render(fit).splitlines()[0]
        words = {*shlex.split(sbatch.removeprefix("# "))}
        assert {word for word in words if re.match("--(partition|qos|gres)", word)} == says
        assert {"--account=us", "--nodes=1", "--signal=B:TERM@60"} < words


def test_secrets_are_passed_by_name_and_only_to_sbatch(pair, monkeypatch, tmp_path):
    for name in ("sbatch", "squeue"):
        (tmp_path / name).write_text(f"#!/bin/sh\nenv >{tmp_path}/{name}.env\necho 7\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OTHER_TOKEN"):
        monkeypatch.setenv(name, f"very secret {name}")
    cluster = Cluster(Slurm(), Environment({}, {"HF_TOKEN": "hf/token", "NOT_SET": "a/b"}))
    assert "# passed by name, from the environment of sbatch: HF_TOKEN, NOT_SET (not set here)" in cluster.render(
        pair[0]
    )
    assert "very secret" not in cluster.render(pair[0])
    cluster.submit(pair[0])
    cluster._run(["squeue"])
    lines = {name: (tmp_path / f"{name}.env").read_text() for name in ("sbatch", "squeue")}
    assert re.findall("very secret .*", lines["sbatch"]) == ["very secret HF_TOKEN"]
    assert "very secret" not in lines["squeue"]


def test_hostile_paths_are_quoted(tmp_path):
    root = tmp_path / "$(touch x); `touch y` 'q' \"d\" %j & | * ~"
    [job] = jobs.read([stand_ins.run(root, "a")])
    script = Cluster(Slurm(), Environment()).render(job)
    command, _, line = script.splitlines()
    assert shlex.split(line)[-1] == job.directory
    assert f"--output={root.resolve()}/a/log.txt".replace("%", "%%") in shlex.split(command[2:])
    subprocess.run(["bash", "-n", "-c", line], check=True)


@pytest.mark.parametrize(
    ("state", "raw", "phase", "code"),
    [
        ("PENDING", 0, "queued", None),
        ("RUNNING", 0, "running", None),
        ("COMPLETING", 0, "running", None),
        ("COMPLETED", 0, "ended", 0),
        ("FAILED", 75 << 8, "ended", 75),
        ("FAILED", 2 << 8, "ended", 2),
        ("FAILED", 9, "ended", -9),
        ("OUT_OF_MEMORY", 0, "ended", 1),
        ("TIMEOUT", 0, "ended", None),
        ("NODE_FAIL", 0, "ended", None),
        ("PREEMPTED", 0, "ended", None),
        ("CANCELLED", 0, "ended", None),
    ],
)
def test_what_the_states_mean(state, raw, phase, code):
    seen = slurm._seen("1", state, raw, "")
    assert (seen.phase, seen.code) == (phase, code)


def test_no_slurm_is_said(pair, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="squeue: not found"):
        Cluster(Slurm(), Environment()).poll(pair)


@pytest.fixture
def conf(monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(CONF))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


@needs_slurm
def test_polls_ends_once_and_cancels(conf, pair):
    cluster = Cluster(Slurm(), Environment({"JAX_NOTE": "two\nlines; $(false)"}), ("bash", "-c", 'exit "${#JAX_NOTE}"'))
    cluster.submit(pair[0])

    def ended():
        seen = cluster.poll(pair).get(pair[0].name, ())
        return seen if seen and seen[0].phase == "ended" else None

    [seen] = wait_for(ended)
    assert (seen.phase, seen.code) == ("ended", len("two\nlines; $(false)"))
    cluster.delete(pair[0], seen)
    assert cluster.poll(pair) == {}
    sleeper = Cluster(Slurm(), Environment(), ("sleep", "60"))
    sleeper.submit(pair[0])
    [seen] = wait_for(lambda: sleeper.poll(pair).get(pair[0].name))
    sleeper.delete(pair[0], seen)
    sleeper.delete(pair[0], Seen("99999999", "running"))  # no error: it has ended already
    wait_for(ended)
    with pytest.raises(InputError, match=r"see \[slurm\]"):
        Cluster(Slurm(partition="nowhere"), Environment()).submit(pair[0])


def test_an_answer_that_does_not_come_is_busy(pair, monkeypatch, tmp_path):
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(Busy, match="Unable to contact"):
        Cluster(Slurm(), Environment()).poll(pair)


@pytest.mark.slow
@needs_slurm
def test_a_preempted_ladder_ends_as_an_undisturbed_one(conf, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles in a third of the time
    built = stand_ins.small_ladder(tmp_path)
    submitted = submission.write(built, False, tmp_path / "runs", submission.BackendConfig("slurm"))
    cluster, trunk = submitted.config.open(), submitted.jobs[0]
    with loop.submit_lease(tmp_path / "runs" / "small"):
        first = loop.once(submitted.jobs, cluster)
    assert len(first.log) == 7  # all at once: Slurm orders them by their dependencies
    saved = Path(trunk.directory) / "checkpoints" / "20" / "MANIFEST.json"
    wait_for(lambda: saved.exists() or Record(trunk.directory).state().name == "failed")
    assert saved.exists(), Record(trunk.directory).state()
    urgent = ["sbatch", "--parsable", "-p", "prod", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"]
    subprocess.run(urgent, check=True, capture_output=True)
    wait_for(lambda: [s for s in cluster.poll([trunk]).get(trunk.name, ()) if s.phase == "queued"])
    assert not Record(trunk.directory).is_done()

    [alone] = prepare.write(built, built.ladder.rungs[:1], tmp_path / "undisturbed")
    subprocess.run([sys.executable, "-m", "launch.cli", "train", str(alone)], check=True, capture_output=True)

    def settled():
        for [seen, *_] in cluster.poll(submitted.jobs).values():
            if seen.reason == "BeginTime":  # Slurm holds a requeued job for two minutes
                subprocess.run(["scontrol", "update", f"JobId={seen.id}", "StartTime=now"], capture_output=True)
        with loop.submit_lease(tmp_path / "runs" / "small"):
            return loop.once(submitted.jobs, cluster).settled

    wait_for(settled, 300)
    runs = loop.observe(submitted.jobs)
    assert {run.state for run in runs.values()} == {"done"}
    assert runs[trunk.run_id].restarts == 1
    assert [row["by"] for row in Record(trunk.directory).attempts()] == ["submit", "train", "train"]
    assert list(Record(trunk.directory).rows()) == list(Record(alone).rows())
    fit = next(job for job in submitted.jobs if job.is_fit)
    assert [row["by"] for row in Record(fit.directory).attempts()] == ["submit", "train"]
    assert (Path(fit.directory) / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("DONE.json")}
    assert loop.once(submitted.jobs, cluster).log == ()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("DONE.json")} == before
    assert status.read_run(trunk.directory).share == 1.0
