"""What sealed forecasts at a hundred times the compute became: `python -m tools.proof_forecast NAME=ROOT ...`.

Reads what `ladder demo --forecast --root ROOT` left behind for each text. With --record their rows go into README and
docs/forecast.md.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitting.forecasting.results import TaskForecast
from fitting.loss_laws import compute_law
from fitting.report.grid import Grid
from fitting.report.numbers import interval, yes_no
from fitting.tables import points, runs_table
from launch import display, sealed, terminal
from tools import pages

TASK, FOLDER = "validation", "forecast"
PAGES, BLOCK = ("README.md", "docs/forecast.md"), "forecasts"
HEAD = ["text", "times the compute", "predicted", "80 % interval", "measured", "error", "inside",
        "error of the law of compute"]  # fmt: skip
LARGEST_ERROR, WIDEST, LEAST_RATIO = 0.05, 0.075, 99


@dataclass(frozen=True)
class Outcome:
    """Of one text. by_law: the target's loss by a law of compute alone (nan: none can be fitted). ratio: compute of the
    target over that of the largest rung."""

    text: str
    entry: TaskForecast
    by_law: float
    ratio: float

    @property
    def error(self) -> float:
        return self.entry.error

    @property
    def law_error(self) -> float:
        return self.by_law / self.entry.measured_bpb - 1

    @property
    def half_width(self) -> float:
        low, high = self.entry.bpb_interval
        return (high - low) / 2 / self.entry.bpb

    @property
    def better(self) -> bool:
        """Than the law of compute; true where there is no such law."""
        return math.isnan(self.by_law) or abs(self.error) < abs(self.law_error)

    @property
    def cells(self) -> list[str]:
        e = self.entry
        numbers = [f"{e.bpb:.3f}", interval(e.bpb_interval), f"{e.measured_bpb:.3f}", f"{self.error:+.1%}"]
        return [self.text, f"{self.ratio:.0f}", *numbers, yes_no(e.inside), f"{self.law_error:+.1%}"]


def read(text: str, root: Path) -> Outcome:
    """Raises SystemExit where the forecast of this root has no end yet."""
    folder = root / FOLDER
    seals = sorted(folder.glob("sealed-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not seals:
        raise SystemExit(f"{folder}: no sealed forecast; run ladder demo --forecast --root {root}")
    forecast, rungs = sealed.read(seals[-1]), runs_table.read(folder / "rungs.csv.gz")
    if sealed.runs_hash(rungs) != forecast.contents["runs_sha256"]:
        raise SystemExit(f"{seals[-1]}: not the forecast of the runs in {rungs.source}")
    [entry] = [e for e in sealed.compared(forecast, runs_table.read(folder)) if e.task == TASK]
    if entry.measured_bpb is None:
        raise SystemExit(f"{folder}: the target is not trained yet; run ladder demo --forecast --root {root} again")
    ends, [target] = points.ladder_points(rungs, [TASK], "n_params"), forecast.targets
    C_n, C = 6 * ends.features["N"] * ends.features["D"], 6 * target.N * target.D
    law = compute_law.fit(C_n, ends.bpb_Tn[0])
    return Outcome(text, entry, float(law.loss(C)[0]) if law else math.nan, C / C_n.max())


def checks(outcomes: Sequence[Outcome]) -> list[tuple[str, float, str, bool]]:
    """(figure, value, what is asked of it, whether it holds). All but one of three or more texts may miss."""
    most = max(len(outcomes) - 1, 1)
    worst, widest = max(abs(o.error) for o in outcomes), max(o.half_width for o in outcomes)
    least = min(o.ratio for o in outcomes)
    better, inside = sum(o.better for o in outcomes), sum(bool(o.entry.inside) for o in outcomes)
    return [
        ("compute of the target over that of the largest rung", least, "at least 99", least >= LEAST_RATIO),
        ("largest error, %", 100 * worst, "at most 5", worst <= LARGEST_ERROR),
        ("better than the law of compute", better, f"at least {most}", better >= most),
        ("80 % intervals that hold what was measured", inside, f"at least {most}", inside >= most),
        ("widest half-width, %", 100 * widest, "at most 7.5", widest <= WIDEST),
        ("mean absolute error, %", 100 * float(np.mean([abs(o.error) for o in outcomes])), "", True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("roots", nargs="+", metavar="NAME=ROOT", help="name of a text, and the --root of its runs")
    parser.add_argument("--record", action="store_true", help="write the rows into README and docs/forecast.md")
    given = parser.parse_args()
    named = [word.rpartition("=") for word in given.roots]
    if not all(name for name, *_ in named):
        parser.error("each root needs the name of its text: NAME=ROOT")
    outcomes = [read(name, Path(root)) for name, _, root in named]
    asked, rows = checks(outcomes), [outcome.cells for outcome in outcomes]
    right = [i for i, name in enumerate(HEAD) if name not in ("text", "inside")]
    head = [f"#{name}" if i in right else name for i, name in enumerate(HEAD)]
    verdicts = [[name, f"{value:.3g}", of, yes_no(holds)] for name, value, of, holds in asked]
    grids = [Grid("bits per byte of held-out text", head, rows),
             Grid("what is asked", ["figure", "#value", "asked", "holds"], verdicts)]  # fmt: skip
    display.tables(grids, terminal.console())
    for page in PAGES if given.record else ():
        pages.write(page, BLOCK, pages.markdown([HEAD, *rows], right))
    return 0 if all(holds for *_, holds in asked) else 1


if __name__ == "__main__":
    sys.exit(main())
