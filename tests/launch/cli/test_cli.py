"""The command: what it may import, its messages for wrong input, its output."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from configs import loader
from ladder.config import to_dict
from ladder.rundir.record import Record
from ladder.sizes import n_params
from launch import cli, prepare
from launch.backends.protocol import PROGRAM
from launch.cli import entry

# The sizes of the demo may change.
TRUNK, BRANCH, *_ = (rung.label for rung in loader.load("demo").rungs)
TARGET = loader.load("demo").targets[0].label
SIZE = TRUNK.split("-")[0]
HEAVY = ("jax", "flax", "optax", "orbax", "tensorflow_datasets", "grain", "jaxopt")


@pytest.fixture
def runs(tmp_path):
    """runs/demo with two run directories: one done, one not begun."""
    ladder = loader.load("demo")
    built = prepare.Built(ladder, {"": tmp_path / "corpus"})
    done, _ = prepare.write(built, ladder.rungs[:2], tmp_path / "runs")
    record = Record(done)
    steps = ladder.rungs[0].steps
    record.heartbeat(steps, 2.5, 20_000.0)
    record.finish(step=steps, loss=2.5)
    (done / "log.txt").write_text("one\ntwo\nthree\n")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "olmo2"],
        ["status", "demo"],
        ["logs", "demo", "--rung", TRUNK],
        ["train", "--help"],
        ["watch", "--help"],
    ],
    ids=" ".join,
)
def test_what_answers_at_once_imports_no_jax(runs, arguments):
    code = (
        "import sys\nfrom launch import cli\n"
        f"try:\n    code = cli.main({arguments!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"heavy = sorted(set(sys.modules) & set({HEAVY!r}))\nsys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=runs.parent,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_documents_without_a_text_are_skipped_and_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = [None if i % 20 == 3 else f"document {i} says {i * i} and {i**3}" for i in range(60)]
    Path("mine.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    overrides = ["data.text=mine.jsonl", "data.validation=0.2", "data.tokenizer=bytes", "model.seq_len=16"]
    assert cli.main(["data", "build", "demo", *overrides]) == 0
    n_bytes = sum(len(text) for text in texts if text)
    assert f"mine.jsonl: 57 documents, {n_bytes:,} bytes; 3 without a text (null) skipped\n" in capsys.readouterr().out
    built = prepare.build(loader.overridden(loader.load("demo"), tuple(overrides)), Path("corpora"))
    assert built.notes == ("mine.jsonl: 3 documents without a text (null) skipped",)


def test_the_bare_command_says_how_to_begin(capsys):
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and max(map(len, lines)) <= 80
    named = {line.split()[1] for line in lines if line.startswith("  ladder")} - {"--help"}
    assert named <= set(entry.VERBS)


WRITE_TARGET = "write N,D (7B,4T), NAME=N,D or NAME=N,D,FLOPS, positive numbers (--target)\n"
WRONG = {
    "plan unknown": (["plan", "demoo"], "no ladder 'demoo'; did you mean 'demo'?"),
    "plan override": (["plan", "demo", "optimizer.peak_lrr=1"], "did you mean 'peak_lr'?"),
    "plan value": (["plan", "demo", "seed=many"], "seed = 'many': needs a whole number"),
    "plan devices": (["plan", "demo", "--devices", "0"], "--devices 0"),
    "plan json": (["plan", "demo", "--json", "/dev/null/x"], "/dev/null/x: cannot be written"),
    "plan file": (["plan", "nowhere.py:mine"], "nowhere.py: no such file"),
    "train unknown": (["train", "demoo", "--rung", "x"], "no ladder 'demoo'"),
    "train no rung": (["train", "demo"], "name one: --rung " + TRUNK),
    "train wrong rung": (["train", "demo", "--rung", "d17"], "no rung starts with 'd17'"),
    "train ambiguous": (["train", "demo", "--rung", SIZE], "ambiguous"),
    "train directory": (["train", "runs"], "config.json"),
    "train both": (["train", "runs", "--rung", SIZE], "leave out --rung"),
    "submit unknown": (["submit", "olmo"], "did you mean 'olmo2'?"),
    "submit no text": (["submit", "demo", "data.text=nowhere", "eval.tasks="], "nowhere: no such file or folder"),
    "submit no requests": (["submit", "demo"], "run `ladder data olmes`"),
    "submit unknown task": (["submit", "demo", "eval.tasks=mbpp,arc_eazy.jsonl"], "arc_eazy.jsonl"),
    "demo no requests": (["demo"], "run `ladder data olmes`"),
    "demo both": (["demo", "--quick", "--full"], "choose one"),
    "demo seed": (["demo", "--seed", "-1"], "--seed -1"),
    "train no requests": (["train", "demo", "--rung", TRUNK], "run `ladder data olmes`"),
    "status unknown": (["status", "demoo"], "no ladder 'demoo'"),
    "status no runs": (["status", "olmo2"], "runs/olmo2: no runs yet"),
    "status empty": (["status", "empty"], "holds no run directories"),
    "watch nothing": (["watch", "demo"], "nothing was submitted from here"),
    "watch every": (["watch", "demo", "--every", "0"], "--every 0"),
    "cancel nothing": (["cancel", "demo"], "nothing was submitted from here"),
    "verify unknown": (["verify", "demoo"], "no ladder 'demoo'"),
    "verify wrong rung": (["verify", "demo", "--rung", "d99"], "no rung starts with 'd99'"),
    "submit none": (["submit", "demo", "--at-once", "0"], "must be at least 1"),
    "demo none": (["demo", "--at-once", "0"], "--at-once 0: must be at least 1"),
    "conclude nothing": (["conclude", "empty"], "empty/config.json: there is none"),
    "logs no rung": (["logs", "demo"], "name one with --rung"),
    "logs wrong rung": (["logs", "demo", "--rung", "d99"], "no rung starts with 'd99'"),
    "logs nothing": (["logs", "demo", "--rung", BRANCH], "nothing logged yet"),
    "data no name": (["data", "build"], "name a ladder"),
    "data no text": (["data", "build", "demo", "data.text=nowhere"], "nowhere: no such file or folder"),
    "data binary": (["data", "build", "demo", "data.text=binary.txt"], "binary"),
    "data truncated": (["data", "build", "demo", "data.text=cut.jsonl"], "cut.jsonl:2"),
    "data tokenizer": (["data", "build", "demo", "data.tokenizer=bpe:300", "data.text=words.txt"], "vocab_size"),
    "predict nothing": (["predict", "empty"], "empty: no run directories"),
    "predict nowhere": (["predict", "nowhere.csv"], "nowhere.csv: no such file"),
    "predict target": (["predict", "x.csv", "--target", "7B"], WRITE_TARGET),
    "predict bootstrap": (["predict", "table.csv", "--bootstrap", "1"], "interval needs at least 2 (--bootstrap)\n"),
    "report nothing": (["report", "empty"], "empty: no run directories"),
    "report unfinished": (["report", "unfinished"], "no finished run"),
    "report target": (["report", "x.csv", "--target", "7B=x,y"], WRITE_TARGET),
    "export nothing": (["export", "empty", "-o", "x.csv"], "empty: no run directories"),
    "export unfinished": (["export", "unfinished", "-o", "x.csv"], "no finished run"),
    "export nowhere": (["export", "nowhere", "-o", "x.csv"], "nowhere: no such file or folder"),
    "export name": (["export", "runs/demo", "-o", "x.parquet"], "written as .csv"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(runs, case, monkeypatch, capfd):
    monkeypatch.chdir(runs.parent)
    monkeypatch.setenv("LADDER_OLMES", "no-requests-here")
    os.mkdir("empty")
    os.mkdir("unfinished")
    (runs / "demo" / "x").mkdir()
    os.rename(next((runs / "demo").glob(f"{BRANCH}*")), "unfinished/a") if "unfinished" in case else None
    with open("binary.txt", "wb") as file:
        file.write(b"text\n\0\xff\n" * 100)
    with open("cut.jsonl", "w") as file:
        file.write('{"text": "one two three"}\n{"text": "fo')
    with open("words.txt", "w") as file:
        file.writelines(f"word {i} of many words, and {i * i} more\n" for i in range(20_000))
    with open("table.csv", "w") as file:
        file.write("run,n_params,tokens,step,task,metric,value\na,1000,20000,10,validation,bpb,2.5\n")
    arguments, says = WRONG[case]
    code = cli.main(arguments)
    out, err = capfd.readouterr()
    assert code == 2, err
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


USAGE = (["plam"], ["plan"], ["plan", "demo", "--device", "1"], ["submit", "demo", "--backend", "x"])


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", entry.VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main([verb, "--help"])
    assert raised.value.code == 0
    assert f"Example: ladder {verb}" in capsys.readouterr().out


def test_plan_writes_json(tmp_path, capsys):
    assert cli.main(["plan", "demo", "seed=3", "--json", str(tmp_path / "new" / "plan.json")]) == 0
    value = json.loads((tmp_path / "new" / "plan.json").read_text())
    assert value["schema_version"] == 1
    assert {row["seed"] for row in value["rungs"]} == {3}
    assert TARGET in capsys.readouterr().out


def test_status_and_logs_of_a_ladder(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(runs.parent)
    assert cli.main(["status", "demo", "--json", "status.json"]) == 0
    out = capsys.readouterr().out
    assert "1 of 2 runs done" in out
    states = {
        run["run_id"].rsplit("-", 2)[0]: run["state"]
        for run in json.loads((tmp_path / "status.json").read_text())["runs"]
    }
    assert states == {TRUNK: "done", BRANCH: "pending"}
    assert cli.main(["logs", "demo", "--rung", TRUNK, "--lines", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"


def test_a_run_directory_says_all_that_a_job_needs(runs):
    ladder = loader.load("demo")
    trunk, branch = ladder.rungs[:2]
    config = Record(runs / "demo" / branch.run_id).read_config()
    assert config["schema_version"] == 2
    assert config["rung"] == to_dict(branch)
    assert config["split"] == "train"
    assert config["derived"]["parent_run"] == trunk.run_id
    assert config["derived"]["parent"] == trunk.identity
    assert config["derived"]["n_params"] == n_params(branch.model)
    assert config["derived"]["steps"] == branch.steps
    assert config["packages"]["jax"]


def test_writing_run_directories_again_changes_nothing(runs):
    ladder = loader.load("demo")
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    prepare.write(prepare.Built(ladder, {"": runs.parent / "corpus"}), ladder.rungs[:2], runs)
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_an_unfinished_run_follows_what_is_outside_its_run_id(runs):
    ladder = loader.load("demo").map(lambda rung: replace(rung, save_every=7))
    done, pending = prepare.write(prepare.Built(ladder, {"": runs / "moved"}), ladder.rungs[:2], runs)
    assert Record(pending).read_config()["rung"]["save_every"] == 7
    assert Record(pending).read_config()["corpus_dir"] == str(runs / "moved")
    assert Record(done).read_config()["rung"]["save_every"] == 0


def test_the_target_is_a_target(tmp_path):
    ladder = loader.load("demo")
    [directory] = prepare.write(prepare.Built(ladder, {"": tmp_path}), ladder.targets, tmp_path)
    assert Record(directory).read_config()["split"] == "target"


def test_a_missing_setting_is_reported_before_anything_is_built(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for backend, says in (("gke", "gke.image is not set"), ("tpu", "tpu.project is not set")):
        assert cli.main(["submit", "demo", "--backend", backend]) == 2
        assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[Path(sys.executable).with_name("ladder")], PROGRAM], ids=["ladder", "job"])
def test_packages_of_the_working_directory_do_not_break_the_command(tmp_path, command):
    for name in ("ladder", "fitting", "configs", "launch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the package of the working directory')")
    done = subprocess.run([*command, "plan", "olmo2"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "7B-4T" in done.stdout


def test_a_closed_pipe_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "launch.cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)
