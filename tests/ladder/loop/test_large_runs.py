"""Training on 20 GB of tokens where they lie: memory is that of a run on a small file, and only the run is written."""

import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Data, Eval, Source
from ladder.loop.run import open_run
from ladder.rundir.record import Record
from tests.ladder.data.tokens import sparse, written
from tests.ladder.loop import training

STEPS, BATCH, SEQ = 300, 64, 128
MOST = 200  # token ids: those of bytes


def run(directory: Path) -> float:
    """Train in a process of its own; the peak of its anonymous memory in MiB."""
    process = subprocess.Popen(training.command(directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max(peak, int((re.search(r"RssAnon:\s+(\d+)", status) or [0, 0])[1]))
        time.sleep(0.02)
    assert process.returncode == 0, process.stdout.read()
    return peak / 1024


def files(folder: Path) -> set[str]:
    return {os.path.join(where, name) for where, _, names in os.walk(folder) for name in names}


@pytest.mark.chaos
def test_trained_on_in_place(world, tmp_path):
    large, small = tmp_path / "large", tmp_path / "small"
    large.mkdir(), small.mkdir()
    sparse.write_with_index(large, MOST)
    written.raw(small / "0.bin", np.arange(1 << 20) % MOST, "uint16")
    assert training.cli.main(["data", "index", str(small), "--dtype", "uint16", "--validation", "0"]) == 0
    model = replace(world.rung().model, seq_len=SEQ)
    length = {"batch_tokens": BATCH * SEQ, "tokens": STEPS * BATCH * SEQ, "save_every": 100, "eval": Eval()}
    peaks = {}
    for folder in (small, large):
        data = Data(sources=(Source("web", (str(folder),), 1.0, format="tokens"),))
        before = files(tmp_path)
        (directory,) = world([world.rung(model=model, **length)], tmp_path / f"runs-{folder.name}", data)
        start = time.perf_counter()
        opened = open_run(Record(directory)).data.sources[0].corpus
        seconds = time.perf_counter() - start
        peaks[folder.name] = run(directory)
        new = files(tmp_path) - before
        assert all(name.startswith(str(directory)) for name in new), new
        read = f"{opened.tokens['train']:,} tokens, opened with the model in {seconds:.2f} s"
        print(f"{folder.name}: {read}; peak of anonymous memory {peaks[folder.name]:.0f} MiB")
    for at in sparse.PLACES:  # the windows that training reads hold the marked tokens where they lie
        [window] = opened.window_reader("train")([at // SEQ])
        assert np.flatnonzero(window[:-1]).tolist() == [at % SEQ] and window[at % SEQ] == sparse.marker(at, MOST)
    assert peaks["large"] - peaks["small"] < 2048
