"""Token files in an object store that is slow, fails and cuts its answers: no wrong token is read, and what is wrong is
one line."""

import threading
from pathlib import Path

import numpy as np
import pytest

from ladder.data.storage import retries, store
from ladder.data.storage.ranges import Storages
from ladder.data.tokens import blocks, formats, index, indexing, token_files, verify
from ladder.errors import DamagedError, InputError, Preempted
from launch import cli
from tests.ladder.data.tokens import written
from tests.stores import Faults, FaultyStore, Proxy, faulty_store, upload

EOS, VOCAB, SEQ_LEN = 7, 250, 512
FOLDER = "faulty://bucket/tokens"


def write(folder: Path) -> np.ndarray:
    """Files of three kinds, 30 blocks; returns their stream."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, VOCAB, 300_000 + i) for i in range(3)]
    written.npy(folder / "a.npy", parts[0], "uint16")
    written.raw(folder / "b.npy", parts[1], "uint16")
    written.megatron(folder / "c.bin", np.array_split(parts[2], 500), "uint16")
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """(a folder of token files with their index, {split: every window})."""
    folder = tmp_path_factory.mktemp("on-disk")
    write(folder)
    indexing.build([folder], dtype="uint16", eos=EOS, validation=0.05, workers=1)
    opened = token_files.open_token_files([folder], SEQ_LEN, vocab_size=VOCAB)
    return folder, {split: opened.read(split, range(opened.windows[split])) for split in index.SPLITS}


@pytest.fixture
def objects(on_disk, monkeypatch):
    """The folder `on_disk` as objects of faulty://, which do not fail yet; pauses are short."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    with faulty_store() as objects:
        upload(on_disk[0], objects, FOLDER)
        yield objects


def opened() -> token_files.TokenFiles:
    return token_files.open_token_files([FOLDER], SEQ_LEN, vocab_size=VOCAB)


def assert_windows(source, windows: dict[str, np.ndarray], n: int, at_once: int, seed: int = 0) -> None:
    """n random windows of both splits are right, read `at_once` at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, n, at_once):
        split = index.SPLITS[int(rng.random() < 0.1)]
        chosen = rng.integers(0, len(windows[split]), min(at_once, n - start))
        np.testing.assert_array_equal(source.read(split, chosen), windows[split][chosen])


@pytest.mark.parametrize(("n", "at_once"), [(1500, 16), pytest.param(1_000_000, 64, marks=pytest.mark.chaos)])
def test_no_wrong_token_comes_from_a_store_that_fails(on_disk, objects, n, at_once):
    faults = FaultyStore.faults = Faults(share=0.05, latency=0.001)
    source = opened()
    assert_windows(source, on_disk[1], n, at_once)
    assert all(faults.failed[fault] for fault in ("error", "cut", "short")) and source.hash
    print(f"{n:,} windows, {faults.kinds.total():,} requests, of which failed: {dict(faults.failed)}")


def test_an_index_made_in_a_store_that_fails_is_that_of_the_disk(on_disk, objects, tmp_path):
    FaultyStore.faults = Faults(share=0.05)
    expected = index.read(on_disk[0] / "ladder-index")
    for name in [name for name in objects if "ladder-index" in name]:
        del objects[name]
    with pytest.raises(InputError, match=f"no index of these token files; make it: `ladder data index {FOLDER}`"):
        opened()
    for folder in (None, str(tmp_path / "on-disk"), "faulty://bucket/elsewhere"):
        made = indexing.build([FOLDER], dtype="uint16", eos=EOS, validation=0.05, folder=folder)
        assert made.hash == expected.hash and made.entries == expected.entries
        source = token_files.open_token_files([folder or FOLDER], SEQ_LEN, vocab_size=VOCAB)
        assert_windows(source, on_disk[1], 200, at_once=100)
        source = token_files.open_token_files([FOLDER], SEQ_LEN, folder=folder, vocab_size=VOCAB)
        assert_windows(source, on_disk[1], 200, at_once=100)
        assert verify.verify(index.read(made.folder)) == []
    made = indexing.build([on_disk[0]], dtype="uint16", eos=EOS, validation=0.05, folder="faulty://bucket/of-a-disk")
    source = token_files.open_token_files(["faulty://bucket/of-a-disk"], SEQ_LEN, vocab_size=VOCAB)
    assert_windows(source, on_disk[1], 200, at_once=100)


def test_an_index_goes_on_with_the_objects_that_are_finished(objects):
    kinds = FaultyStore.faults.kinds

    def reads() -> int:
        before = kinds["get"]
        indexing.build([FOLDER], dtype="uint16", eos=EOS, validation=0.05)
        return kinds["get"] - before

    whole, again = reads(), reads()
    content, generation = objects["bucket/tokens/b.npy"]
    objects["bucket/tokens/b.npy"] = content, generation + 1
    assert again < reads() < whole


def test_a_store_that_takes_one_request_at_a_time(on_disk):
    """fsspec's memory:// is not asynchronous."""
    folder, windows = on_disk
    for path in folder.rglob("*.[nbi][pid][ynx]"):
        Storages().of("memory://one").write(f"memory://one/tokens/{path.name}", path.read_bytes())
    for paths in (["memory://one/tokens"], ["memory://one/tokens/*.npy", "memory://one/tokens/c"]):
        made = indexing.build(paths, dtype="uint16", eos=EOS, validation=0.05)
        assert made.hash == index.read(folder / "ladder-index").hash
        assert_windows(token_files.open_token_files(paths, SEQ_LEN, vocab_size=VOCAB), windows, 100, at_once=20)


