"""A ladder of a hundred rungs: how long plan, reconcile and status take.

python tests/bench/bench_launch.py
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from configs import loader
from ladder.config import Ladder
from ladder.rundir.record import Record
from launch import plan, prepare
from launch.scheduler import loop, status, submission
from launch.scheduler.reconcile import reconcile


def hundred() -> Ladder:
    """Five sizes, four trunks' seeds, four branches each: 100 runs."""
    sizes = [r for r in loader.load("demo").rungs]
    trunks = [r for r in sizes if r.kind == "trunk"]
    rungs = []
    for seed in range(5):
        for trunk in trunks:
            seeded = replace(trunk, seed=seed)
            rungs.append(seeded)
            branches = [r for r in sizes if r.parent == trunk.identity]
            rungs += [replace(b, seed=seed, parent=seeded.identity) for b in branches]
    return Ladder("hundred", tuple(rungs), loader.load("demo").targets)


def main() -> float:
    """Median seconds of the three together, printed and returned."""
    ladder, seconds = hundred(), []
    assert len(ladder.rungs) == 100
    with tempfile.TemporaryDirectory() as root:
        built = prepare.Built(ladder, {"": Path(root)})
        there = submission.write(built, False, Path(root), submission.BackendConfig())
        for job in there.jobs[:50]:
            record = Record(job.directory)
            record.attempt("submit")
            record.attempt("train")
            record.heartbeat(job.steps, 2.0, 1000.0)
            record.finish(step=job.steps, loss=2.0)
        for _ in range(5):
            began = time.perf_counter()
            plan.table(plan.make(ladder))
            planned = time.perf_counter()
            runs = loop.observe(there.jobs)
            reconcile(there.jobs, runs, {}, 0.0)
            reconciled = time.perf_counter()
            status.table(status.read(Path(root) / "hundred"))
            ended = time.perf_counter()
            seconds.append((planned - began, reconciled - planned, ended - reconciled))
    medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
    total = sum(medians)
    print("100 rungs: plan {:.3f} s, look and reconcile {:.3f} s, status {:.3f} s".format(*medians), f"= {total:.3f} s")
    return total


def test_a_hundred_rungs():
    assert main() < 2


if __name__ == "__main__":
    main()
