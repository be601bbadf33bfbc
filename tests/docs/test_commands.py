"""Every command in README and docs is one that `ladder` and `make` know, with flags that they have."""

import functools
import re
import shlex
from pathlib import Path

import pytest

from launch import cli
from launch.cli import entry

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(?:sh|bash|shell)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[str]:
    """The lines of code blocks that call `program`, without what redirects their output."""
    lines = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            lines += block.replace("\\\n", " ").splitlines()
    return sorted({line.partition(" >")[0] for line in lines if re.match(rf"{program} [a-z-]", line)})


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
    wrong, lines = [], [line for line in commands("ladder") if not line.startswith("ladder --")]
    for line in lines:
        arguments = shlex.split(line, comments=True)[1:]
        try:
            understood = cli.main(arguments) == 0 and called[-1] == arguments[0]
        except SystemExit:
            understood = False
        if not understood:
            wrong.append(line)
    assert len(lines) > 60
    assert wrong == [], capsys.readouterr().err


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = commands("make")
    assert len(lines) > 5
    assert [line for line in lines if line.split()[1] not in targets] == []