def test_names_are_found_in_a_bucket(objects):
    for name in (".hidden/x.npy", "notes.md", "deep/1.npy"):
        objects[f"bucket/tokens/{name}"] = b"\0\0", 1
    found = [str(file) for file in formats.find([FOLDER])]
    everything = [f"{FOLDER}/{name}" for name in ("a.npy", "b.npy", "c.bin", "deep/1.npy")]
    assert found == everything
    assert [str(file) for file in formats.find([f"{FOLDER}/c", f"{FOLDER}/*.npy", f"{FOLDER}/a.npy"])] == everything[:3]
    cases = {"nowhere": "no such file or folder", "c.idx": "not a token file", "*.x": "no token files here"}
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            formats.find([f"{FOLDER}/{name}"])
    with pytest.raises(InputError, match=r"the files are in a disk and faulty://bucket; make an index for each"):
        indexing.build([FOLDER, __file__], dtype="uint8", eos=EOS)
    with pytest.raises(InputError, match=r"nostore://x: cannot be read: Protocol not known"):
        formats.find(["nostore://x"])


def test_requests_are_few_and_hashes_are_not_read_whole(on_disk, objects, monkeypatch):
    kinds, source = FaultyStore.faults.kinds, opened()
    asked = []
    cat = FaultyStore._cat_file

    async def counted(self, path, start=None, end=None, **kwargs):
        asked.append((path, end - start))
        return await cat(self, path, start=start, end=end, **kwargs)

    monkeypatch.setattr(FaultyStore, "_cat_file", counted)
    before, stats = kinds["get"], kinds["stat"]
    source.read("train", [3, 3, 4, 600])  # neighbours are one request
    hashes = [n for path, n in asked if path.endswith(".hashes")]
    assert kinds["get"] - before == 4 and len(hashes) == 2 and kinds["stat"] == stats
    assert sum(n for _, n in asked) <= 4 * blocks.BLOCK
    source.read("train", [3])
    assert kinds["get"] - before == 5
    objects["bucket/large"] = bytes(1 << 23), 1
    known = Storages().of("faulty://bucket/large").open("faulty://bucket/large")
    steps = range(0, known.size, blocks.BLOCK)
    requests, places = store.merged([(known, at, at + 10) for at in steps])
    assert [(first, stop) for _, first, stop in requests] == [
        (0, (1 << 22) - blocks.BLOCK + 10),
        (1 << 22, steps[-1] + 10),
    ]
    assert places == [0] * 64 + [1] * 64


def test_many_files_are_opened_with_few_requests(tmp_path, objects):
    for i in range(200):
        written.raw(tmp_path / f"{i:03}.bin", np.full(100, i), "uint16")
    indexing.build([tmp_path], dtype="uint16", validation=0)
    upload(tmp_path, objects, "faulty://bucket/many")
    kinds = FaultyStore.faults.kinds
    kinds.clear()
    source = token_files.open_token_files(["faulty://bucket/many/ladder-index"], 100, vocab_size=VOCAB)
    assert kinds.total() < 10
    kinds.clear()
    np.testing.assert_array_equal(source.read("train", range(199))[:, 0], np.arange(199))
    assert kinds.total() == kinds["get"] <= 402  # a block and a page of hashes of each file


