"""Mounting buckets: the lines of a TPU VM's start-up script, run in bash with stand-ins for what they call."""

import subprocess

import pytest

from launch.backends import bucket_mount, startup, tpu
from launch.backends.bucket_mount import Placement
from tests.launch.backends.test_tpu import CODE, ENVIRONMENT, FIT, JOB, SETTINGS

TWO = Placement(mounted=("data-1", "data.2"))
FLAGS = "-o ro --implicit-dirs --metadata-cache-ttl-secs=-1 --stat-cache-max-size-mb=256"


@pytest.fixture
def shell(tmp_path):
    """run(lines, **exit codes of programs) -> (the programs called, what was printed). Folders are below tmp_path."""
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for folder in ("usr/share/keyrings", "etc/apt/sources.list.d"):
        (tmp_path / folder).mkdir(parents=True)

    def run(lines, **codes):
        calls.write_text("")
        for path in programs.iterdir():
            path.unlink()
        for name, code in ({"mountpoint": 1, "lsb_release": 0, "curl": 0, "apt-get": 0} | codes).items():
            answer = "echo jammy" if name == "lsb_release" else f'echo "{name} $*" >>{calls}; exit {code}'
            (programs / name).write_text(f"#!/bin/sh\n{answer}\n")
            (programs / name).chmod(0o755)
        text = 'set -uo pipefail\ngive_up() { echo "gave up: $1"; exit 1; }\n' + "\n".join(lines)
        for folder in ("/usr/share/keyrings", "/etc/apt", "/var/cache", "/gcs"):
            text = text.replace(f" {folder}", f" {tmp_path}{folder}").replace(f"={folder}", f"={tmp_path}{folder}")
            text = text.replace(f">{folder}", f">{tmp_path}{folder}")
        path = f"{programs}:/usr/bin:/bin"
        done = subprocess.run(["bash", "-c", text + '\necho "$LADDER_MOUNT"'], env={"PATH": path}, capture_output=True)
        called = calls.read_text().replace(str(tmp_path), "").splitlines()
        return called, done.stdout.decode().replace(str(tmp_path), "") + done.stderr.decode()

    return run


def mount(bucket: str, mib: int = 10240) -> str:
    cache = f"--file-cache-max-size-mb={mib} --cache-dir=/var/cache/gcsfuse/{bucket}"
    return f"gcsfuse {FLAGS} {cache} {bucket} /gcs/{bucket}"


def test_each_bucket_is_mounted_read_only_with_a_bounded_cache(shell):
    called, printed = shell(bucket_mount.commands(TWO, 10), gcsfuse=0)
    expected = [line for b in TWO.mounted for line in (f"mountpoint -q /gcs/{b}", mount(b))]
    assert (called, printed) == (expected, "/gcs\n")
    called, _ = shell(bucket_mount.commands(TWO, 10), gcsfuse=0, mountpoint=0)  # the script runs again
    assert called == [line for line in expected if line.startswith("mountpoint")]
    assert mount("data-1", 0) in shell(bucket_mount.commands(TWO, 0), gcsfuse=0)[0]


def test_gcsfuse_is_installed_where_it_is_absent(shell, tmp_path):
    called, _ = shell(bucket_mount.commands(TWO, 10))
    key = "/usr/share/keyrings/cloud.google.asc"
    assert called[:3] == [
        f"curl -sf https://packages.cloud.google.com/apt/doc/apt-key.gpg -o {key}",
        "apt-get -o DPkg::Lock::Timeout=300 -q update",
        "apt-get -o DPkg::Lock::Timeout=300 -qy install gcsfuse",
    ]
    source = (tmp_path / "etc/apt/sources.list.d/gcsfuse.list").read_text().replace(str(tmp_path), "")
    assert source == f"deb [signed-by={key}] https://packages.cloud.google.com/apt gcsfuse-jammy main\n"


@pytest.mark.parametrize(
    "codes, says", [({"gcsfuse": 1}, "cannot mount data-1"), ({"apt-get": 100}, "gcsfuse could not be installed")]
)
def test_a_run_without_its_data_does_not_start(shell, codes, says):
    _, printed = shell(bucket_mount.commands(TWO, 10), **codes)
    assert printed == f"gave up: {says}\n"


def test_only_runs_mount_and_only_where_it_was_asked_for():
    def script(job, placement):
        text = startup.script(job, SETTINGS, ENVIRONMENT, CODE, placement)
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        return text

    assert "gcsfuse" not in script(JOB, Placement(copied_gib=3)) + script(FIT, TWO)
    mounted = script(JOB, TWO)
    assert mounted.index(mount("data-1")) < mounted.index(mount("data.2"))
    assert mounted.index("give_up()") < mounted.index("\nmount_buckets\n") < mounted.index("\n  train\n")
    request = tpu.Cluster(SETTINGS, ENVIRONMENT, CODE, placement=TWO).request(JOB)
    assert request.tpu.node_spec[0].node.metadata["startup-script"] == mounted
