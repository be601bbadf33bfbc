"""Windows of token files are those that numpy cuts from the same tokens; opening 20 GB reads none of them."""

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.data.storage import disk
from ladder.data.storage.ranges import Storages
from ladder.data.tokens import blocks, index, indexing, token_files, verify
from ladder.errors import DamagedError, InputError
from tests.ladder.data.tokens import written

EOS, VOCAB = 7, 250


@contextlib.contextmanager
def small_blocks(block: int, chunk: int):
    """Blocks of a few bytes, so that small files have many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, index, indexing, token_files, verify):
            patch.setattr(module, "BLOCK", block)
        patch.setattr(indexing, "CHUNK", chunk * block)
        patch.setattr(os, "fsync", lambda fd: None)  # half of the time
        yield


@st.composite
def sources(draw) -> list[tuple]:
    """(format, dtype, documents) of each file; every document of a flat file but the last ends in EOS."""
    files = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["raw", "npy", "odd", "saved", "megatron", "megatron3", "old"]))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        documents = []
        for length in draw(st.lists(st.integers(1, 60), min_size=1, max_size=12)):
            ids = rng.integers(8, VOCAB, length)
            ids[-1] = EOS
            documents.append(ids)
        if len(documents) > 1 and draw(st.booleans()):  # a document that the end of the file ends
            documents[-1] = np.concatenate([documents[-1][:-1], [9]])
        files.append((kind, draw(st.sampled_from(["uint16", "int32"])), documents))
    return files


def write(folder: Path, files: list[tuple]) -> None:
    for i, (kind, dtype, documents) in enumerate(files):
        ids, path = np.concatenate(documents), folder / f"{i}.npy"
        match kind:
            case "raw":
                written.npy(path, ids, dtype)
            case "npy":
                written.npy(path, ids, dtype, version=2)
            case "odd":
                written.npy(path, ids, dtype, padding=1)
            case "saved":
                np.save(path, ids.astype(dtype))
            case _:
                form = {"megatron": {}, "megatron3": {"parts": 3}, "old": {"old": True}}[kind]
                written.megatron(path.with_suffix(".bin"), documents, dtype, **form)


def streams(files: list[tuple], fraction: float) -> tuple[dict, dict]:
    """({split: tokens}, {split: number of documents}), with the document of the least hash held out where none is."""
    keyed = []
    for _, dtype, documents in files:
        for document in documents:
            data = document.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
            keyed.append((int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big"), document))
    held_out = [key < int(fraction * 2**64) for key, _ in keyed]
    if fraction and not any(held_out):
        held_out[min(range(len(keyed)), key=lambda i: keyed[i][0])] = True
    parts = {split: [] for split in index.SPLITS}
    for held, (_, document) in zip(held_out, keyed, strict=True):
        parts["validation" if held else "train"].append(document)
    tokens = {split: np.concatenate([np.empty(0, np.int64), *documents]) for split, documents in parts.items()}
    return tokens, {split: len(documents) for split, documents in parts.items()}


@settings(max_examples=150, deadline=None)
@given(sources(), st.sampled_from([0.0, 0.02, 0.3, 0.49]), st.integers(1, 33), st.sampled_from([8, 56, 1024]))
def test_every_window_is_what_numpy_cuts(files, fraction, seq_len, block):
    tokens, documents = streams(files, fraction)
    with small_blocks(block, chunk=3), tempfile.TemporaryDirectory() as folder:
        write(Path(folder), files)
        if len(tokens["train"]) <= seq_len:
            with pytest.raises(InputError, match=r"held out|fewer than a window"):
                indexing.build([folder], eos=EOS, validation=fraction, workers=2)
                token_files.open_token_files([folder], seq_len, vocab_size=VOCAB)
            return
        made = indexing.build([folder], eos=EOS, validation=fraction, workers=2)
        opened = token_files.open_token_files([folder], seq_len, vocab_size=VOCAB)
        assert opened.tokens == {split: len(stream) for split, stream in tokens.items()}
        assert opened.documents == documents and opened.hash == made.hash
        for split, stream in tokens.items():
            assert opened.windows[split] == max(0, (len(stream) - 1) // seq_len)
            order = np.random.default_rng(0).permutation(opened.windows[split])
            some = order.tolist() + order.tolist()[:3]  # the second time from checked blocks
            expected = [stream[w * seq_len : (w + 1) * seq_len + 1] for w in some]
            windows = [opened.read(split, [w])[0] for w in some]
            together = opened.read(split, some)
            assert together.dtype == np.int32
            np.testing.assert_array_equal(together, np.reshape(expected, (-1, seq_len + 1)))
            np.testing.assert_array_equal(together, np.reshape(windows, (-1, seq_len + 1)))
            with pytest.raises(IndexError):
                opened.read(split, [opened.windows[split]])
        assert verify.verify(made) == []


def two_files(folder: Path, rng=None, dtype: str = "uint16", tokens: int = 150_000) -> np.ndarray:
    """Two raw files; returns their stream."""
    rng = rng or np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [rng.integers(0, VOCAB, tokens + i) for i in range(2)]
    for i, ids in enumerate(parts):
        written.raw(folder / f"{i}.bin", ids, dtype)
    return np.concatenate(parts)


def test_real_blocks_and_windows_of_any_length(tmp_path):
    stream = two_files(tmp_path, dtype="uint32")
    indexing.build([tmp_path], dtype="uint32", validation=0)
    for seq_len in (1, 2048, 16_384, 120_000, len(stream) - 1):
        opened = token_files.open_token_files([tmp_path], seq_len, vocab_size=VOCAB)
        last = opened.windows["train"] - 1
        for w in {0, last // 2, last}:
            np.testing.assert_array_equal(opened.read("train", [w])[0], stream[w * seq_len : (w + 1) * seq_len + 1])


def test_a_random_window_reads_few_bytes(tmp_path, monkeypatch):
    stream = two_files(tmp_path, tokens=1_000_000)
    indexing.build([tmp_path], dtype="uint16", eos=EOS, validation=0.01)
    sizes, pread = [], os.pread
    opened = token_files.open_token_files([tmp_path], 2048, vocab_size=VOCAB)
    monkeypatch.setattr(os, "pread", lambda fd, n, at: sizes.append(n) or pread(fd, n, at))
    opened.read("train", [400])
    assert sum(sizes) <= 2 * 2 * blocks.BLOCK  # two blocks of each of two files at most, and a page of hashes
    sizes.clear()
    opened.read("train", [400])
    assert sum(sizes) == 2 * 2049
    assert len(stream) == 2_000_001


def test_many_files_need_few_open_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.Disk.__init__, "__defaults__", ("restore the file", 3))
    for i in range(40):
        written.raw(tmp_path / f"{i:02}.bin", np.full(100, i), "uint16")

    def opened_now() -> int:
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(os.path.realpath(link).startswith(str(tmp_path)) for link in links)

    indexing.build([tmp_path], dtype="uint16", validation=0)
    opened = token_files.open_token_files([tmp_path], 1000, vocab_size=VOCAB)
    for _ in range(2):
        read = opened.read("train", range(opened.windows["train"]))[:, :-1].reshape(-1)
        np.testing.assert_array_equal(read, np.repeat(np.arange(40), 100)[: len(read)])
        assert 0 < opened_now() <= 10


def test_threads_share_it(tmp_path):
    stream = two_files(tmp_path)
    indexing.build([tmp_path], dtype="uint16", eos=EOS, validation=0)
    opened = token_files.open_token_files([tmp_path], 128, vocab_size=VOCAB)
    wrong = []

    def read(seed: int) -> None:
        for w in np.random.default_rng(seed).permutation(opened.windows["train"]).tolist():
            if not np.array_equal(opened.read("train", [w])[0], stream[w * 128 : w * 128 + 129]):
                wrong.append(w)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_id_outside_the_vocabulary_is_named_with_its_place(tmp_path):
    stream = two_files(tmp_path)
    stream[150_123] = 9000
    written.raw(tmp_path / "1.bin", stream[150_000:], "uint16")
    place = r"1.bin: token 123 \(byte 246\) is 9,000, but the vocabulary has 25[06] ids"
    opened = token_files.open_token_files([tmp_path], 100, dtype="uint16", vocab_size=VOCAB, unchecked=True)
    with pytest.raises(InputError, match=place):
        opened.read("train", [1501])
    np.testing.assert_array_equal(opened.read("train", [1502])[0], stream[150_200:150_301])
    with pytest.raises(InputError, match=place):
        indexing.build([tmp_path], dtype="uint16", tokenizer="bytes")
    indexing.build([tmp_path], dtype="uint16", eos=EOS)
    with pytest.raises(InputError, match=place):
        token_files.open_token_files([tmp_path], 100, vocab_size=VOCAB)
    assert token_files.open_token_files([tmp_path], 100, vocab_size=9001).read("train", [1]).shape == (1, 101)
    ids = np.arange(100)
    ids[60] = -2
    written.raw(tmp_path / "negative.bin", ids, "int32")
    opened = token_files.open_token_files([tmp_path / "negative.bin"], 9, dtype="int32", vocab_size=250, unchecked=True)
    with pytest.raises(InputError, match=r"token 60 \(byte 240\) is -2"):
        opened.read("train", [6])


def test_without_an_index(tmp_path):
    stream = two_files(tmp_path)
    with pytest.raises(InputError, match=f"no index of these token files; make it: `ladder data index {tmp_path}`"):
        token_files.open_token_files([tmp_path], 100, dtype="uint16", vocab_size=VOCAB)
    opened = token_files.open_token_files([tmp_path], 100, dtype="uint16", vocab_size=VOCAB, unchecked=True)
    assert opened.unchecked and "read unchecked" in opened.note and "\n" not in opened.note
    assert opened.windows == {"train": 3000, "validation": 0} and opened.documents is None
    np.testing.assert_array_equal(opened.read("train", [1500])[0], stream[150_000:150_101])
    indexing.build([tmp_path], dtype="uint16", eos=EOS)
    checked = token_files.open_token_files([tmp_path], 100, vocab_size=VOCAB, unchecked=True)
    assert not checked.unchecked and checked.note is None and checked.hash != opened.hash


def test_files_and_index_can_move_together(tmp_path):
    stream = two_files(tmp_path / "here" / "deep")
    before = indexing.build([tmp_path / "here"], dtype="uint16", eos=EOS, validation=0).hash
    (tmp_path / "here").rename(tmp_path / "there")
    for paths in ([tmp_path / "there"], [tmp_path / "there" / "ladder-index"]):
        opened = token_files.open_token_files(paths, 100, vocab_size=VOCAB)
        assert opened.hash == before
        np.testing.assert_array_equal(opened.read("train", [2])[0], stream[200:301])


def test_other_files_than_those_of_the_index_are_refused(tmp_path):
    two_files(tmp_path)
    indexing.build([tmp_path], dtype="uint16", eos=EOS)
    written.raw(tmp_path / "2.bin", [1, 2], "uint16")
    with pytest.raises(InputError, match=r"2\.bin: not in the index"):
        token_files.open_token_files([tmp_path], 100, vocab_size=VOCAB)
    (tmp_path / "2.bin").unlink()
    (tmp_path / "1.bin").unlink()
    with pytest.raises(DamagedError, match=r"1\.bin: in the index .* but not among the files"):
        token_files.open_token_files([tmp_path], 100, vocab_size=VOCAB)
    with pytest.raises(DamagedError, match=r"1\.bin: cannot be read"):
        token_files.open_token_files([tmp_path / "ladder-index"], 100, vocab_size=VOCAB)


@pytest.mark.slow
def test_a_real_gigabyte(tmp_path):
    rng, ids = np.random.default_rng(0), []
    for i in range(4):
        ids.append(rng.integers(0, 50_000, 64 << 20, dtype=np.uint32))
        ids[-1][rng.integers(0, len(ids[-1]), len(ids[-1]) // 1000)] = EOS
        np.save(tmp_path / f"{i}.npy", ids[-1])
    start = time.perf_counter()
    made = indexing.build([tmp_path], eos=EOS, workers=2)
    print(f"{sum(entry.size for entry in made.entries) / 1e6 / (time.perf_counter() - start):.0f} MB/s indexed")
    opened = token_files.open_token_files([tmp_path], 2048, vocab_size=50_000)
    stream = np.concatenate(ids)
    assert opened.tokens["train"] + opened.tokens["validation"] == len(stream)
    train = opened.read("train", range(opened.windows["train"]))[:, :-1].reshape(-1)
    held = np.concatenate([rows + i * len(ids[0]) for i, rows in enumerate(made.held_out(Storages()))])
    kept = np.ones(len(stream), bool)
    for first, stop in held:
        kept[first:stop] = False
    np.testing.assert_array_equal(train, stream[kept][: len(train)])
    assert 0.0005 < opened.documents["validation"] / opened.documents["train"] < 0.002
    assert verify.verify(made) == []
