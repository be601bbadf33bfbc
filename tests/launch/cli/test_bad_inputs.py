"""Two thousand bad inputs over all verbs (bad_inputs.py): one line that says what is wrong, exit code 2, no file left.

`make test` tries a fifth of them, chosen by a hash of the command; `make test-slow` all.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from fitting.tables import files
from launch import cli
from launch.cli import entry
from tests.launch.cli import bad_files, bad_inputs

GROUPS = {name: list(dict.fromkeys(cases)) for name, cases in bad_inputs.groups().items()}
SECONDS = 20  # of one command; most take 0.03


class Hung(BaseException):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the cases, as the working directory; with what is imported where it is used imported already."""
    import launch.scheduler.worker  # noqa: F401

    path = tmp_path_factory.mktemp("bad-inputs") / "alone" / "here"  # no other test writes into .. and ../..
    path.mkdir(parents=True)
    bad_inputs.write(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(files, "LARGEST", 2**22)  # bytes of a .gz; 2^30 take seconds
        patch.setattr(sys, "dont_write_bytecode", True)
        yield path


def answer(words: tuple[str, ...]) -> tuple[int | None, str]:
    """(exit code, standard error) of a command. Raises Hung where it takes longer than SECONDS."""

    def ring(*_):
        raise Hung

    previous, err = signal.signal(signal.SIGALRM, ring), io.StringIO()
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            return cli.main(list(words)), err.getvalue()
    except SystemExit as error:  # of tyro, for what is no verb and no flag
        return error.code, err.getvalue()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def fault(case: bad_files.Case, folder: Path, monkeypatch) -> str | None:
    """What is wrong with the answer to a bad input, or None."""
    if case.words and case.words[0] in entry.VERBS:  # two verbs are parsed in half the time of all
        chosen = (case.words[0], "conclude" if case.words[0] != "conclude" else "plan")
        monkeypatch.setattr(entry, "VERBS", {verb: entry.VERBS[verb] for verb in chosen})
    before = listing(folder)
    try:
        code, err = answer(case.words)
    except (Exception, Hung) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        monkeypatch.undo()
    is_usage = "full helptext" in err  # the box of tyro
    if code != 2:
        return f"exit code {code}: {err[-300:]}"
    if "Traceback" in err or not (is_usage or (err.startswith("error: ") and err.count("\n") == 1)):
        return f"not one line: {err[:300]!r}"
    if (case.says == bad_files.USAGE) > is_usage or (case.says != bad_files.USAGE and case.says not in err):
        return f"does not say {case.says!r}: {err!r}"
    left = sorted(listing(folder) - before)
    return f"leaves {left}" if left else None


def listing(folder: Path) -> set[str]:
    return {f"{name}/{entry}" for name in (".", "afolder", "corpora") for entry in os.listdir(folder / name)}


def faults(cases: list, folder: Path, monkeypatch) -> list[str]:
    found = [(case, fault(case, folder, monkeypatch)) for case in cases]
    return [f"ladder {case}\n    {what}" for case, what in found if what]


def is_quick(case: bad_files.Case) -> bool:
    return zlib.crc32("\0".join(case.words).encode("utf-8", "surrogatepass")) % 5 == 0


def test_the_bad_inputs_are_many_and_of_every_verb():
    cases = {case for cases in GROUPS.values() for case in cases}
    assert len(cases) > 2000 and sum(map(is_quick, cases)) >= 400
    assert {case.verb for case in cases} >= set(entry.VERBS)
    assert {case.verb for case in cases if is_quick(case)} >= set(entry.VERBS) - {"conclude", "demo"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_bad_input_is_one_line(group, folder, monkeypatch):
    found = faults([case for case in GROUPS[group] if is_quick(case)], folder, monkeypatch)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_bad_input_is_one_line(group, folder, monkeypatch):
    found = faults([case for case in GROUPS[group] if not is_quick(case)], folder, monkeypatch)
    assert not found, "\n".join(found)


def test_a_machine_at_fault_is_exit_code_75(folder):
    full = folder / "full.csv"
    full.symlink_to("/dev/full")
    for command in ("plan demo --json /dev/full", "export runs.csv -o full.csv"):
        code, err = answer(tuple(command.split()))
        assert code == 75 and err.startswith("not now, try again later: ") and err.count("\n") == 1, err
    full.unlink()


CLOSED = {"stdout": ("plan demo", 0), "stderr": ("plan nope", 2)}


@pytest.mark.parametrize("stream", CLOSED)
def test_closed_streams_are_no_error(stream, folder):
    command, code = CLOSED[stream]
    number = {"stdout": 1, "stderr": 2}[stream]
    root = Path(__file__).parents[3]
    run = "os.execv(sys.executable, [sys.executable, '-m', 'launch.cli', *sys.argv[1:]])"
    script = f"import os, sys; os.close({number}); {run}"
    result = subprocess.run(
        [sys.executable, "-c", script, *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert result.returncode == code and "Traceback" not in result.stderr
