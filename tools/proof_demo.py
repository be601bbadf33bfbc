"""How good the forecasts of `ladder demo` are, over several seeds: `python tools/proof_demo.py [--seeds 0 1 2]`.

Runs the demo of each seed, or reads what it left behind where it was run before, and pools all intervals over seeds
and tasks: relative errors of bits per byte in %, errors of accuracy in points. An interval of constant width is the
yardstick: as wide as the other seeds' errors of that metric ask for, the same for every task.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitting.forecasting import scores
from fitting.forecasting.results import TaskForecast
from fitting.inference.calibration import LEVEL
from fitting.report import task_tables
from fitting.report.grid import Grid
from fitting.report.numbers import yes_no
from fitting.tables import runs_table
from ladder.rundir.files import read_json
from launch import display, sealed, terminal

MAIN_TASK = "validation"


@dataclass(frozen=True)
class Demo:
    """What the demo of one seed predicted and measured, and its seconds by stage."""

    seed: int
    entries: Sequence[TaskForecast]
    stages: dict[str, float]


def folder_of(root: Path, seed: int) -> Path:
    return root / (f"demo-s{seed}" if seed else "demo")


def read(root: Path, seed: int) -> Demo:
    """Of a demo that has ended."""
    folder = folder_of(root, seed)
    newest = max(folder.glob("sealed-*.json"), key=lambda path: path.stat().st_mtime_ns)
    stages = {stage["name"]: stage["seconds"] for stage in read_json(folder / "stages.json")["stages"]}
    return Demo(seed, sealed.compared(sealed.read(newest), runs_table.read(folder)), stages)


def errors(entries: Sequence[TaskForecast], metric: str) -> np.ndarray:
    """[n, 3]: predicted, lower end and upper end minus measured; of bits per byte in % of what was measured, of
    accuracy in points. Only where there are an interval and a measurement."""
    if metric == "accuracy":
        of_each = [(e.accuracy, e.accuracy_interval, e.measured_accuracy) for e in entries]
    else:
        of_each = [(e.bpb, e.bpb_interval, e.measured_bpb) for e in entries]
    known = [(value, *ends, truth) for value, ends, truth in of_each if ends and truth is not None]
    numbers = np.array(known, dtype=float).reshape(-1, 4)
    unit = 1.0 if metric == "accuracy" else numbers[:, 3:]
    return 100 * (numbers[:, :3] - numbers[:, 3:]) / unit


def pooled(demos: Sequence[Demo], metric: str) -> dict[str, float]:
    """n, inside (how many intervals hold what was measured), half_width, error and score (their means), and
    constant_score, of intervals of constant width."""
    of_seeds = [errors(demo.entries, metric) for demo in demos]
    constant = []
    for i, of_seed in enumerate(of_seeds):
        others = np.concatenate([np.abs(other[:, 0]) for j, other in enumerate(of_seeds) if j != i] or [[np.nan]])
        constant += [*scores.interval_scores(of_seed[:, 0], np.quantile(others, LEVEL))]
    error_n, low_n, high_n = np.concatenate(of_seeds).T
    missed_n = np.maximum(low_n, 0) + np.maximum(-high_n, 0)
    return {
        "n": len(error_n),
        "inside": int((missed_n == 0).sum()),
        "half_width": float((high_n - low_n).mean() / 2),
        "error": float(np.abs(error_n).mean()),
        "score": float((high_n - low_n + 2 / (1 - LEVEL) * missed_n).mean()),
        "constant_score": float(np.mean(constant)),
    }


def validation_errors(demos: Sequence[Demo]) -> dict[int, float]:
    """{seed: error of the validation text's bits per byte, in %}."""
    return {d.seed: float(errors([e for e in d.entries if e.task == MAIN_TASK], "bpb")[0, 0]) for d in demos}


def checks(demos: Sequence[Demo]) -> list[tuple[str, float, str, bool]]:
    """(figure, value, what is asked of it, whether it holds)."""
    bpb, accuracy = pooled(demos, "bpb"), pooled(demos, "accuracy")
    held = (bpb["inside"] + accuracy["inside"]) / (bpb["n"] + accuracy["n"])
    ratios = {name: of["score"] / of["constant_score"] for name, of in (("bpb", bpb), ("accuracy", accuracy))}
    ratio = (bpb["n"] * ratios["bpb"] + accuracy["n"] * ratios["accuracy"]) / (bpb["n"] + accuracy["n"])
    fewest = min(sum(e.accuracy_interval is not None for e in demo.entries) for demo in demos)
    worst = max(map(abs, validation_errors(demos).values()))
    return [
        ("accuracies predicted, of each seed", fewest, "at least 4", fewest >= 4),
        ("share of the 80 % intervals that hold", held, "at least 0.5", held >= 0.5),
        ("interval score over that of a constant width", ratio, "below 1", ratio < 1),
        ("half-width of accuracy, points", accuracy["half_width"], "at most 5", accuracy["half_width"] <= 5),
        ("half-width of bits per byte, %", bpb["half_width"], "at most 6", bpb["half_width"] <= 6),
        ("absolute error of accuracy, points", accuracy["error"], "at most 2.5", accuracy["error"] <= 2.5),
        ("largest error of the validation text, %", worst, "at most 2", worst <= 2),
    ]


def grids(demos: Sequence[Demo]) -> list[Grid]:
    names = list(demos[0].stages)
    times = [
        [str(d.seed), *(terminal.duration(d.stages[n]) for n in names), terminal.duration(sum(d.stages.values()))]
        for d in demos
    ]
    rows = []
    for title, metric in (("bits per byte, %", "bpb"), ("accuracy, points", "accuracy")):
        of = pooled(demos, metric)
        figures = [f"{of[name]:.2f}" for name in ("half_width", "error", "score", "constant_score")]
        rows.append([title, f"{of['inside']} of {of['n']}", *figures])
    head = ["", "#inside", "#mean half-width", "#mean error", "#score", "#score, constant width"]
    of_seeds = [[str(seed), f"{error:+.2f} %"] for seed, error in validation_errors(demos).items()]
    verdicts = [[name, f"{value:.3g}", asked, yes_no(holds)] for name, value, asked, holds in checks(demos)]
    return [
        Grid("wall time", ["seed", *(f"#{name}" for name in names), "#all"], times),
        Grid("the validation text's bits per byte", ["seed", "#error"], of_seeds),
        Grid("all intervals of all seeds", head, rows, ("Score: interval score, lower is better.",)),
        Grid("what is asked", ["figure", "#value", "asked", "holds"], verdicts),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--read", action="store_true", help="only read demos that were run before")
    given = parser.parse_args()
    for seed in [] if given.read else given.seeds:
        where = ["--root", str(given.root), "--corpora", str(given.corpora)]
        subprocess.run([sys.executable, "-m", "launch.cli", "demo", "--seed", str(seed), *where], check=True)
    demos = [read(given.root, seed) for seed in given.seeds]
    for demo in demos:
        display.tables(task_tables.predictions(demo.entries), terminal.console())
    display.tables(grids(demos), terminal.console())
    return 0 if all(holds for *_, holds in checks(demos)) else 1


if __name__ == "__main__":
    sys.exit(main())
