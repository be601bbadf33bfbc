"""The start-up script of a TPU VM, run by bash: what it calls is stood in for, its folders are below tmp_path."""

import dataclasses
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from launch.backends import startup
from launch.backends.archive import Code
from launch.backends.protocol import Job
from tests.launch.backends.test_tpu import ENVIRONMENT, SETTINGS

JOB = Job("l-mine-a", "a", "gs://b/runs/a", ("train", "gs://b/runs/a"), size="190M")
FIT = Job("l-mine-fit", "fit-1", "gs://b/runs/fit-1", ("conclude", "gs://b/runs/fit-1"), kind="fit")

PROGRAMS = {
    "curl": 'cat "{root}/metadata/${{@: -1:50}}" 2>/dev/null || cat {root}/metadata/$(basename "${{@: -1}}")',
    "sleep": '[ "$1" != 30 ]',  # at once; the loop that keeps the log ends
    "mountpoint": "false",
    "mount": '[ "$*" = "-o ro LABEL=ladder {root}/mnt/ladder-data" ] && test -e {root}/mnt/ladder-data/0123abcd',
    "apt-get": 'echo "apt-get $*" >>{root}/buckets/calls; touch {root}/pip',
    "python3": """if [ "$*" = "-m pip --version" ]; then exec test -e {root}/pip; fi
case "$*" in
  "-m pip download "*) mkdir -p {root}/opt/ladder/wheel && cp {root}/uv-1.whl {root}/opt/ladder/wheel/ ;;
  *) exec /usr/bin/env -u PYTHONPATH {python} "$@" ;;
esac""",
}
UV = """#!/bin/bash
echo "uv $*" >>{root}/buckets/calls
case "$*" in
  "python install"*) cat {root}/uv-says 2>/dev/null && exit 1; exit 0 ;;
  "venv"*) mkdir -p .venv/bin && cp {root}/ladder .venv/bin/ladder ;;
esac
"""
LADDER = """#!/bin/bash
[ "$1" = data ] && exit 0
echo "$HF_TOKEN|$NOTE|$*" >>{root}/ran
n=$(grep -c hf_secret {root}/ran)
if [ -e {root}/saves ]; then
  mkdir -p {root}/buckets/b/runs/a/checkpoints/$n && echo manifest >{root}/buckets/b/runs/a/checkpoints/$n/MANIFEST.json
fi
echo 'error: a.json:3: ["\\no"]'
set -- $(cat {root}/ends)
exit "${{!n:-${{@: -1}}}}"
"""


