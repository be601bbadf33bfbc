"""20 GB of tokens: opening reads none of them, and reading needs little memory, from a disk and from a store.

The files are sparse; one non-zero token at known places shows a wrong offset.
"""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from ladder.data.tokens import blocks, index, indexing
from tests import stores

SIZE = 10 << 30  # bytes of each of two files
PLACES = [5, 2048 * 1000 + 17, SIZE // 2 - 1, SIZE // 2, SIZE // 2 + 77_777, SIZE - 5000]  # tokens of both files
READ = textwrap.dedent("""
    import re, sys, threading, time
    from pathlib import Path
    import numpy as np
    from ladder.data.tokens.token_files import open_token_files
    from tests import stores
    def anonymous():
        return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    folder, places, n, at_once = sys.argv[1], map(int, sys.argv[2].split(",")), int(sys.argv[3]), int(sys.argv[4])
    with stores.faulty_store() as objects:
        if len(sys.argv) > 5:
            stores.upload(Path(folder), objects, folder := "faulty://bucket")
        before, start = anonymous(), time.perf_counter()
        opened = open_token_files([folder], 2048, vocab_size=60_000)
        seconds, peaks, ended = time.perf_counter() - start, [0], threading.Event()
        def watch():
            while not ended.wait(0.005):
                peaks.append(anonymous())
        threading.Thread(target=watch).start()
        for at in places:
            window = opened.read("train", [at // 2048])[0]
            np.testing.assert_array_equal(np.flatnonzero(window[:-1]), [at % 2048])
            assert window[at % 2048] == 1 + at % 50_000
        order = np.random.default_rng(0).integers(0, opened.windows["train"], n)
        for i in range(0, n, at_once):
            opened.read("train", order[i : i + at_once])
        ended.set()
    print(seconds, max(peaks) - before)
""")


def write(folder: Path) -> list[bytearray]:
    """The two files; returns the hashes of their blocks. Those of holes are all the same."""
    block, hashes = blocks.BLOCK, []
    for i in range(2):
        hashes.append(bytearray(blocks.digest(bytes(block)) * (SIZE // block)))
        with open(folder / f"{i}.bin", "wb") as file:
            file.truncate(SIZE)
            for at in PLACES:
                if at // (SIZE // 2) == i:
                    byte = at % (SIZE // 2) * 2
                    data = bytearray(block)
                    data[byte % block : byte % block + 2] = int(1 + at % 50_000).to_bytes(2, "little")
                    file.seek(byte // block * block)
                    file.write(data)
                    hashes[-1][byte // block * 8 : byte // block * 8 + 8] = blocks.digest(data)
    return hashes


def read(folder: Path, n: int, at_once: int, store: bool) -> tuple[float, float]:
    """(seconds to open, peak of anonymous memory in MiB) of a process that reads n random windows."""
    arguments = [str(folder), ",".join(map(str, PLACES)), str(n), str(at_once), *["store"] * store]
    environment = os.environ | {"PYTHONPATH": str(Path(stores.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    seconds, mebibytes = map(float, result.stdout.split())
    return seconds, mebibytes


@pytest.mark.parametrize("store", [False, True])
def test_20_gb_are_opened_at_once_and_read_in_little_memory(tmp_path, store):
    entries = []
    for i, hashes in enumerate(write(tmp_path)):
        counts = {"documents": {"train": 1, "validation": 0}, "tokens": {"train": SIZE // 2, "validation": 0}}
        row = index.Entry(
            **counts,
            **{"name": f"{i}.bin", "format": "raw", "dtype": "uint16", "start": 0, "size": SIZE, "whole": False},
            **{"largest": [50_000, 0], "smallest": [0, 0], "pages": "", "stretches": 0, "validation": ""},
        )
        entries.append(index.write_part(tmp_path / "ladder-index", row, bytes(hashes), np.empty((0, 2)), {}))
    content = index.content_hash(entries, 0, None)
    index.write(index.Index(tmp_path / "ladder-index", tmp_path, tuple(entries), content, 0, None, "", 0.0, None))
    seconds, mebibytes = read(tmp_path, 1000, 64, store)
    assert seconds < 2 and mebibytes < 128


@pytest.mark.chaos
def test_20_gb_are_indexed_and_read_for_a_while(tmp_path):
    write(tmp_path)
    start = time.perf_counter()
    indexing.build([tmp_path], dtype="uint16", validation=0.0)
    print(f"indexed {2 * SIZE >> 30} GiB in {time.perf_counter() - start:.0f} s")
    for store in (False, True):
        seconds, mebibytes = read(tmp_path, 50_000, 256, store)
        print(
            f"{'store' if store else 'disk'}: opened in {seconds:.2f} s; anonymous memory grew by {mebibytes:.0f} MiB"
        )
        assert seconds < 2 and mebibytes < 128
