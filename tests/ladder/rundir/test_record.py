"""The run directory: wherever the process is killed, the rows are those of the uninterrupted run."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.errors import DamagedError, InputError
from ladder.rundir import config_file, kill_points
from ladder.rundir.lease import Lease
from ladder.rundir.record import Record, RunState


def row(step, metric="loss", value=None):
    value = 5.0 - step / 7 if value is None else value
    return {"step": step, "tokens": 64 * step, "kind": "full", "task": "train", "metric": metric,
            "value": value, "stderr": None, "n_docs": None}  # fmt: skip


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / "run")


# config


CONFIG = {"run_id": "run", "rung": {"model": {"d_model": 32, "rope_theta": 5e5}}, "derived": {"steps": 9}}


def test_config_is_canonical_and_written_once(record):
    record.write_config(CONFIG)
    path = record.directory / "config.json"
    before = path.read_bytes()
    record.write_config(dict(reversed(CONFIG.items())))
    assert path.read_bytes() == before
    assert record.read_config() == {"schema_version": 2} | CONFIG
    assert list(record.read_config()) == sorted(record.read_config())


def test_a_config_of_another_run_is_refused(record):
    record.write_config(CONFIG)
    with pytest.raises(InputError, match="run: not a directory of run b;"):
        record.write_config(CONFIG | {"run_id": "b"})
    assert record.read_config() == {"schema_version": 2} | CONFIG
    record.directory.rename(record.directory.parent / "b")
    with pytest.raises(DamagedError, match="belongs to run run, not to b; "):
        Record(record.directory.parent / "b").read_config()


def test_what_is_outside_the_run_id_may_change(record):
    record.write_config(CONFIG)
    record.write_config(CONFIG | {"mesh": "another"})
    assert record.read_config()["mesh"] == "another"


def test_a_longer_trunk_is_not_done(record):
    record.write_config(CONFIG)
    record.finish(step=9, loss=3.25)
    assert record.is_done()
    record.write_config(CONFIG | {"derived": {"steps": 10}})
    assert not record.is_done()
    assert record.state().name == "pending"


def test_nan_never_enters_a_config(record):
    with pytest.raises(ValueError):
        record.write_config({"peak_lr": float("nan")})
    assert not (record.directory / "config.json").exists()


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "config.json: there is none"),
        (b'{"a": 1,\n"b": }', "config.json:2: not JSON"),
        (b"", "config.json:1: not JSON"),
        (b"[1]", "config.json:1: expected a JSON object"),
        (b"[" * 100_000, "config.json:1: not JSON"),
        (b'{"a": "\xff"}', "config.json: not UTF-8"),
    ],
)
def test_a_damaged_config_is_named_in_one_line(record, content, says):
    record.directory.mkdir()
    if content is not None:
        (record.directory / "config.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        record.read_config()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# metrics


def test_rows_are_published_in_segments_that_sort(record):
    record.log([row(step) for step in range(13)])
    record.publish(2)
    record.publish(11)
    assert sorted(p.name for p in record.metrics.iterdir()) == [
        "000000000-000000002.jsonl",
        "000000003-000000011.jsonl",
    ]
    assert list(record.rows()) == [row(step) for step in range(12)]  # 12 is still in memory
    record.log([row(13)])
    record.publish(13)
    assert list(record.rows()) == [row(step) for step in range(14)]


def test_floats_come_back_exactly(record):
    values = [0.1 + 0.2, 1e-300, 123456789.123456789, 2.0]
    record.log([row(step, value=value) for step, value in enumerate(values)])
    record.publish(3)
    assert [read["value"] for read in record.rows()] == values


def test_a_branch_begins_after_its_parents_step(record):
    record.rewind(100, origin=100)
    record.log([row(101)])
    record.publish(110)
    assert [p.name for p in record.metrics.iterdir()] == ["000000101-000000110.jsonl"]
    record.rewind(110, origin=100)
    with pytest.raises(InputError, match=r"steps 0 to 100|begins at step 0"):
        record.rewind(110)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda r: r.log([row(5)]),
        lambda r: r.publish(5),
        lambda r: r.log([row(6, value=float("nan"))]),
        lambda r: r.log([{"step": 6, "value": 1.0}]),
        lambda r: r.stop("bored", 6, 1.0, ""),
    ],
)
def test_what_would_spoil_the_record_is_refused(record, misuse):
    record.publish(5)
    with pytest.raises(ValueError):
        misuse(record)


GOOD = json.dumps(row(0)) + "\n"
DAMAGED = {
    "truncated": (GOOD + GOOD[:40], "000000000-000000002.jsonl:2: truncated"),
    "end cut off": (GOOD + GOOD[:-1], ":2: truncated"),
    "not JSON": (GOOD + "{'step': 1}\n" + GOOD, ":2: not JSON"),
    "empty line": (GOOD + "\n" + GOOD, ":2: not JSON"),
    "a number": ("3\n", ":1: not a metrics row"),
    "a key is missing": (GOOD.replace('"task"', '"tusk"'), ":1: not a metrics row"),
    "NaN": (GOOD.replace("5.0", "NaN"), ":1: step must be"),
    "text for a value": (GOOD.replace("5.0", '"5"'), ":1: step must be"),
    "bytes": (GOOD + "\udcff\udcfe\n", ":2: not JSON"),
    "deep": (GOOD + "[" * 100_000 + "\n", ":2: not JSON"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_line_is_named(record, damage):
    text, says = DAMAGED[damage]
    record.metrics.mkdir(parents=True)
    path = Path(record.metrics) / "000000000-000000002.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as error:
        list(record.rows())
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def no_fsync():
    """A test here has hundreds of runs; waiting for the disk would only make it slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladder.rundir.files.os.fsync", lambda descriptor: None)
        yield


