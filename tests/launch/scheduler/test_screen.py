"""`ladder watch`: it runs a ladder, only looks while another submitter does, and takes over when that one ends."""

import io
import os
import sys
import threading
import time
from dataclasses import asdict
from unittest.mock import patch

import pytest
from rich.console import Console

from ladder.rundir.files import sealed, write_atomic
from ladder.rundir.record import Record
from launch import cli
from launch.backends.local import Local
from launch.page.writer import Page
from launch.scheduler import jobs, loop, screen, status
from launch.scheduler.submission import FILE, BackendConfig, Submission
from launch.settings import Settings, Tpu
from tests.launch import stand_ins

DONE = """
import json, os, sys, time
time.sleep(0.2)
with open(f"{sys.argv[2]}/part", "w") as file:
    json.dump({"schema_version": 1, "step": 10, "loss": 1.0}, file)
os.replace(file.name, f"{sys.argv[2]}/DONE.json")
"""
ENDS = {"done": (DONE, 0), "diverged": ("import sys; sys.exit(78)", 78), "failed": ("import sys; sys.exit(2)", 1)}


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """How the jobs end (a key of ENDS) -> (folder, submission of a trunk and its branch)."""

    def build(ends):
        program = (sys.executable, "-c", ENDS[ends][0])
        monkeypatch.setattr(BackendConfig, "open", lambda config: Local(program=program))
        trunk_and_branch = [stand_ins.run(tmp_path / "mine", "t"), stand_ins.run(tmp_path / "mine", "b", "t")]
        return tmp_path / "mine", Submission(jobs.read(trunk_and_branch), BackendConfig())

    return build


@pytest.mark.parametrize("ends", ENDS)
def test_it_drives_a_ladder_to_its_end(ladder, ends):
    console = Console(file=io.StringIO(), width=160)
    assert screen.watch(*ladder(ends), 0.02, console) == ENDS[ends][1]
    assert ends in console.file.getvalue()


def test_what_was_spent_is_shown(ladder, capsys):
    folder, submitted = ladder("done")
    config = BackendConfig("tpu", settings=Settings(tpu=Tpu(topology={"default": "v5e:4x4"})))
    value = {"runs": ["t", "b"], "fit": None, "engine": asdict(config)}
    write_atomic(folder / FILE, sealed(value))
    began = time.time() - 3600
    for job in submitted.jobs:
        with patch("time.time", lambda: began):
            Record(job.directory).attempt("train")
    Record(submitted.jobs[0].directory).heartbeat(3, 2.0, 1.0)
    assert cli.main(["status", str(folder)]) == 0
    assert "spent so far: 16 to 32 chip-hours, $9 to $38 (training, by" in capsys.readouterr().out
    console = Console(file=io.StringIO(), width=160)
    screen.watch(
        folder, Submission(submitted.jobs, config), 0.02, console
    )  # submits: these attempts are the earlier ones
    assert "spent so far: 0 to 32 chip-hours, $0 to $38" in console.file.getvalue()


def test_it_writes_the_page_as_it_goes(ladder, tmp_path, monkeypatch):
    folder, _ = ladder("done")
    value = {"runs": ["t", "b"], "fit": None, "engine": asdict(BackendConfig())}
    write_atomic(folder / FILE, sealed(value))
    pages, written = [], Page.write
    monkeypatch.setattr(Page, "write", lambda self, *a, **k: (written(self, *a, **k), pages.append(k["again"])))
    path = tmp_path / "status.html"
    assert cli.main(["watch", str(folder), "--every", "0.05", "--html", str(path)]) == 0
    assert len(pages) > 1 and pages[-1] is False and all(pages[:-1])
    assert "2 of 2 runs are done" in path.read_text()


def test_it_looks_on_while_another_submits(ladder):
    folder, submitted = ladder("done")
    with loop.submit_lease(folder):
        thread = threading.Timer(
            0.3, lambda: [Record(job.directory).finish(step=10, loss=1.0) for job in submitted.jobs]
        )
        thread.start()
        assert screen.watch(folder, submitted, 0.02, Console(file=io.StringIO())) == 0
    assert all(Record(job.directory).attempts() == [] for job in submitted.jobs)


def test_it_takes_the_place_of_one_that_is_gone(ladder):
    folder, submitted = ladder("done")
    other = loop.submit_lease(folder)
    other.__enter__()
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(screen.watch(folder, submitted, 0.02, Console(file=io.StringIO())))
    )
    thread.start()
    time.sleep(0.3)
    assert Record(submitted.jobs[0].directory).state().name == "pending"
    other.__exit__(None, None, None)
    thread.join(timeout=30)
    assert codes == [0]
    assert [row["by"] for row in Record(submitted.jobs[0].directory).attempts()] == ["submit"]


@pytest.mark.parametrize("name, content", [("config.json", "{"), ("DONE.json", "[]"), ("STOPPED.json", ""),
                                            ("attempts.jsonl", "{\n3\n[]\n"), ("heartbeat.json", "\0"),
                                            ("leases/1.json", "?"), ("job.json", "{}")])  # fmt: skip
def test_one_damaged_file_stops_nothing_but_its_run(ladder, name, content):
    """Of the trunk; the branch waits for it unless the file decides nothing. A ladder beside it goes on."""
    folder, _ = ladder("done")
    trunk = folder / "t"
    (trunk / name).parent.mkdir(exist_ok=True)
    (trunk / name).write_text(content)
    names = [path.parent for path in sorted(folder.glob("*/config.json"))]
    jobs_now = jobs.read(names)
    states = {run.run_id: run.state for run in status.read(folder)}
    console = Console(file=io.StringIO(), width=160)
    if name in ("config.json", "DONE.json", "STOPPED.json"):
        assert states == {"t": "damaged", "b": "pending"}
        assert screen.watch(folder, Submission(jobs_now, BackendConfig()), 0.02, console) == 1
        assert "damaged" in console.file.getvalue() and "blocked" in console.file.getvalue()
    else:
        if name == "leases/1.json":
            os.utime(trunk / name, (0, 0))  # a damaged lease holds for a minute
        assert "damaged" not in states.values()
        assert screen.watch(folder, Submission(jobs_now, BackendConfig()), 0.02, console) == 0
