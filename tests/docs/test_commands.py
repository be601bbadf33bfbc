"""Every command of README and docs is understood, and executed or listed in not_executed.py with the reason."""

import functools
import itertools
import re
import shutil
import subprocess
import sys

import pytest

from launch import cli
from launch.cli import entry
from tests.docs import prepared
from tests.docs.commands import ROOT, Command, commands
from tests.docs.not_executed import NOT_EXECUTED

OUTPUTS = ("-o", "--out", "hf")  # the word before the name of what a command writes
AT_ONCE = re.compile(r"plan |new |export (?!runs/)|data index |verify my/tokens|submit olmo2 |--tyro")


def kind(command: Command) -> str:
    """What a command takes: an instant ("at once") or seconds ("fits"); or it is "not executed"."""
    if command.text in NOT_EXECUTED:
        return "not executed"
    if command.program != "ladder" or AT_ONCE.match(command.text.removeprefix("ladder ")):
        return "at once"
    return "fits"


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
    """Each command that is not executed stands in the docs."""
    assert set(NOT_EXECUTED) <= {command.text for command in commands()}


def of_kind(name: str) -> list:
    return [pytest.param(command, id=command.text) for command in commands() if kind(command) == name]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    prepared.write(folder)
    return folder


def execute(command: Command, folder, tmp_path, monkeypatch):
    """Run a command in a copy of a folder; its exit code is 0."""
    work = shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(work)
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # a dry run asks buckets where it is installed
    if command.program != "ladder":
        # What takes longer belongs in not_executed.py.
        make = [command.program, "-C", str(ROOT), *command.words[1:]]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, timeout=60)
        return
    for name, value in command.variables.items():
        monkeypatch.setenv(name, value)
    # 50279 ends documents in another tokenizer.
    words = [str(prepared.END) if word == "50279" else word for word in command.words[1:]]
    for before, word in itertools.pairwise(words):
        if before in OUTPUTS and (work / word).is_dir():
            shutil.rmtree(work / word)
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