@pytest.mark.usefixtures("no_fsync")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_cut_of_a_segment_is_read_whole_or_refused(data):
    """A cut at the end of a line leaves whole rows; every other cut is an InputError."""
    with tempfile.TemporaryDirectory() as directory:
        record = Record(directory)
        record.log([row(step) for step in range(4)])
        record.publish(3)
        path = Path(record.metrics) / "000000000-000000003.jsonl"
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        if content[:cut].endswith(b"\n") or not cut:
            assert list(record.rows()) == [row(step) for step in range(content[:cut].count(b"\n"))]
        else:
            with pytest.raises(InputError, match=r"jsonl:\d: truncated"):
                list(record.rows())


class Killed(BaseException):
    pass


def die_at(count):
    """A stand-in for kill_points.phase: the process dies at the count-th call, whatever the phase."""
    calls = itertools.count(1)

    def phase(name):
        if next(calls) == count:
            raise Killed(name)

    return phase


def train(record, checkpoints, last, save_steps, origin):
    """The part of the training loop that uses the record; `checkpoints` stands for the disk."""
    start = max(checkpoints, default=origin)
    record.rewind(start, origin)
    for step in range(start + 1, last + 1):
        record.log([row(step), row(step, "grad_norm", 1.0 / (step + 1))])
        if step in save_steps or step == last:
            record.publish(step)
            kill_points.phase("before-manifest")  # killed here: segment there, checkpoint not
            checkpoints.add(step)
        if step % 3 == 0:
            kill_points.phase("step")


@pytest.mark.usefixtures("no_fsync")
@settings(max_examples=150, deadline=None)
@given(
    origin=st.sampled_from([-1, 40]),
    length=st.integers(1, 25),
    saves=st.sets(st.integers(0, 65)),
    kills=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3), st.booleans()), max_size=8),
    more_saves=st.lists(st.sets(st.integers(0, 65)), min_size=9, max_size=9),
)
def test_killed_anywhere_any_number_of_times_the_rows_are_the_same(origin, length, saves, kills, more_saves):
    """Each attempt may save at further steps (as a notice to stop does) and lose checkpoints."""
    last = origin + length
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        checkpoints = set()
        for (count, lost, debris), extra in zip(kills, more_saves, strict=False):
            phase = die_at(count)
            patch.setattr("ladder.rundir.files.phase", phase)
            patch.setattr("ladder.rundir.record.phase", phase)
            patch.setattr("ladder.rundir.kill_points.phase", phase)
            record = Record(directory)
            try:
                train(record, checkpoints, last, saves | extra, origin)
            except Killed:
                if debris and record.metrics.exists():  # kill -9 leaves temporary files
                    (record.metrics / ".000000000-000000009.jsonl.1234.tmp").write_text('{"st')
            for step in sorted(checkpoints)[len(checkpoints) - lost :]:  # set aside as damaged
                checkpoints.remove(step)
        patch.undo()
        record = Record(directory)
        train(record, checkpoints, last, saves, origin)
        expected = [
            line
            for step in range(origin + 1, last + 1)
            for line in (row(step), row(step, "grad_norm", 1.0 / (step + 1)))
        ]
        assert list(record.rows()) == expected
        assert not list(Path(record.metrics).glob("*.tmp"))


