"""What no verb foresees is one line with exit code 2, or 75 where the machine is to blame; files are written whole."""

import errno
import json
import os
from pathlib import Path

import pytest

from fitting import files
from fitting.errors import InputError
from launch import cli, display, terminal
from launch.cli import entry

RAISED = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "a.json"), 75, "a.json: No space left on device"),
    "no network": (ConnectionError("refused"), 75, "refused"),
    "no memory": (MemoryError(), 75, "not enough memory"),
    "unreadable": (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "runs/x: Permission denied"),
    "a folder": (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), 2, "x: Is a directory"),
    "deep JSON": (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
    "no package": (ModuleNotFoundError("No module named 'gcsfs'", name="gcsfs"), 2, "pip install gcsfs"),
    "not UTF-8": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "convert it to UTF-8"),
}


def plan_raises(monkeypatch, error: Exception) -> None:
    def make(name: str, /) -> None:
        raise error

    monkeypatch.setitem(entry.VERBS, "plan", make)


@pytest.mark.parametrize("case", RAISED)
def test_it_is_one_line(case, monkeypatch, capsys):
    raised, code, says = RAISED[case]
    plan_raises(monkeypatch, raised)
    assert cli.main(["plan", "demo"]) == code
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert err.startswith("error: " if code == 2 else "not now, try again later: ")


@pytest.mark.parametrize("bug", [ZeroDivisionError(), ModuleNotFoundError("No", name="launch.x"), KeyError("a")])
def test_a_bug_of_ours_keeps_its_traceback(bug, monkeypatch):
    plan_raises(monkeypatch, bug)
    with pytest.raises(type(bug)):
        cli.main(["plan", "demo"])


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.json"
    terminal.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), files.replaced(path) as part:
        part.write_text("{")
        raise ZeroDivisionError
    with pytest.raises(OSError, match="cannot be written"), files.replaced(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError, match=r"a\.json: cannot be written"), files.replaced(path):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert json.loads(path.read_text())["a"] == 1 and os.listdir(path.parent) == ["a.json"]
    link = tmp_path / "link.json"
    link.symlink_to(path)
    terminal.write_json(link, {"a": 2})
    assert link.is_symlink() and json.loads(path.read_text())["a"] == 2
    terminal.write_json(Path("/dev/null"), {})


def test_names_that_look_like_markup_are_shown_as_they_are(capsys):
    from fitting.report.grid import Grid

    names = ["[/red]", "[bold]x[/bold]", ":smile:"]
    display.tables([Grid("[/title]", ["[/head]", "yes"], [[name, "no"] for name in names])], terminal.console())
    display.flags(["[/flag] of a run"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*names, "[/title]", "[/head]", "[/flag] of a run"))
