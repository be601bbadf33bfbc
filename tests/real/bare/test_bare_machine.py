"""The start-up script of a TPU VM on a machine that has nothing: Debian 11, Python 3.9, no pip.

Real are the system (made by debootstrap), bash, apt, pip, uv, the package registries, the packages at their pinned
versions, and the run. Stood in for are gcloud and its buckets (a folder), the metadata server, and the download of
Python, which uv makes from here. Needs root: `make proof-bare-machine`.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ladder.rundir.record import Record
from launch.backends import archive, startup
from launch.backends.protocol import PROGRAM, Job
from launch.settings import Environment, Tpu
from tests.launch import stand_ins
from tests.real.bare import network, root
from tests.real.bare.machine import Machine, times

CACHE = Path(__file__).parents[3] / ".cache/bare-machine"
SETTINGS = Tpu(project="p", zone="z", archive="gs://b/code", python=root.PYTHON, topology={"default": "v5e:1x1"})
PROXY = f"http://{network.HOST}:{network.PROXY_PORT}"
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # libtpu is installed, but there is no TPU
    "HTTPS_PROXY": PROXY,
    "SSL_CERT_FILE": str(root.CERTIFICATES),
    "PIP_CERT": str(root.CERTIFICATES),
    "UV_PYTHON_DOWNLOADS_JSON_URL": "/opt/downloads.json",
    **{name: os.environ[name] for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX") if name in os.environ},
}
METADATA = {"agent-worker-number": "0", "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-1'\nWORKER_ID: '0'\n"}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """What uv may download; served while the module runs, with the cable and everything behind it."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare"))):
        pytest.skip("a bare machine needs root, ip and unshare (Debian: iproute2, util-linux)")
    if subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("a bare machine needs namespaces, which this machine does not allow")
    files = tmp_path_factory.mktemp("files")
    with network.cable(), network.services(files, METADATA):
        yield root.python_download(files)


@pytest.fixture
def make(tmp_path, downloads):
    """make(image, downloads) -> a Machine."""
    if not shutil.which("debootstrap"):
        pytest.skip("Debian's smallest system comes from debootstrap; install it: apt-get install debootstrap")
    CACHE.mkdir(parents=True, exist_ok=True)
    machines = []

    def make_(image, downloads_=downloads):
        machines.append(Machine(image, tmp_path / f"machine-{len(machines)}", downloads_))
        return machines[-1]

    yield make_
    for machine in machines:
        machine.remove()


def script(machine: Machine, run: Path) -> str:
    code = archive.publish(str(machine.buckets / "b/code"))
    code = dataclasses.replace(code, path=f"gs://b/code/{code.commit}.tar.gz")
    job = Job("l-bare", run.name, str(run), ("train", str(run)), size="d8")
    return startup.script(job, SETTINGS, Environment(ENVIRONMENT), code)


def ends_on_a_wrong_hash(machine: Machine) -> None:
    run = machine.buckets / "b/runs/a"
    run.mkdir(parents=True)
    with machine.booted(script(machine, run)):
        machine.wait(seconds=300)
    reason = f"wrong hash of the download of Python {root.PYTHON}"
    assert machine.stopped(run) == reason, machine.log
    assert machine.log.splitlines().count(reason) == 1
    assert (machine.buckets / "deleted-l-bare").exists()
    print(f"\nwrong hash: STOPPED.json says: {reason}; the queued resource was deleted")


def wrong(downloads: dict) -> dict:
    return {name: about | {"sha256": "0" * 64} for name, about in downloads.items()}


@pytest.mark.slow
def test_a_wrong_hash_on_this_machines_own_system(tmp_path, downloads):
    """The short form: the root file system is this machine's, so that debootstrap is not needed."""
    get_uv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), f"uv=={startup.UV}"]
    if subprocess.run(get_uv).returncode:
        pytest.skip("no package registry")
    # An overlay's upper layer must not lie below its lower one.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        ends_on_a_wrong_hash(Machine(Path("/"), Path(folder), wrong(downloads)))


@pytest.mark.proof
def test_a_bare_machine_ends_on_a_wrong_hash(make, downloads):
    ends_on_a_wrong_hash(make(root.debian(CACHE), wrong(downloads)))


@pytest.mark.proof
def test_a_bare_machine_trains_to_the_end(make):
    """Killed while it installs, without a network for 60 s, and killed while it trains."""
    machine = make(root.debian(CACHE))
    run, undisturbed = two_runs(machine)
    record, text, began = Record(run), script(machine, run), time.monotonic()

    def note(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}")

    packages = machine.on_disk("/opt/ladder/code/.venv/bin/python")
    print()
    with machine.booted(text):
        machine.wait(packages.is_symlink)
        note(f"first boot: {python_of(machine)}; uv brought Python {root.PYTHON}; it installs packages")
        time.sleep(3)
    note("killed while it installs packages")
    with machine.booted(text):
        machine.wait(lambda: machine.log.count("machine 0 starts") == 2 and not packages.is_symlink())
        machine.wait(packages.is_symlink)
        network.cut(True)
        note("second boot: the network is lost while it installs packages")
        time.sleep(60)
        network.cut(False)
        note("the network is back")
        machine.wait(lambda: (record.beat() or {}).get("step"))
        note(f"first training step; 'failed; again' {times('failed; again', machine.log)} times")
        machine.wait(record.saved_steps)
        saved = record.saved_steps()
    note(f"killed while it trains, with checkpoints of steps {saved}")
    with machine.booted(text):
        machine.wait(record.is_done)
        note(f"third boot: DONE after step {record.done()['step']}")
        machine.wait()
    note("the queued resource was deleted, and the script ended")
    assert (machine.buckets / "deleted-l-bare").exists()
    assert machine.stopped(run) == ""
    assert times("machine 0 starts", (run / "log-0.txt").read_text()) == 3
    subprocess.run([*PROGRAM, "train", str(undisturbed)], check=True, stdout=subprocess.DEVNULL)
    rows = list(record.rows())
    assert rows == list(Record(undisturbed).rows())
    note(f"its {len(rows)} rows of metrics equal those of the same run on this machine, undisturbed")
    assert [row["by"] for row in record.attempts()] == ["train", "train"]
    assert [row["durable"] for row in record.attempts()][1] >= saved[-1]


def two_runs(machine: Machine) -> list[Path]:
    """The first rung of a small ladder, in a bucket with its corpus, and once more."""
    from launch.scheduler import submission

    folder, config = machine.buckets / "b", submission.BackendConfig()
    folder.mkdir(parents=True)
    built = stand_ins.small_ladder(folder)
    roots = (folder / "runs", folder / "undisturbed")
    return [Path(submission.write(built, False, where, config).jobs[0].directory) for where in roots]


def python_of(machine: Machine) -> str:
    """Of the image."""
    printed = subprocess.run(["chroot", machine.lower, "python3", "--version"], capture_output=True, text=True)
    return f"{root.SUITE} with {printed.stdout.strip()}"