def test_bytes_that_arrive_wrong_once_are_asked_for_again(on_disk, objects, monkeypatch):
    source, cat, answers = opened(), FaultyStore._cat_file, []

    async def every_third_is_wrong(self, path, start=None, end=None, **kwargs):
        content = bytearray(await cat(self, path, start=start, end=end, **kwargs))
        answers.append(path)
        if len(answers) % 3 == 0:
            content[len(content) // 2] ^= 1
        return bytes(content)

    monkeypatch.setattr(FaultyStore, "_cat_file", every_third_is_wrong)
    assert_windows(source, on_disk[1], 100, at_once=1)
    assert len(answers) > 130


def change(objects: dict, name: str, content: bytes) -> None:
    objects[f"bucket/tokens/{name}"] = content, objects[f"bucket/tokens/{name}"][1] + 1


def test_what_happens_to_an_object_that_is_open_is_named(on_disk, objects):
    original = dict(objects)
    content = original["bucket/tokens/b.npy"][0]
    cases = {
        r"b\.npy: was written anew since it was opened; restore": lambda: change(objects, "b.npy", content[::-1]),
        r"b\.npy: byte 131,072: the file was cut here, to 131,072 bytes": lambda: change(
            objects, "b.npy", content[:131_072]
        ),
        r"b\.npy: is missing now": lambda: objects.pop("bucket/tokens/b.npy"),
        r"b\.npy: bytes 196,608 to 262,144: not the bytes that were indexed": lambda: objects.update(
            {"bucket/tokens/b.npy": (content[:200_000] + b"\1\1\1" + content[200_003:], 1)}
        ),
    }
    windows = on_disk[1]["train"]
    for message, damage in cases.items():
        objects.update(original)
        source = opened()
        source.read("train", [100, 700])  # from a store, a block that was right before is checked again
        damage()
        np.testing.assert_array_equal(source.read("train", range(100)), windows[:100])
        with pytest.raises(DamagedError, match=message) as error:
            source.read("train", range(600, 1000))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("fails", [OSError("503"), ConnectionResetError("cut"), TimeoutError(), EOFError()])
def test_a_store_that_stays_down_is_one_line_and_exit_75(on_disk, objects, monkeypatch, capsys, fails):
    monkeypatch.setattr(retries, "PATIENCE", 0.05)
    source = opened()

    async def down(self, kind):
        raise fails

    monkeypatch.setattr(FaultyStore, "_fail", down)
    with pytest.raises(Preempted, match=r"a\.npy: byte 0: the store did not answer for 0 s") as error:
        source.read("train", [0])
    assert "\n" not in str(error.value)
    for command in (["verify", FOLDER], ["data", "index", FOLDER, "--dtype", "uint16", "--eos", "7"]):
        assert cli.main(command) == 75
        err = capsys.readouterr().err
        assert err.startswith("stopped: faulty://bucket/tokens") and err.count("\n") == 1


def test_what_no_attempt_mends_is_said_at_once(objects, monkeypatch, capsys):
    async def refused(self, kind):
        raise PermissionError("Forbidden: bucket")

    monkeypatch.setattr(FaultyStore, "_fail", refused)
    assert cli.main(["verify", FOLDER]) == 2
    assert "the store refuses it (PermissionError: Forbidden: bucket); check the name" in capsys.readouterr().err


def test_a_request_that_is_never_answered_is_sent_again(on_disk, objects, monkeypatch):
    source, first = opened(), threading.Event()
    cat = FaultyStore._cat_file

    async def hangs_once(self, path, start=None, end=None, **kwargs):
        if not first.is_set():
            first.set()
            await store.asyncio.sleep(60)
        return await cat(self, path, start=start, end=end, **kwargs)

    monkeypatch.setattr(FaultyStore, "_cat_file", hangs_once)
    monkeypatch.setattr(store, "TIMEOUT", 0.2)
    assert_windows(source, on_disk[1], 20, at_once=10)


@pytest.mark.parametrize(
    ("n", "share"), [(200, 0.3), pytest.param(20_000, 0.05, marks=pytest.mark.chaos)], ids=["200", "20000"]
)
def test_no_wrong_token_comes_over_http(on_disk, bucket, monkeypatch, n, share):
    """fake-gcs-server behind a proxy that is slow, answers 503, and cuts connections."""
    import gcsfs.retry

    folder, windows = on_disk
    remote = Storages().of(f"{bucket.url}/tokens")
    for path in folder.rglob("*"):
        if path.is_file():
            remote.write(f"{bucket.url}/tokens/{path.relative_to(folder).as_posix()}", path.read_bytes())
    if n < 1000:  # gcsfs would wait a second or two before it sends a request again
        monkeypatch.setattr(gcsfs.retry.random, "random", lambda: 0.0)
        monkeypatch.setattr(gcsfs.retry, "min", lambda pause, most: 0.01, raising=False)
    with Proxy(bucket.server.port, Faults(share, latency=0.02)) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        source = token_files.open_token_files([f"{bucket.url}/tokens"], SEQ_LEN, vocab_size=VOCAB)
        assert_windows(source, windows, n, at_once=40)
        failed = proxy.faults.failed
        assert all(failed[fault] for fault in ("error", "cut", "short"))
    print(f"{n:,} windows, {proxy.faults.kinds.total():,} requests, of which failed: {dict(failed)}")
