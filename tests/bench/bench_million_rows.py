"""Time and memory of a runs table with a million rows, as CSV and gzipped: reading, `ladder predict`, `ladder fit`.

python tests/bench/bench_million_rows.py [ROWS]

The table has 25 tasks with bpb and accuracy; 40 runs of eight sizes; the rest are steps. Each figure is of a process of
its own: processor and elapsed seconds, and its peak of resident memory. `import` is what Python and the imports cost.
"""

import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SIZES, MULTIPLES, TASKS = np.geomspace(2e7, 2e9, 8).round(-3), (1, 2, 5, 10, 20), 25
MILLION = 10**6
HEADER = "run,split,size,multiple,n_params,tokens,flops,step,task,metric,value\n"
READ = "import sys; from fitting.tables import runs_table; len(sys.argv) > 1 and runs_table.read(sys.argv[1])"
TARGET = "10B=1e10,1e12"


def write(path: Path, n_rows: int) -> None:
    """A runs table (CSV) of n_rows rows, or a few less: Chinchilla's law, a sigmoid, and noise."""
    rng, n_runs = np.random.default_rng(0), len(SIZES) * len(MULTIPLES)
    n_steps = n_rows // (n_runs * TASKS * 2)
    with path.open("w") as file:
        file.write(HEADER)
        for n in SIZES:
            for multiple in MULTIPLES:
                for step in range(1, n_steps + 1):
                    d = 20 * n * multiple * step / n_steps
                    loss = 0.6 + 60 / n**0.3 + 150 / d**0.3
                    run = f"{n / 1e6:.0f}M-{multiple}xC,train,{n / 1e6:.0f}M,{multiple},{n:.0f},{d:.0f},{6 * n * d:.6e}"
                    bpb_T = loss * (1 + np.arange(TASKS) / 50) * np.exp(0.003 * rng.standard_normal(TASKS))
                    acc_T = 0.25 + 0.7 / (1 + np.exp(4 * (bpb_T - 1.0))) + 0.002 * rng.standard_normal(TASKS)
                    for task, (bpb, acc) in enumerate(zip(bpb_T, acc_T, strict=True)):
                        file.write(f"{run},{100 * step},task{task:02},bpb,{bpb:.10g}\n")
                        file.write(f"{run},{100 * step},task{task:02},acc,{acc:.10g}\n")


def measured(arguments: list[str]) -> str:
    """Seconds and memory of a process, as text."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    began = os.times().elapsed
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    cpu, wall = usage.ru_utime + usage.ru_stime, os.times().elapsed - began
    return f"{cpu:6.1f} CPU s, {wall:6.1f} s elapsed, {usage.ru_maxrss / 1024:6.0f} MB"


def main(n_rows: int = MILLION, commands: tuple[str, ...] = ("read", "fit", "predict")) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "runs.csv"
        write(table, n_rows)
        packed = table.with_suffix(".csv.gz")
        packed.write_bytes(gzip.compress(table.read_bytes(), 6))
        ladder = ["-m", "launch.cli"]
        cases = {"import": {"fitting.tables": ["-c", READ]}, "read": {}, "fit": {}, "predict": {}}
        for path in (table, packed):
            cases["read"][path.name] = ["-c", READ, str(path)]
            cases["fit"][path.name] = [*ladder, "fit", str(path), "--task", "task00"]
            cases["predict"][path.name] = [*ladder, "predict", str(path), "--target", TARGET, "--tasks", "task00"]
        for name in ("import", *commands):
            for what, arguments in cases[name].items():
                print(f"{name:8} {what:16} {measured(arguments)}", flush=True)


def test_reading():
    main(commands=("read",))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *([tuple(sys.argv[2:])] if sys.argv[2:] else []))
