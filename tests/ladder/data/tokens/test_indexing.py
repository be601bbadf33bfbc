"""`ladder data index`: killed and run again it gives the same index; wrong flags and files are one line."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ladder.data import tokenizer
from ladder.data.tokens import index, indexing, token_files, verify
from ladder.errors import InputError, Preempted
from launch import cli
from tests.ladder.data.tokens import written

ROOT = Path(__file__).parents[4]
EOS, FILES = 3, 6


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six raw files of 60,000 tokens, in two folders."""
    rng = np.random.default_rng(0)
    for i in range(FILES):
        path = tmp_path / "tokens" / f"part{i % 2}" / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        written.raw(path, rng.integers(0, 200, 60_000 + i), "uint16")
    return tmp_path / "tokens"


def build(tokens: Path, **flags) -> tuple[index.Index, int]:
    """(the index, how many bytes were read for it)."""
    sizes = []
    settings = {"dtype": "uint16", "eos": EOS, "validation": 0.01, "start_bar": lambda n: sizes.append(n) or int}
    return indexing.build([tokens], **settings | flags), sum(sizes)


def killed(folder: Path, kill_at: str | None = None, after: float = 60) -> int:
    """The exit code of `ladder data index` in a process that is killed."""
    arguments = ["data", "index", str(folder), "--dtype", "uint16", "--eos", str(EOS), "--validation", "0.01"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"LADDER_KILL_AT": kill_at} if kill_at else {})
    process = subprocess.Popen([sys.executable, "-m", "launch.cli", *arguments, "--workers", "1"], env=environment)
    try:
        return process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def test_a_killed_indexing_goes_on_with_the_files_that_are_finished(folder, tmp_path):
    whole, size = build(folder, folder=tmp_path / "elsewhere")
    assert size == sum(entry.size for entry in whole.entries)
    assert killed(folder, "indexed-file:3") == -signal.SIGKILL
    with pytest.raises(InputError, match="no index of these token files"):
        token_files.open_token_files([folder], 100, vocab_size=200)
    made, read = build(folder)
    assert read == sum(sorted(entry.size for entry in made.entries)[: FILES - 3])  # the largest are read first
    assert made.hash == whole.hash and made.entries == whole.entries
    assert build(folder)[1] == 0


