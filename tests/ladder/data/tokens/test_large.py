"""20 GB of tokens: opening reads none of them, and reading needs little memory, from a disk and from a store."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ladder.data.tokens import indexing
from tests import stores
from tests.ladder.data.tokens import sparse

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


def read(folder: Path, n: int, at_once: int, store: bool) -> tuple[float, float]:
    """(seconds to open, peak of anonymous memory in MiB) of a process that reads n random windows."""
    arguments = [str(folder), ",".join(map(str, sparse.PLACES)), str(n), str(at_once), *["store"] * store]
    environment = os.environ | {"PYTHONPATH": str(Path(stores.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    seconds, mebibytes = map(float, result.stdout.split())
    return seconds, mebibytes


@pytest.mark.parametrize("store", [False, True])
def test_20_gb_are_opened_at_once_and_read_in_little_memory(tmp_path, store):
    sparse.write_with_index(tmp_path)
    seconds, mebibytes = read(tmp_path, 1000, 64, store)
    assert seconds < 2 and mebibytes < 128


@pytest.mark.chaos
def test_20_gb_are_indexed_and_read_for_a_while(tmp_path):
    sparse.write(tmp_path)
    start = time.perf_counter()
    indexing.build([tmp_path], dtype="uint16", validation=0.0)
    print(f"indexed {2 * sparse.SIZE >> 30} GiB in {time.perf_counter() - start:.0f} s")
    for store in (False, True):
        seconds, mebibytes = read(tmp_path, 50_000, 256, store)
        print(
            f"{'store' if store else 'disk'}: opened in {seconds:.2f} s; anonymous memory grew by {mebibytes:.0f} MiB"
        )
        assert seconds < 2 and mebibytes < 128
