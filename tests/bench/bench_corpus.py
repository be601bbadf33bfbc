"""Corpus throughput end to end (find, hash, train the BPE, encode, write), and the cost of reading a window.

python tests/bench/bench_corpus.py [MB of Python text, 20 by default]
"""

import os
import sys
import tempfile
import time
from unittest.mock import patch

import numpy as np

from ladder.config import Data
from ladder.data import corpus, records, staging
from ladder.data.batches import Batches

LATENCY = 0.02  # seconds, of a request to a bucket


def main(megabytes: float = 20) -> dict[str, float]:
    """MB/s of wall-clock time for each tokenizer, printed and returned."""
    rates = {}
    with tempfile.TemporaryDirectory() as root:
        for kind, seq_len, batch in (("bpe:8000", 1024, 64), ("bytes", 256, 64)):
            data = Data(tokenizer=kind, max_bytes=int(megabytes * 1e6))
            start, cpu = time.perf_counter(), time.process_time()
            made = corpus.build(data, seq_len, root, progress=False)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            size = sum(made.bytes.values()) / 1e6
            rates[kind] = size / seconds
            start = time.perf_counter()
            corpus.build(data, seq_len, root, progress=False)
            found = time.perf_counter() - start
            batches = Batches(made, "train", batch, seed=0)
            batches(0)
            start = time.perf_counter()
            for step in range(1, 21):
                batches(step)
            window = (time.perf_counter() - start) / 20 / batch
            print(
                f"{kind:9} L={seq_len:4}: {size:.1f} MB in {seconds:.1f} s = {rates[kind]:.1f} MB/s "
                f"({cpu:.1f} s of CPU), {made.bytes_per_token:.2f} bytes/token, found again in {found:.1f} s; "
                f"read {window * 1e6:.0f} us/window = {seq_len / window / 1e6:.1f} Mtok/s"
            )
    return rates


def test_corpus_throughput():
    """5 MB/s with a BPE of 8,000 on two quiet cores."""
    assert main()["bpe:8000"] >= 5


def through_a_mount(steps: int = 5, batch: int = 128) -> list[float]:
    """Tokens a second from a corpus each of whose records takes LATENCY more: in threads, and one at a time."""
    getitem, rates = records.Source.__getitem__, []

    def slow(source, i):
        time.sleep(LATENCY)
        return getitem(source, i)

    with tempfile.TemporaryDirectory() as root, patch.object(records.Source, "__getitem__", slow):
        made = corpus.build(Data(tokenizer="bytes", max_bytes=20_000_000), 2048, root, progress=False)
        for mounted in (True, False):
            with patch.dict(os.environ, {"LADDER_MOUNT": root} if mounted else {}):
                assert staging.is_mounted(made.directory) == mounted
                batches = Batches(made, "train", batch, seed=0)
                batches(steps)  # opens the files
            seconds = []
            for step in range(steps):
                start = time.perf_counter()
                batches(step)
                seconds.append(time.perf_counter() - start)
            rates.append(batch * 2048 / float(np.median(seconds)))
    print(
        f"{LATENCY * 1e3:.0f} ms a record: {rates[0] / 1e6:.2f} Mtok/s in threads, {rates[1] / 1e6:.2f} one at a time"
    )
    return rates


def test_a_mounted_corpus_is_read_in_threads():
    in_threads, one_at_a_time = through_a_mount()
    assert in_threads > 5 * one_at_a_time


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
