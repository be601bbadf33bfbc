"""The page of a ladder of 1,000 runs: how long it takes to read and write, and to its first paint in a browser."""

import os
import random
import statistics
import time

from fitting.tables.points import Target
from ladder.rundir.record import Record
from launch.page.writer import Page
from launch.scheduler import status
from tests.launch import stand_ins
from tests.launch.page.browser import chromium

RUNS, ROWS = 1000, 100


def large_ladder(folder):
    """Ten sizes of 100 runs with 100 rows of training loss each; nine of ten are done."""
    draw = random.Random(0)
    for i in range(RUNS):
        n, size = 10_000.0 * 1.6 ** (i // 100), f"d{64 * (1 + i // 100)}"
        tokens = 20 * n * (1 + i % 100 / 10)
        batch = max(1, round(tokens / ROWS))
        derived = {"n_params": n, "n_total": n, "n_non_embedding": n, "tokens": batch * ROWS, "batch_tokens": batch}
        derived |= {"multiple": 1 + i % 100 / 10, "size": size, "steps": ROWS, "seed": 0, "parent": None, "corpus": "c"}
        derived |= {"schedule": "cosine", "peak_lr": 0.1, "lr_final_fraction": 0.1, "tokenizer": "t"}
        record = Record(
            stand_ins.run(folder, f"{size}-{1 + i % 100 / 10:g}xC-s0-{draw.getrandbits(32):08x}", **derived)
        )
        common = {"kind": "full", "stderr": None, "n_docs": None}
        for step in range(1, ROWS + 1):
            loss = stand_ins.law(n, step * batch) * (1 + draw.gauss(0, 0.01))
            record.log(
                [common | {"step": step, "tokens": step * batch, "task": "train", "metric": "loss", "value": loss}]
            )
        end = common | {"step": ROWS, "tokens": ROWS * batch, "task": "validation"}
        record.log([end | {"metric": "bpb", "value": loss / 0.7}, end | {"metric": "loss", "value": loss}])
        record.publish(ROWS)
        record.heartbeat(ROWS, loss, 1e4)
        if i % 10:
            record.finish(step=ROWS, tokens=ROWS * batch, loss=loss)
    return folder


def test_thousand_runs(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        folder = large_ladder(tmp_path / "large")
    path = tmp_path / "status.html"
    page = Page(folder, path, "ladder large", targets=[Target("big", 1e7, 2e9)])
    for which in ("first", "again, nothing new"):
        began, cpu = time.perf_counter(), time.process_time()
        runs = status.read(folder)
        read, read_cpu = time.perf_counter() - began, time.process_time() - cpu
        page.write(runs, again=True)
        wall, used = time.perf_counter() - began - read, time.process_time() - cpu - read_cpu
        print(f"\n{which}: status {read:.2f} s ({read_cpu:.2f} s CPU), page {wall:.2f} s ({used:.2f} s CPU)", end="")
    print(f", {path.stat().st_size / 1e6:.2f} MB")
    with chromium() as browser:
        for width in (400, 1200):
            paints = []
            for _ in range(5):
                tab = browser.new_page(viewport={"width": width, "height": 900})
                tab.goto(path.as_uri())
                tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
                get = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                paints.append(
                    (
                        tab.evaluate(get),
                        tab.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart"),
                    )
                )
                tab.close()
            first, loaded = (statistics.median(of) for of in zip(*paints, strict=True))
            print(f"{width} px: first paint {first:.0f} ms, loaded {loaded:.0f} ms (medians of 5)")
