"""`ladder submit --dry-run` changes nothing and needs nothing: no text, no corpus, no further package, no network."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs import loader
from ladder.rundir import files
from ladder.topologies import parse
from launch import cli, prepare
from launch.backends.archive import Code
from launch.backends.bucket_mount import Placement
from launch.scheduler import status
from launch.scheduler.dry_run import DryRun

BACKENDS = ("local", "slurm", "gke", "tpu")
SETTINGS = """
[gke]
image = "img:1"
topology = { default = "v5e:2x2" }
[tpu]
project = "p"
zone = "z"
archive = "gs://b/code"
topology = { default = "v5e:2x2" }
"""
# Like a machine with the base package only: the packages of the extras cannot be found, and no socket connects.
BARE = """
import contextlib, importlib.machinery, io, json, socket, sys
absent = ("kubernetes", "gcsfs", "google.cloud", "google.api_core", "google.auth")
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.startswith(absent) else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
def refused(*_, **__):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
from launch import cli
results = {}
for backend in %r:
    printed, where = io.StringIO(), []
    if backend in ("gke", "tpu"):
        where = ["--root", "gs://b/runs", "--corpora", "gs://b/corpora"]
    with contextlib.redirect_stdout(printed):
        code = cli.main(["submit", "olmo2", "--backend", backend, "--dry-run", *where])
    results[backend] = code, printed.getvalue()