def test_rewinding_forgets_what_was_not_published(record):
    record.log([row(0), row(1)])
    record.rewind()
    record.log([row(0)])
    record.publish(1)
    assert list(record.rows()) == [row(0)]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_segment_is_named(record, missing):
    for step in (4, 9, 14):
        record.publish(step)
    sorted(record.metrics.iterdir())[missing].unlink()
    with pytest.raises(InputError, match=f"step.* {5 * missing}.*delete the run directory"):
        record.rewind(14)


def test_a_segment_that_straddles_the_restored_step_is_refused(record):
    record.publish(9)
    with pytest.raises(InputError, match="end at step 9, not at step 4"):
        record.rewind(4)
    assert len(list(record.metrics.iterdir())) == 1


# kill points


@pytest.mark.parametrize("phase", ["metrics-written", "metrics-published"])
def test_killed_for_real(tmp_path, phase):
    code = f"""
from ladder.rundir.record import Record
record = Record({str(tmp_path)!r})
for step in (1, 2, 3):
    record.publish(step)
"""
    env = os.environ | {"LADDER_KILL_AT": f"{phase}:2"}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == -9
    names = [path.name for path in sorted(tmp_path.glob("metrics/*.jsonl"))]
    expected = ["000000000-000000001.jsonl", "000000002-000000002.jsonl"]
    assert names == expected[: 1 if phase == "metrics-written" else 2]


def test_a_phase_counts_only_itself(monkeypatch):
    killed = []
    monkeypatch.setattr(kill_points, "_reached", Counter())
    monkeypatch.setattr(os, "kill", lambda pid, signal: killed.append(signal))
    monkeypatch.setenv("LADDER_KILL_AT", "step:2")
    for name in ("step", "eval", "eval", "step", "step"):
        kill_points.phase(name)
        assert len(killed) == (kill_points._reached["step"] >= 2)


# the other files


def test_timing_is_appended(record):
    record.directory.mkdir()
    record.timing(step=1, seconds=0.5)
    Record(record.directory).timing(step=2, seconds=0.25)
    lines = (record.directory / "timing.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_a_run_may_end_while_its_state_is_read(record, monkeypatch):
    read = record._read

    def read_then_finish(name):
        value = read(name)
        if name == "DONE.json" and value is None:
            record.finish(step=record.read_config()["derived"]["steps"], loss=2.0)
        return value

    record.write_config(CONFIG)
    monkeypatch.setattr(record, "_read", read_then_finish)
    assert [record.state().name for _ in range(2)] == ["pending", "done"]


def test_the_states_of_a_run(record):
    assert record.state() == RunState("pending")
    record.write_config(CONFIG)
    assert record.state() == RunState("pending")
    with Lease(record.directory) as lease:
        assert record.state() == RunState("running", None, None, lease.owner)
        record.heartbeat(7, 3.5, 1000.0)
        assert record.state() == RunState("running", 7, 3.5, lease.owner)
        record.stop("diverged", 8, float("nan"), "loss is nan")
    assert record.state() == RunState("diverged", 8, None, "loss is nan")
    record.stop("failed", 8, 3.0, "disk")
    assert record.state() == RunState("failed", 8, 3.0, "disk")
    record.rewind()
    assert record.state().name == "stale"
    assert record.state().step == 7
    assert not record.is_done()
    record.finish(step=9, loss=3.25, tokens=576, params_sha256="0")
    assert record.is_done()
    assert record.state() == RunState("done", 9, 3.25)


def test_only_process_0_writes(tmp_path):
    record = Record(tmp_path / "run", process_index=1)
    record.write_config(CONFIG)
    record.log([row(1)])
    record.publish(1)
    record.timing(step=1)
    record.heartbeat(1, 2.0, 3.0)
    record.finish(step=1)
    assert not (tmp_path / "run").exists()


def test_no_jax_is_imported():
    code = "import sys; import ladder.rundir.record; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_config_without_a_corpus_names_no_folder():
    """Of a fit, or one that cannot be read."""
    assert config_file.corpus_dirs({}) == [] and config_file.corpus_dirs({"corpus_dir": "c"}) == ["c"]
    assert config_file.corpus_dirs({"corpus_dirs": ["a", "b"]}) == ["a", "b"]
