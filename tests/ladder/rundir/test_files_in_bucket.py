"""Files in a bucket: read whole and fresh, created once, at one request each."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from ladder.rundir import snapshot
from ladder.rundir.files import (
    absolute,
    as_path,
    create,
    entries_under,
    files_under,
    is_store_error,
    read_bytes,
    read_json,
    read_many,
    sealed,
    write_atomic,
)


@pytest.fixture
def folder(bucket):
    return as_path(bucket.url) / "runs" / "tiny"


@pytest.fixture
def other(bucket):
    """The bucket as another process has it: it shares no memory with the paths of this one."""
    import gcsfs

    return gcsfs.GCSFileSystem(token="anon", skip_instance_cache=True)


def test_of_many_threads_one_creates_a_file(folder):
    for k in range(5):
        start = threading.Barrier(20)

        def attempt(i, k=k, start=start):
            start.wait()
            return create(folder / f"{k}.json", f"holder {i}")

        with ThreadPoolExecutor(20) as pool:
            created = list(pool.map(attempt, range(20)))
        assert created.count(True) == 1
        assert read_bytes(folder / f"{k}.json").decode() == f"holder {created.index(True)}"


def test_a_creation_whose_answer_was_lost_is_a_creation(folder):
    assert create(folder / "1.json", "mine")
    assert create(folder / "1.json", "mine")  # what is sent again after a lost answer
    assert not create(folder / "1.json", "another's")


def test_what_another_process_writes_is_seen(folder, other):
    write_atomic(folder / "a.json", "{}")
    assert [path.name for path in folder.iterdir()] == ["a.json"]
    assert not (folder / "b.json").exists()
    other.pipe_file(f"{folder}/b.json", b'{"step": 1}')
    assert [path.name for path in folder.iterdir()] == ["a.json", "b.json"]
    assert (folder / "b.json").exists()
    assert read_json(folder / "b.json") == {"step": 1}
    other.rm_file(f"{folder}/a.json")
    assert list(entries_under(folder)) == ["b.json"]
    with pytest.raises(FileNotFoundError):
        read_json(folder / "a.json")


def test_a_reader_never_sees_a_part_of_a_file(folder, other):
    path = folder / "heartbeat.json"
    texts = [sealed({"step": 1}), sealed({"step": 10**40, "loss": 1.25})]
    write_atomic(path, texts[0])
    over = threading.Event()

    def write():
        for i in range(10**9):
            if over.is_set():
                return
            other.pipe_file(str(path), texts[i % 2].encode())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        read = {read_bytes(path).decode() for _ in range(150)}
    finally:
        over.set()
        writer.join()
    assert read <= {*texts}


def test_a_file_costs_one_request(bucket, folder):
    for call, kind in (
        (lambda: write_atomic(folder / "a.json", "{}"), "put"),
        (lambda: create(folder / "b.json", "{}"), "put"),
        (lambda: read_json(folder / "a.json"), "get"),
        (lambda: entries_under(folder), "list"),
    ):
        with bucket.counted() as kinds:
            call()
        assert kinds == {kind: 1}
    with bucket.counted() as kinds:
        assert read_many([folder / "a.json", folder / "absent.json"]) == {folder / "a.json": b"{}"}
    assert kinds == {"get": 2}


def test_files_and_paths(folder):
    for name in ("config.json", "checkpoints/15/state/d/x", "checkpoints/15/MANIFEST.json"):
        write_atomic(folder / "run" / name, name)
    write_atomic(folder / "run2" / "config.json", "not in run")
    paths = files_under(folder / "run")
    assert list(paths) == ["checkpoints/15/MANIFEST.json", "checkpoints/15/state/d/x", "config.json"]
    assert all(read_bytes(path).decode() == name for name, path in paths.items())
    entries = entries_under(folder / "run")
    assert [entry.size for entry in entries.values()] == [len(name) for name in paths]
    assert entries["config.json"].crc32c  # the same at every reading, another for another content
    write_atomic(folder / "run" / "config.json", "config.jsoN")
    assert entries_under(folder / "run")["config.json"].crc32c != entries["config.json"].crc32c
    assert absolute(folder) == folder == as_path(str(folder))
    assert files_under(folder / "absent") == {}


def test_a_bucket_that_does_not_answer_is_an_os_error(folder, monkeypatch):
    import gcsfs

    async def unavailable(*args, **kwargs):
        raise gcsfs.retry.HttpError({"code": 503, "message": "Service Unavailable"})

    monkeypatch.setattr(gcsfs.GCSFileSystem, "_call", unavailable)
    for call in (lambda: read_bytes(folder / "a"), lambda: write_atomic(folder / "a", ""), lambda: files_under(folder)):
        with pytest.raises(OSError, match="Service Unavailable"):
            call()
    assert is_store_error(gcsfs.retry.HttpError({"code": 503}))


def write_runs(folder, n):
    for i in range(n):
        run = folder / f"r{i}"
        done = {"DONE.json": '{"step": 30}'} if i % 2 else {}
        files = {"config.json": json.dumps({"run_id": run.name}), "heartbeat.json": '{"step": 15}'} | done
        for name in (*files, "checkpoints/15/MANIFEST.json", "checkpoints/9/MANIFEST.json", "checkpoints/30/state/x"):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(run / name, files.get(name, "a manifest"))
    (folder / "fit" / "fit-1").mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "fit" / "fit-1" / "config.json", "{}")


def wanted(names):
    return ["config.json", "DONE.json" if "DONE.json" in names else "heartbeat.json"]


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_snapshot_of_all_runs(where, folder, tmp_path):
    folder = folder if where == "bucket" else tmp_path
    assert snapshot.take(folder, wanted) == {}
    write_runs(folder, 4)
    runs = snapshot.take(folder, wanted)
    assert list(runs) == ["r0", "r1", "r2", "r3"]
    assert runs["r1"].contents == {"config.json": b'{"run_id": "r1"}', "DONE.json": b'{"step": 30}'}
    assert runs["r2"].contents.keys() == {"config.json", "heartbeat.json"}
    assert runs["r3"].saved_steps == [9, 15]
    assert runs["r3"].directory == folder / "r3"
    write_atomic(folder / "r2" / "heartbeat.json", '{"step": 20}')
    assert snapshot.take(folder, wanted, runs)["r2"].contents["heartbeat.json"] == b'{"step": 20}'


def test_a_snapshot_reads_only_what_is_new(bucket, folder):
    write_runs(folder, 6)
    with bucket.counted() as kinds:
        runs = snapshot.take(folder, wanted)
    assert kinds == {"list": 1, "get": 12}
    write_atomic(folder / "r2" / "heartbeat.json", '{"step": 20}')
    with bucket.counted() as kinds:
        snapshot.take(folder, wanted, runs)
    assert kinds == Counter(list=1, get=1)