assert not {"kubernetes", "gcsfs", "google.cloud"} & sys.modules.keys()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """{backend: (exit code, what was printed)} of dry runs in an empty folder, and the folder's files after them."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "ladder.toml").write_text(SETTINGS)
    path = str(Path(__file__).parents[3])
    env = os.environ | {"PYTHONPATH": path, "LADDER_OLMES": str(folder / "olmes"), "COLUMNS": "1000"}
    done = subprocess.run(
        [sys.executable, "-c", BARE % (BACKENDS,)], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), list(folder.rglob("*"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_machine_with_the_base_package_only(bare, backend):
    results, files = bare
    code, out = results[backend]
    assert (code, [path.name for path in files]) == (0, ["ladder.toml"])
    ladder, missing = loader.load("olmo2"), [line for line in out.splitlines() if line.startswith("not checked: ")]
    says = ["the questions of tasks (request data not found", "its corpus in "]
    if backend in ("gke", "tpu"):
        says += ["the sizes of the corpora", "which runs are done in gs://b/runs"]
    assert all(any(text in line for line in missing) for text in says)
    assert f"{len(ladder.rungs) + 1} runs to go, " in out and ("chip-hours, $" in out) == (backend in ("gke", "tpu"))
    for rung in ladder.rungs:  # the corpus is not known: neither is the run_id
        front, identity = rung.run_id.rsplit("-", 1)
        assert f"{front}-x{identity[1:]}" in out and rung.run_id not in out


def test_what_would_be_asked_for(bare):
    results, _ = bare
    *runs, fit = yaml.safe_load_all(results["gke"][1].partition("---\n")[2])
    assert len(runs) == len(loader.load("olmo2").rungs) and re.search(r"-fit-x[0-9a-f]{7}$", fit["metadata"]["name"])
    requests = re.findall(r"^\{$.*?^\}$", results["tpu"][1], re.MULTILINE | re.DOTALL)
    nodes = [json.loads(text)["tpu"]["nodeSpec"][0]["node"] for text in requests]
    assert len(nodes) == len(runs) + 1 and {n["acceleratorType"] for n in nodes} == {parse("v5e:2x2").accelerator_type}
    assert results["slurm"][1].count("# sbatch --parsable") == results["local"][1].count("launch.cli ") == len(nodes)


@pytest.fixture
def submit(tmp_path, monkeypatch, capsys):
    """submit(*flags) -> (exit code, what was printed): `ladder submit demo` on a small text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(prepare, "check_task", lambda name: None)
    monkeypatch.setattr(files, "find_spec", lambda name: None)  # no gcsfs: buckets cannot be read
    monkeypatch.setattr(DryRun, "_code", lambda self, archive: Code("gs://b/c.tar.gz", "c", "0" * 64))
    (tmp_path / "ladder.toml").write_text(SETTINGS)
    (tmp_path / "text").mkdir()
    for i in range(40):
        (tmp_path / "text" / f"{i}.txt").write_text(" ".join(f"{i}-{j}" for j in range(4000 if i > 4 else 40)))

    def run(*flags):
        overrides = [flag for flag in flags if "=" in flag]
        flags = [flag for flag in flags if "=" not in flag]
        code = cli.main(["submit", "demo", "data.text=text", "data.tokenizer=bytes", *overrides, *flags])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def tree(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_run_ids_are_final_once_the_corpus_is_built(submit, tmp_path):
    ladder = loader.overridden(loader.load("demo"), ("data.text=text", "data.tokenizer=bytes"))
    built = prepare.build(ladder, tmp_path / "corpora")
    prepare.write(built, built.ladder.rungs[:1], tmp_path / "runs")
    before = tree(tmp_path)
    for backend in ("local", "slurm"):
        code, out = submit("--backend", backend, "--dry-run")
        assert code == 0 and "not checked" not in out
        assert all(rung.run_id in out for rung in built.ladder.rungs)
        assert prepare.fit_id(built.ladder, built.ladder.rungs) in out
    assert tree(tmp_path) == before


@pytest.mark.parametrize("backend", ["gke", "tpu"])
def test_what_the_config_itself_says_is_wrong(submit, tmp_path, backend):
    assert submit("--backend", backend, "--dry-run") == (
        2,
        f"error: --root runs: not visible to {'the pods of GKE' if backend == 'gke' else 'TPU machines'}; "
        "set --root to gs://...\n",
    )
    root = ("--backend", backend, "--dry-run", "--root", "gs://b/runs")
    code, out = submit(*root)
    assert code == 0 and "corpora: not visible to" in out and "set --corpora to gs://..." in out
    code, out = submit(*root, "mesh.tensor=3")
    assert code == 2 and "takes 3 devices, there are 4" in out and "on 1 x v5e:2x2" in out
    text = SETTINGS.replace(f"[{backend}]", f"[{backend}]\nslices = 2")
    (tmp_path / "ladder.toml").write_text(text)
    code, out = submit(*root)
    assert code == 2 and out.endswith("mesh.replica = 1 does not divide over 2 slices: set it to 2\n")
    assert submit("eval.tasks=hellaswog_val", *root, "mesh.replica=2")[1].startswith("error: unknown task 'hellaswog")


def test_stage_never_shows_the_mount_of_a_bucket_that_cannot_be_read(submit):
    code, out = submit(
        "--backend", "tpu", "--dry-run", "--root", "gs://b/r", "--corpora", "gs://c/x", "--stage", "never"
    )
    assert code == 0 and " c /gcs/c || give_up" in out


def test_a_batch_larger_than_the_corpus_is_found(submit, tmp_path):
    for i in range(5, 40):
        (tmp_path / "text" / f"{i}.txt").unlink()
    overrides = ("data.text=text", "data.tokenizer=bytes")
    prepare.build(loader.overridden(loader.load("demo"), overrides), tmp_path / "corpora")
    code, out = submit("--dry-run")
    assert code == 2 and re.search(r"each batch takes \d+ windows of \d+ tokens from the text, which has only ", out)
    assert submit()[1] == out and not (tmp_path / "runs").exists()


def test_what_would_cost_too_much_is_refused_before_anything_is_written(submit, tmp_path, monkeypatch):
    (tmp_path / "ladder.toml").write_text(SETTINGS + '[prices]\nv5e = "1e0-2"\n[limits]\ndollars = 1\n')
    assert submit("--backend", "tpu", "--dry-run", "--root", "gs://b/runs")[1].startswith("error: ")
    settings = SETTINGS + '[prices]\nv5e = "900000000-999999999"\n[limits]\ndollars = 1000\n'
    (tmp_path / "ladder.toml").write_text(settings)
    flags = ("--backend", "tpu", "--root", "gs://b/runs", "--corpora", "gs://b/corpora")
    code, out = submit(*flags, "--dry-run")
    assert code == 0 and re.search(r"would be refused: limits.dollars = 1000: the \d+ runs to go cost up to \$", out)
    monkeypatch.setattr(files, "find_spec", lambda name: name)
    monkeypatch.setattr("launch.backends.archive.publish", lambda *_, **__: Code())
    monkeypatch.setattr(prepare, "build", lambda ladder, corpora: prepare.Built(ladder, {}))
    monkeypatch.setattr("launch.scheduler.placement.place", lambda *_: (Placement(), []))
    monkeypatch.setattr("launch.scheduler.status.read_jobs", lambda jobs: status.pending(jobs))
    monkeypatch.setattr("launch.scheduler.submission.write", lambda *_: pytest.fail("was written"))
    code, out = submit(*flags)
    assert code == 2 and "error: limits.dollars = 1000: the " in out and "raise it in ladder.toml" in out
