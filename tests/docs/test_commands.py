"""Every command of README and docs is understood, and executed or listed in not_executed.py with the reason."""

import functools
import itertools
import re
import shutil
import subprocess
import sys

import pytest

from ladder.rundir.files import as_path
from launch import cli
from launch.cli import entry
from tests.docs import adapted, prepared, trained
from tests.docs.commands import ROOT, Command, commands
from tests.docs.not_executed import NOT_EXECUTED

OUTPUTS = ("-o", "--out", "hf")  # the word before the name of what a command writes
AT_ONCE = re.compile(r"plan |new |export (?!runs/)|data index |verify my/tokens|submit olmo2 |--tyro")
RUNS = re.compile(r"runs/|OLMo|SmolLM2|\bdemo\b|\bmine\b(?!\.csv)|my/studies|study (branches|noise data.*)$")


def kind(command: Command) -> str:
    """What a command takes: an instant ("at once"), seconds ("fits"), a bucket ("bucket") or runs ("runs"); or it is
    "not executed"."""
    if command.text in NOT_EXECUTED:
        return "not executed"
    if "gs://" in command.text and "--dry-run" not in command.words:
        return "bucket"
    if command.program != "ladder" or AT_ONCE.match(command.text.removeprefix("ladder ")):
        return "at once"
    return "runs" if RUNS.search(command.text) else "fits"


@pytest.fixture
def called(monkeypatch):
    """The names of the verbs that were called; none of them does anything."""
    names = []

    def recorder(name, verb):
        @functools.wraps(verb)
        def record(*args, **kwargs):
            names.append(name)

        return record

    monkeypatch.setattr(entry, "VERBS", {name: recorder(name, verb) for name, verb in entry.VERBS.items()})
    return names


def test_every_ladder_command_is_understood(called, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wrong, asked = [], [command for command in commands("ladder") if kind(command) != "at once"]
    for command in asked:
        arguments = command.words[1:]
        try:
            understood = cli.main(arguments) == 0 and called[-1] == arguments[0]
        except SystemExit:
            understood = False
        if not understood:
            wrong.append(command)
    assert len(asked) > 60
    assert wrong == [], capsys.readouterr().err


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = commands("make")
    assert len(asked) > 5
    assert [command for command in asked if command.words[1] not in targets] == []


def test_no_entry_is_stale():
    """Each command that is not executed, or not as it stands, is in the docs."""
    assert {*NOT_EXECUTED, *adapted.INSTEAD} <= {command.text for command in commands()}
    assert not {*adapted.INSTEAD} & {*NOT_EXECUTED}


def test_what_reasons_name_exists():
    reasons, makefile = " ".join(NOT_EXECUTED.values()), (ROOT / "Makefile").read_text()
    paths, targets = (re.findall(pattern, reasons) for pattern in (r"tests/[\w/.]+", r"make ([a-z-]+)"))
    assert len(paths) > 10 and len(targets) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def of_kind(name: str) -> list:
    return [pytest.param(command, id=command.text) for command in commands() if kind(command) == name]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    prepared.write(folder)
    return folder


@pytest.fixture(scope="module")
def runs(files, quick_compile, tmp_path_factory):
    """The files, and trained runs."""
    folder = tmp_path_factory.mktemp("runs") / "folder"
    shutil.copytree(files, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained.stand_in(patch)
        trained.write()
    return folder


def execute(command: Command, folder, tmp_path, monkeypatch, bucket=None):
    """Run a command in a copy of a folder; its exit code is 0."""
    work = shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(work)
    if not bucket:
        monkeypatch.setitem(sys.modules, "gcsfs", None)  # a dry run asks buckets where it is installed
    if command.program != "ladder":
        # What takes longer belongs in not_executed.py.
        make = [command.program, "-C", str(ROOT), *command.words[1:]]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, timeout=60)
        return
    for name, value in command.variables.items():
        monkeypatch.setenv(name, value)
    words = adapted.words(command, bucket)
    for before, word in itertools.pairwise(words):
        if before in OUTPUTS and (work / word).is_dir():
            shutil.rmtree(work / word)
    if "train" in words:  # the run again, which is there
        for run in (work / "runs").glob(f"*/{words[words.index('--rung') + 1]}-*"):
            shutil.rmtree(run)
    try:
        code = cli.main(words)
    except SystemExit as end:  # of --tyro-print-completion
        code = end.code
    assert code in (0, None)


@pytest.mark.parametrize("command", of_kind("at once"))
def test_what_answers_at_once(command, files, tmp_path, monkeypatch):
    execute(command, files, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("command", of_kind("fits"))
def test_what_fits(command, files, tmp_path, monkeypatch):
    execute(command, files, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("command", of_kind("runs"))
def test_what_trains_or_reads_runs(command, runs, tmp_path, monkeypatch):
    trained.stand_in(monkeypatch)
    execute(command, runs, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("command", of_kind("bucket"))
def test_what_reads_a_bucket(command, files, bucket, tmp_path, monkeypatch):
    for path in (files / "my/tokens").glob("*.npy"):
        (as_path(bucket.url) / "tokens" / path.name).write_bytes(path.read_bytes())
    assert cli.main(["data", "index", f"{bucket.url}/tokens", "--dtype", "uint16", "--eos", "0"]) == 0
    execute(command, files, tmp_path, monkeypatch, bucket.url)