def test_processes_give_the_same_index(folder, tmp_path, monkeypatch):
    threads = build(folder, folder=tmp_path / "threads")[0]
    monkeypatch.setattr(indexing, "IN_THREADS", 0)
    advanced = []
    made, _ = build(folder, workers=2, folder=tmp_path / "x", start_bar=lambda n: advanced.append)
    assert made.entries == threads.entries and made.hash == threads.hash
    assert sum(advanced) == size_of(made)
    monkeypatch.setenv("LADDER_KILL_AT", "indexed-file:1")
    with pytest.raises(Preempted, match="the process that indexes it ended with code -9; run the command again"):
        build(folder, workers=2)
    monkeypatch.delenv("LADDER_KILL_AT")
    made, read = build(folder, workers=2)
    assert made.hash == threads.hash and read < size_of(made)
    written.megatron(folder / "part0" / "8.bin", [[1, 2], [4]], "uint16")
    written.megatron(folder / "part0" / "9.bin", [[1, 2], [4]], "uint16")
    idx = folder / "part0" / "9.idx"
    idx.write_bytes(idx.read_bytes()[:-8] + bytes(8))
    with pytest.raises(InputError, match=r"9\.idx: byte 58: its documents are not its sequences"):
        build(folder, workers=2)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_no_process_outlives_a_killed_parent(folder):
    code = "import sys, os, signal, ladder.data.tokens.indexing as i; i.IN_THREADS = 0; "
    code += "i.build([sys.argv[1]], dtype='uint16', eos=3, workers=2, start_bar=lambda n: lambda m: "
    code += "os.kill(os.getpid(), signal.SIGKILL))"
    process = subprocess.run([sys.executable, "-c", code, str(folder)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while left := orphans():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def orphans() -> list[str]:
    """Processes of workers.py that process 1 has inherited."""
    commands = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if "ladder.data.tokens.workers" in command and parent == "1":
                commands.append(command)
    return commands


def size_of(made: index.Index) -> int:
    return sum(entry.size for entry in made.entries)


@pytest.mark.chaos
def test_kills_at_any_time(folder, tmp_path):
    expected = build(folder, folder=tmp_path / "elsewhere")[0].hash
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    killed(folder)
    whole = time.perf_counter() - start
    for _ in range(20):
        killed(folder, after=rng.uniform(0.3, 1) * whole)
        for path in (folder / "ladder-index").rglob("*.part.json"):
            if rng.random() < 0.3:
                path.unlink()
    made, _ = build(folder)
    assert made.hash == expected and verify.verify(made) == []


def test_a_file_that_was_written_since_is_read_again(folder):
    before, _ = build(folder)
    path = folder / "part0" / "2.npy"
    status = path.stat()
    ids = np.fromfile(path, "<u2")
    ids[100] = 17
    path.write_bytes(ids.tobytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the time of the change tells nevertheless
    after, read = build(folder)
    assert read == path.stat().st_size and after.hash != before.hash
    assert build(folder, validation=0.02)[1] == sum(entry.size for entry in after.entries)
    assert build(folder, eos=4)[1] == sum(entry.size for entry in after.entries)


def test_the_hash_is_of_the_content_and_the_split(folder, tmp_path):
    base = build(folder)[0].hash
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert build(moved, folder=tmp_path / "x")[0].hash == base
    hashes = {base, build(moved, validation=0.02)[0].hash, build(moved, eos=4)[0].hash}
    (moved / "part1" / "1.npy").rename(moved / "part1" / "9.npy")  # another order
    hashes.add(build(moved)[0].hash)
    (moved / "part1" / "9.npy").unlink()
    hashes.add(build(moved)[0].hash)
    assert len(hashes) == 5
    again = {build(moved, workers=n, folder=tmp_path / f"w{n}")[0].hash for n in (1, 4)}
    assert len(again) == 1


def test_files_that_are_named_are_held_out(folder, tmp_path):
    extra = written.npy(tmp_path / "held-out.npy", np.arange(1000) % 200, "uint16")
    named = folder / "part0" / "0.npy"
    made, _ = build(folder, validation=0.001, validation_files=[extra, named])
    opened = token_files.open_token_files([folder], 100, vocab_size=200)
    assert opened.tokens == {"train": sum(60_000 + i for i in range(1, 6)), "validation": 61_000}
    first = opened.read("validation", [0])[0]
    expected = np.concatenate([np.arange(1000) % 200, np.fromfile(named, "<u2")])
    np.testing.assert_array_equal(first, expected[:101])
    np.testing.assert_array_equal(opened.read("validation", [9])[0], expected[900:1001])
    np.testing.assert_array_equal(opened.read("train", [0])[0], np.fromfile(folder / "part0" / "2.npy", "<u2")[:101])
    assert made.total("documents", "validation") == 292  # 60,000 tokens of 200 kinds, and 1,000


def test_of_few_documents_the_one_with_the_least_hash_is_held_out(tmp_path, capsys):
    for i in range(3):
        written.raw(tmp_path / f"{i}.bin", [*range(10 * i + 4, 10 * i + 500), EOS], "uint32")
    assert cli.main(["data", "index", str(tmp_path), "--dtype", "uint32", "--eos", str(EOS)]) == 0
    printed = capsys.readouterr().out
    assert "train: 2 documents, 994 tokens" in printed and "validation: 1 documents, 497 tokens" in printed
    assert "the one document with the least hash is held out" in printed
    with pytest.raises(InputError, match="everything would be held out"):
        indexing.build([tmp_path / "0.bin"], dtype="uint32", eos=EOS)


def test_a_tokenizer_gives_the_eos_and_checks_the_ids(tmp_path, capsys):
    text = b"\xff".join([b"one document", b"another one", b"a third", b""])
    path = written.raw(tmp_path / "t.bin", list(text), "uint8")
    assert cli.main(["data", "index", str(path), "--dtype", "uint8", "--tokenizer", "bytes"]) == 0
    assert "1 files" in capsys.readouterr().out
    opened = token_files.open_token_files([path], 4)
    assert opened.vocab_size == 256 and opened.eos == 255 and opened.tokenizer.hash == opened.tokenizer_hash
    assert sum(opened.documents.values()) == 3
    with pytest.raises(InputError, match="made for a tokenizer of 256 ids, not 300"):
        token_files.open_token_files([path], 4, vocab_size=300)


def test_wrong_commands(folder, tmp_path, capsys):
    cases = {
        "": "name token files",
        f"{folder}": "has no numpy header, so say what its tokens are, for example uint16 (--dtype)",
        f"{folder} --dtype float16": "dtype 'float16': choose one of uint8, uint16",
        f"{folder} --dtype uint16": "say which id ends a document, or name the files to hold out (--eos)",
        f"{folder} --dtype uint16 --eos 777": "the id 777, which should end documents, is nowhere in 360,015 tokens",
        f"{folder} --dtype uint16 --eos 3 --validation 0.7": "validation = 0.7: a fraction from 0 to 0.5 (--vali",
        f"{folder} --dtype uint16 --eos 3 --validation 0.1 --validation-files x": "exclude each other",
        f"{folder} --dtype uint16 --eos 3 --validation-files nowhere": "nowhere: no such file or folder",
        f"{folder} --dtype uint16 --eos 3 --workers 0": "--workers 0: must be at least 1",
        f"{folder} --dtype uint16 --eos 3 --corpora x": "--corpora: no effect with ladder data index",
        f"{folder} --dtype uint16 --tokenizer nowhere.json": "nowhere.json: no such tokenizer",
        f"{folder} --dtype uint16 --eos 3 --index {folder}/part0/0.npy": "cannot be written (File exists)",
        f"{tmp_path}/nowhere": "nowhere: no such file or folder",
        f"{tmp_path / 'empty'}": "no token files here",
    }
    (tmp_path / "empty").mkdir()
    for command, message in cases.items():
        assert cli.main(["data", "index", *command.split()]) == 2, command
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert cli.main(["data", "paper", "--eos", "3"]) == 2
    assert "--eos: no effect with ladder data paper" in capsys.readouterr().err


def test_the_commands_of_the_documentation_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    block = (ROOT / "docs" / "data.md").read_text().split("## The index")[1].split("```")[1]
    commands = [line.partition("#")[0].split()[1:] for line in block.splitlines() if line.startswith("ladder ")]
    assert len(commands) == 5
    for command in commands:
        (tmp_path / "my" / "tokens").mkdir(parents=True, exist_ok=True)
        eos = int(command[command.index("--eos") + 1]) if "--eos" in command else 255
        for name in ("0.npy", "1.npy", "held-out.npy"):
            if command[0] == "data":
                written.raw(tmp_path / "my" / "tokens" / name, [5, 6, eos, 7, 8, 9, eos, len(name)] * 9, "uint16")
        written.megatron(tmp_path / "my" / "megatron_text_document.bin", [[1, 2], [3, 4, 5]], "uint16")
        tokenizer.byte_tokenizer().save(tmp_path / "my")
        assert cli.main(command) == 0, capsys.readouterr().err


def test_a_file_that_is_written_meanwhile_is_not_indexed(folder, monkeypatch):
    path, chunks = folder / "part0" / "0.npy", indexing._chunks

    def growing(file, stop):
        yield from chunks(file, stop)
        if file.path == path:
            os.utime(path)

    monkeypatch.setattr(indexing, "_chunks", growing)
    with pytest.raises(InputError, match=r"0\.npy: was written while it was indexed"):
        build(folder)
    assert not (folder / "ladder-index" / "index.json").exists()