class Machine:
    """boot(): runs the script once. `ends` says with which exit codes `ladder` ends, the last of them for ever."""

    def __init__(self, root: Path, monkeypatch):
        self.root, self.run, self.buckets = root, root / "buckets/b/runs/a", root / "buckets"
        for folder in (root / "bin", root / "metadata", root / "var/log", self.run, self.buckets / "b/code"):
            folder.mkdir(parents=True)
        (root / "pip").touch()
        gcloud = Path(__file__).with_name("gcloud.sh").read_text().replace("@BUCKETS@", str(self.buckets))
        python = subprocess.run(["sh", "-c", "command -v python3"], capture_output=True, text=True, check=True)
        names = {"root": root, "python": python.stdout.strip()}
        programs = {name: "#!/bin/bash\n" + body.format(**names) for name, body in PROGRAMS.items()}
        for path, text in {f"bin/{name}": body for name, body in (programs | {"gcloud": gcloud}).items()}.items():
            self._program(path, text)
        self._program("ladder", LADDER.format(**names))
        with zipfile.ZipFile(root / "uv-1.whl", "w") as wheel:
            wheel.writestr("uv-1.data/scripts/uv", UV.format(**names))
        subprocess.run(["tar", "-czf", self.buckets / "b/code/abc.tar.gz", "-C", root, "metadata"], check=True)
        monkeypatch.setattr(startup, "UV_SHA256", _sha256(root / "uv-1.whl"))
        self.code = Code("gs://b/code/abc.tar.gz", "abc", _sha256(self.buckets / "b/code/abc.tar.gz"))

    def _program(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def boot(self, ends="0", number=0, slice_=None, settings=SETTINGS) -> "Machine":
        (self.root / "ends").write_text(ends)
        (self.root / "metadata/agent-worker-number").write_text(str(number))
        lines = ["ACCELERATOR_TYPE: 'v5litepod-16'", f"MEGASCALE_SLICE_ID: '{slice_}'"][: 1 if slice_ is None else 2]
        (self.root / "metadata/tpu-env").write_text("\n".join([*lines, ""]))
        text = startup.script(JOB, settings, ENVIRONMENT, self.code)
        for folder in ("/opt/ladder", "/var/log", "/mnt/ladder-data"):
            text = text.replace(folder, f"{self.root}{folder}")
        (self.root / "script").write_text(text)
        (self.root / "opt").mkdir(exist_ok=True)
        path = f"{self.root}/bin:/usr/bin:/bin"
        subprocess.run(["bash", "script"], env={"PATH": path}, timeout=60, cwd=self.root, stdin=subprocess.DEVNULL)
        return self

    @property
    def tries(self) -> int:
        return (self.root / "ran").read_text().count("hf_secret") if (self.root / "ran").exists() else 0

    @property
    def reason(self) -> str:
        path = self.run / "STOPPED.json"
        return json.loads(path.read_text())["reason"] if path.exists() else ""

    @property
    def is_deleted(self) -> bool:
        return (self.buckets / "deleted-l-mine-a").exists()

    def called(self, start: str) -> int:
        return sum(line.startswith(start) for line in (self.buckets / "calls").read_text().splitlines())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


ENDS = {
    "done": ("0", 1, ""),
    "diverged": ("78", 1, ""),  # the training loop writes STOPPED.json
    "bad input": ("2", 1, "exit code 2: error: a.json:3: [no]"),
    "nothing left to try": ("75", 3, "3 tries on one machine without a new checkpoint; exit code 75"),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_run_ends_and_that_it_costs_nothing_then(machine, case):
    ends, tries, reason = ENDS[case]
    machine.boot(ends)
    log = (machine.root / "var/log/ladder.log").read_text()
    assert (machine.tries, machine.reason, machine.is_deleted) == (tries, reason, True), log
    assert "hf_secret|two\nlines; $(touch x) 'q'|train gs://b/runs/a" in (machine.root / "ran").read_text()
    assert not (machine.root / "x").exists()
    assert (machine.run / "log-0.txt").read_text() in log  # the last lines are of the deletion
    assert "hf_secret" not in log + (machine.root / "script").read_text()


def test_a_try_counts_again_only_without_a_new_checkpoint(machine):
    (machine.root / "saves").touch()
    assert machine.boot("75 75 75 75 75 0").tries == 6
    assert machine.reason == ""


def test_tries_are_counted_over_reboots_and_nothing_is_installed_twice(machine):
    for tries in (1, 2, 3):
        assert machine.boot("75").tries == 3  # all in the first boot
        assert (machine.called("uv venv"), machine.called("gcloud compute")) == (1, tries)
    (machine.run / "STOPPED.json").unlink()
    assert machine.boot("0").tries == 3  # a machine that reboots for ever does not cost for ever
    assert machine.reason == "3 tries on one machine without a new checkpoint"


NOT_STARTED = {
    "wrong hash of the code": ("b/code/abc.tar.gz", "wrong hash of the code archive"),
    "wrong hash of uv": ("../uv-1.whl", f"wrong hash of uv {startup.UV}"),
    "wrong hash of Python": ("../uv-says", f"wrong hash of the download of Python {SETTINGS.python}"),
}


@pytest.mark.parametrize("case", NOT_STARTED)
def test_a_wrong_hash_ends_the_run_at_once(machine, case):
    name, reason = NOT_STARTED[case]
    with (machine.buckets / name).open("ab") as file:
        file.write(b"error: Hash mismatch for `python.tar.gz`\n")
    machine.boot()
    assert (machine.tries, machine.reason, machine.is_deleted) == (0, reason, True)
    assert "failed; again" not in (machine.root / "var/log/ladder.log").read_text()


def test_a_lost_network_is_waited_for(machine):
    (machine.buckets / "refused").write_text("secrets*\n" * 5 + "*abc.tar.gz*\n" * 5)
    machine.boot()
    assert (machine.tries, machine.reason) == (1, "")
    assert (machine.root / "var/log/ladder.log").read_text().count("failed; again in 160 seconds") == 2


def test_an_image_without_pip_gets_it(machine):
    (machine.root / "pip").unlink()
    assert machine.boot().tries == 1
    assert machine.called("apt-get -o DPkg::Lock::Timeout=300 -qqy install --no-install-recommends python3-pip") == 1


@pytest.mark.parametrize(("number", "slice_", "worker"), [(3, None, 3), (1, 2, 9), (0, 1, 4)])
def test_each_machine_has_a_log_and_only_the_first_deletes_all(machine, number, slice_, worker):
    machine.boot(number=number, slice_=slice_, settings=dataclasses.replace(SETTINGS, slices=3))
    assert [path.name for path in machine.run.glob("log-*")] == [f"log-{worker}.txt"]
    assert machine.is_deleted == (worker == 0)


def test_the_first_machine_ends_the_run_that_another_gave_up(machine):
    (machine.buckets / "b/code/abc.tar.gz").write_bytes(b"")
    assert not machine.boot(number=2).is_deleted
    assert machine.boot(number=0).is_deleted
    assert machine.called("uv") == machine.tries == 0
    assert machine.reason == "wrong hash of the code archive"


def test_a_deletion_that_is_refused_is_tried_again(machine):
    (machine.buckets / "refused").write_text("compute*\n" * 3)
    assert machine.boot().is_deleted
    assert (machine.run / "log-0.txt").read_text().count("this machine still costs money") == 3


def test_the_log_of_a_preempted_machine_is_kept(machine):
    (machine.run / "log-0.txt").write_text("before\n")
    machine.boot()
    assert (machine.run / "log-0.txt").read_text().startswith("before\nmachine 0 starts")


def test_what_is_on_the_data_disk_is_not_copied(machine):
    settings = dataclasses.replace(SETTINGS, data_disk="projects/p/zones/z/disks/corpora")
    assert machine.boot(settings=settings).reason == f"cannot mount the data disk {settings.data_disk}"
    (machine.run / "STOPPED.json").unlink()
    (machine.root / "mnt/ladder-data/0123abcd").mkdir()
    assert machine.boot(settings=settings).tries == 1
    assert (machine.root / "opt/ladder/stage/0123abcd").resolve() == machine.root / "mnt/ladder-data/0123abcd"


def test_several_machines_are_joined_and_a_fit_needs_no_tpu():
    code = Code("gs://b/code/abc.tar.gz", "abc", "0" * 64)
    run, fit = (startup.script(job, SETTINGS, ENVIRONMENT, code) for job in (JOB, FIT))
    assert "LADDER_COORDINATOR=auto" in run and "JAX_PLATFORMS" not in run  # 16 chips are four machines
    assert "LADDER_COORDINATOR" not in fit and "JAX_PLATFORMS=cpu" in fit
