"""Whatever happens to token files or to their index after it was made: it is named, and no wrong token is read."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ladder.data.storage import disk
from ladder.data.tokens import blocks, index, indexing, token_files, verify
from ladder.errors import DamagedError, InputError
from launch import cli
from tests import stores
from tests.ladder.data.tokens import written

SEQ_LEN, VOCAB = 1023, 250


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """(a folder of three files of 4 blocks with their index, {split: every window}). Two files have the same size."""
    folder, rng = tmp_path_factory.mktemp("indexed"), np.random.default_rng(0)
    for name in ("a.npy", "b.npy"):
        written.npy(folder / name, rng.integers(0, VOCAB, 100_000), "uint16")
    documents = [rng.integers(0, VOCAB, 300) for _ in range(200)]
    written.megatron(folder / "c.bin", documents, "int32")
    indexing.build([folder], eos=3, validation=0.05)
    opened = token_files.open_token_files([folder], SEQ_LEN, vocab_size=VOCAB)
    return folder, {split: read_all(opened, split) for split in index.SPLITS}


def read_all(opened, split: str) -> np.ndarray:
    return opened.read(split, range(opened.windows[split]))


def flip(path: Path, rng) -> int:
    """Flip a random bit of a file; returns its byte."""
    content = bytearray(path.read_bytes())
    at = int(rng.integers(len(content)))
    content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return at


def inject(folder: Path, kind: str, rng) -> tuple[set[str], int | None]:
    """Damage something; returns the names of which one must be named, and the damaged byte where it must be too."""
    name = str(rng.choice(["a.npy", "b.npy", "c.bin"]))
    path = folder / name
    size = path.stat().st_size
    match kind:
        case "a flipped bit":
            return {name}, flip(path, rng)
        case "cut":
            os.truncate(path, int(rng.integers(1, size)))
        case "grown":
            os.truncate(path, size + int(rng.integers(1, 70_000)))
        case "missing":
            path.unlink()
        case "exchanged":  # two of the same size, and the older times
            times = [(folder / one).stat() for one in ("a.npy", "b.npy")]
            os.replace(folder / "a.npy", folder / "x")
            os.replace(folder / "b.npy", folder / "a.npy")
            os.replace(folder / "x", folder / "b.npy")
            for one, status in zip(("a.npy", "b.npy"), times, strict=True):
                os.utime(folder / one, ns=(status.st_atime_ns, status.st_mtime_ns))
            return {"a.npy", "b.npy"}, None
        case "a block of zeros":
            at = int(rng.integers(size // blocks.BLOCK)) * blocks.BLOCK
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes(4096))
            return {name}, at
        case _:
            suffix = {"hashes": "hashes", "validation": "validation"}.get(kind)
            target = folder / "ladder-index" / (f"files/{name}.{suffix}" if suffix else "index.json")
            flip(target, rng)
            return {target.name, name}, None
    return {name}, None


KINDS = ["a flipped bit"] * 5 + ["cut", "grown", "missing", "exchanged", "a block of zeros"]
KINDS += ["hashes", "validation", "index.json"]


@pytest.mark.parametrize(
    ("where", "n", "at_once"),
    [("disk", 200, 1), ("store", 13, 8), pytest.param("store", 200, 1, marks=pytest.mark.chaos)],
)
def test_injections(indexed, tmp_path, where, n, at_once):
    folder, windows = indexed
    rng = np.random.default_rng(1)
    with stores.faulty_store() as objects:
        for i in range(n):
            copy = shutil.copytree(folder, tmp_path / str(i))
            kind = KINDS[i % len(KINDS)]
            names, byte = inject(copy, kind, rng)
            named = str(copy)
            if where == "store":
                stores.upload(copy, objects, named := f"faulty://bucket/{i}")
            errors = read_in_any_order(named, windows, at_once, rng)
            assert errors, (kind, names)
            lines = errors | verified(named)
            for line in lines:
                assert any(f"/{name}:" in line for name in names) and "\n" not in line, (kind, line)
            if byte is not None:
                assert all(contains(line, byte) for line in lines)
            shutil.rmtree(copy)


def read_in_any_order(folder: str, windows: dict[str, np.ndarray], at_once: int, rng) -> set[str]:
    """Why windows of a damaged folder could not be read; all others are right."""
    errors = set()
    try:
        opened = token_files.open_token_files([folder], SEQ_LEN, vocab_size=VOCAB)
    except InputError as error:
        return {str(error)}
    for split in index.SPLITS:
        order = rng.permutation(opened.windows[split])
        for start in range(0, len(order), at_once):
            chosen = order[start : start + at_once]
            try:
                read = opened.read(split, chosen)
            except DamagedError as error:
                errors.add(str(error))
            else:
                assert np.array_equal(read, windows[split][chosen]), (folder, split, chosen)
    return errors


def verified(folder: str) -> set[str]:
    """The lines that `verify` gives, of which there must be one."""
    try:
        lines = set(verify.verify(index.read(f"{folder}/ladder-index")))
    except DamagedError as error:
        lines = {str(error)}
    assert lines
    return lines


def contains(line: str, byte: int) -> bool:
    first, stop = (int(text.replace(",", "")) for text in re.search(r"bytes ([\d,]+) to ([\d,]+)", line).groups())
    return first <= byte < stop <= first + blocks.BLOCK


def test_damage_while_it_is_read(indexed, tmp_path):
    folder, windows = indexed
    copy = shutil.copytree(folder, tmp_path / "copy")
    opened = token_files.open_token_files([copy], SEQ_LEN, vocab_size=VOCAB)
    np.testing.assert_array_equal(opened.read("train", [0])[0], windows["train"][0])
    os.truncate(copy / "a.npy", 1000)
    with pytest.raises(DamagedError, match=r"a\.npy: byte 1,000: the file was cut here"):
        for w in range(100):
            opened.read("train", [w])
    (copy / "a.npy").unlink()
    opened = token_files.open_token_files([folder], SEQ_LEN, vocab_size=VOCAB)
    assert opened.read("train", [1])[0].tolist() == windows["train"][1].tolist()


def test_a_file_that_is_opened_again_is_checked_again(indexed, tmp_path, monkeypatch):
    monkeypatch.setattr(disk.Disk.__init__, "__defaults__", ("restore the file", 1))
    folder, windows = indexed
    copy = shutil.copytree(folder, tmp_path / "copy")
    opened = token_files.open_token_files([copy], SEQ_LEN, vocab_size=VOCAB)
    np.testing.assert_array_equal(opened.read("train", [0])[0], windows["train"][0])
    opened.read("train", [opened.windows["train"] - 1])  # of another file, so that the first is closed
    written.npy(copy / "new", np.zeros(100_000, int), "uint16")
    os.replace(copy / "new", copy / "a.npy")
    with pytest.raises(DamagedError, match=r"a\.npy: bytes 0 to 65,536: not the bytes that were indexed"):
        opened.read("train", [0])


def test_verify_names_every_place(indexed, tmp_path, capsys):
    folder, _ = indexed
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert cli.main(["verify", str(copy)]) == 0
    assert "1 of 1 undamaged" in capsys.readouterr().out
    with open(copy / "a.npy", "r+b") as file:
        for at in (10, 70_000, 197_000):
            file.seek(at)
            file.write(b"\xff\xff\xff")
    os.truncate(copy / "c.bin", 4000)
    out = tmp_path / "out.json"
    assert cli.main(["verify", str(copy / "ladder-index"), "--json", str(out)]) == 1
    text = out.read_text()
    assert "a.npy: bytes 0 to 131,072, 196,608 to 200,128: not the bytes" in text
    assert "c.bin: byte 4,000: the file was cut here" in text
    assert cli.main(["verify", str(copy), "--rung", "x"]) == 2
    assert "--rung: no effect with token files" in capsys.readouterr().err
