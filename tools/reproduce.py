"""Predict the task-ladder paper's large models from its small runs, by its methods and by ours: `make reproduce`.

Prints each task's predicted and measured values and compares them with those in reproduce.json. Exit code 1, with one
line for each figure, where one has drifted, or where a page shows other figures than the record. `--record` writes the
record and the pages anew: commit both. Without the paper's runs, exit code 2.
"""

import argparse
import datetime
import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tools" / "reproduce.json"
SHARED = ROOT.parent / "shared" / "data"
TABLES = (
    SHARED / "olmo_ladder_runs.csv.gz",
    ROOT / ".cache" / "paper" / "runs.csv.gz",
)  # the second: ladder data paper
# What the paper's own scripts gave on these runs: a method's keys for bpb and accuracy.
SCRIPTS = SHARED / "task_ladder_expected.json"
KEYS = {
    "paper": {"bpb": "step1_pred_bpb", "acc": "chained_pred_acc"},
    "paper-c": {"bpb": "flops_pred_bpb", "acc": "flops_chained_pred_acc"},
    "paper-single": {"acc": "single_step_pred_acc"},
}
METHODS = ("default", *KEYS)
# Parameters, tokens and FLOPs of a token; the runs hold no measurement of the second model.
TARGETS = {"7B-4T": (6887575552, 3945065873408, 49412071424), "13B-5T": (13202396160, 5000088518656, 91335915520)}
TASKS = ("mmlu_avg_test", "hellaswag_val", "arc_challenge_test", "arc_easy_test", "piqa_val", "csqa_val")
TASKS += ("socialiqa_val", "openbookqa_test")
POINTS = 0.05  # largest drift of an accuracy, in points
PERCENT = 0.05  # largest drift of a bpb, in percent of its value
BEGIN = "<!-- reproduce: written by `make reproduce ARGS=--record` -->\n"
END = "<!-- /reproduce -->\n"


def computed(table: Path, methods: tuple[str, ...]) -> tuple[dict, str]:
    """{target: {task: {"measured" or method: {figure: value}}}}, and the table's sha256."""
    import fitting
    from fitting.tables import accuracies, points
    from ladder.loop import compile_cache

    compile_cache.keep()
    runs = fitting.read_runs(table)
    targets = [points.Target(name, n, d, float(f * d)) for name, (n, d, f) in TARGETS.items()]
    figures = {target.name: {task: {"measured": {}} for task in TASKS} for target in targets}
    for target in targets:
        for task in TASKS:
            for figure, metric in (("bpb", "bpb"), ("acc", accuracies.metric_of(runs, task))):
                value = points.measured(runs, target, task, metric)
                figures[target.name][task]["measured"] |= {} if value is None else {figure: value}
    for method in methods:
        for entry in fitting.forecast(runs, targets, tasks=TASKS, method=method):
            low, high = entry.accuracy_interval or (None, None)
            values = {"bpb": entry.bpb, "acc": entry.accuracy, "acc_low": low, "acc_high": high}
            figures[entry.target][entry.task][method] = {k: float(v) for k, v in values.items() if v is not None}
    return figures, runs.sha256


def of_scripts(expected: dict) -> dict:
    """{target: {task: {method: {figure: value}}}} of the paper's own scripts."""
    return {
        target: {
            task: {m: {k: of_task[target][key] for k, key in keys.items()} for m, keys in KEYS.items()}
            for task, of_task in expected["tasks"].items()
        }
        for target in TARGETS
        if all(target in of_task for of_task in expected["tasks"].values())
    }


def drifts(recorded: dict, now: dict) -> list[str]:
    """One line for each recorded figure that is not what it was. Methods that `now` lacks altogether are skipped."""
    lines, methods = [], {method for tasks in now.values() for task in tasks.values() for method in task}
    for target, tasks in recorded.items():
        for task, by_method in tasks.items():
            for method in (method for method in by_method if method in methods):
                for figure, before in by_method[method].items():
                    value = now.get(target, {}).get(task, {}).get(method, {}).get(figure)
                    if line := _drift(figure, before, value):
                        lines.append(f"{target} {task}, {method}: {figure} {line}")
    return lines


def _drift(figure: str, before: float, value: float | None) -> str | None:
    if value is None:
        return f"was {before:.6g}, and is not predicted or measured any more"
    moved = 100 * (value / before - 1) if figure == "bpb" else 100 * (value - before)
    unit, most = ("%", PERCENT) if figure == "bpb" else ("points", POINTS)
    if abs(moved) <= most:
        return None
    return f"was {before:.6g}, is {value:.6g}: {moved:+.3f} {unit}, more than {most}"


def by_task(figures: dict, target: str, figure: str, methods: tuple[str, ...] = ("paper", "default")) -> str:
    """A table (Markdown) of a target: a row for each task, two columns for each method, and the mean absolute error."""
    unit, name = ("%", "bpb") if figure == "bpb" else ("points", "accuracy, %")
    rows = [[f"{target}: {name}", "measured", *(c for m in methods for c in (m, f"error, {unit}"))]]
    if interval := figure == "acc" and "default" in methods:
        rows[0].append("80 % interval")
    for task, values in figures[target].items():
        measured = values["measured"].get(figure)
        row = [task, _shown(measured, figure)]
        for method in methods:
            row += [_shown(values[method].get(figure), figure), _signed(_error(values, method, figure))]
        if interval:
            ends = [values["default"].get(f"acc_{end}") for end in ("low", "high")]
            row.append("" if None in ends else " to ".join(f"{100 * end:.1f}" for end in ends))
        rows.append(row)
    means = [_mean_error(figures[target], method, figure) for method in methods]
    last = ["mean absolute error", "", *(c for m in means for c in ("", "" if m is None else f"{m:.2f}"))]
    return _markdown([*rows, [*last, _held(figures[target], "default") or ""] if interval else last])


def by_method(figures: dict, target: str) -> str:
    """A table (Markdown) of a measured target: the mean absolute errors of each method."""
    rows = [["method", "accuracy, points", "bpb, %", "80 % intervals"]]
    for method in (m for m in METHODS if all(m in values for values in figures[target].values())):
        means = [_mean_error(figures[target], method, figure) for figure in ("acc", "bpb")]
        rows.append([method, *("" if m is None else f"{m:.2f}" for m in means), _held(figures[target], method) or ""])
    return _markdown(rows)


def _error(values: dict, method: str, figure: str) -> float | None:
    """Points of accuracy, or percent of the measured bpb."""
    measured, predicted = values["measured"].get(figure), values[method].get(figure)
    if measured is None or predicted is None:
        return None
    return 100 * (predicted / measured - 1) if figure == "bpb" else 100 * (predicted - measured)


def _mean_error(tasks: dict, method: str, figure: str) -> float | None:
    errors = [_error(values, method, figure) for values in tasks.values()]
    return None if None in errors else float(np.mean(np.abs(errors)))


def _held(tasks: dict, method: str) -> str | None:
    """How many measured accuracies lie in their intervals, and how wide these are."""
    rows = [(v[method]["acc_low"], v[method]["acc_high"], v["measured"].get("acc")) for v in tasks.values()
            if "acc_low" in v[method]]  # fmt: skip
    if not rows:
        return None
    width = f"mean width {100 * np.mean([high - low for low, high, _ in rows]):.1f} points"
    known = [row for row in rows if row[2] is not None]
    return f"{sum(low <= v <= high for low, high, v in known)} of {len(known)} held, {width}" if known else width


def _shown(value: float | None, figure: str) -> str:
    return "" if value is None else f"{value:.4f}" if figure == "bpb" else f"{100 * value:.2f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _markdown(rows: list[list[str]]) -> str:
    """The first row is the header, the first column text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    cells = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in (cells[0], rule, *cells[1:]))


def pages(figures: dict) -> dict[Path, str]:
    """The table that stands between the marks of each page."""
    target = next(iter(TARGETS))
    return {ROOT / "README.md": by_task(figures, target, "acc"), ROOT / "docs/predict.md": by_method(figures, target)}


def block(page: str) -> str:
    """What stands between the marks of a page's text."""
    return page.split(BEGIN)[1].split(END)[0]


def write_record(figures: dict, scripts: dict, sha256: str) -> None:
    """Write reproduce.json (figures, versions, hash of the table, date) and the tables of the pages."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxopt", "numpy", "scipy")}
    about = {
        "written_by": "make reproduce ARGS=--record",
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **versions},
        "table_sha256": sha256,
        "tolerance": {"acc": f"{POINTS} points", "bpb": f"{PERCENT} %"},
        "scripts_source": "the paper's own scripts (Bhagia et al. 2024) on the same runs: task_ladder_expected.json",
    }
    RECORD.write_text(json.dumps(about | {"figures": figures, "scripts": scripts}, indent=1) + "\n")
    for path, table in pages(figures).items():
        before, rest = path.read_text().split(BEGIN)
        path.write_text(before + BEGIN + table + END + rest.split(END)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", type=Path, help="the paper's runs; default: in ../shared/data or .cache")
    parser.add_argument("--record", action="store_true", help="write the record and the pages anew")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="only these")
    args = parser.parse_args()
    table = args.table or next((path for path in TABLES if path.exists()), TABLES[0])
    if not table.exists():
        print(f"error: {table}: the paper's runs are not there; fetch them with: ladder data paper")
        return 2
    if args.record and set(args.methods) != set(METHODS):
        parser.error("--record needs all methods")  # exit code 2
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"figures": {}, "scripts": {}}
    scripts = of_scripts(json.loads(SCRIPTS.read_text())) if SCRIPTS.exists() else record["scripts"]
    figures, sha256 = computed(table, tuple(args.methods))
    shown = tuple(m for m in ("paper", "default") if m in args.methods) or tuple(args.methods)
    for target in TARGETS:
        for figure in ("acc", "bpb"):
            print(by_task(figures, target, figure, shown))
    print(by_method(figures, next(iter(TARGETS))))
    failures = [f"not what the paper's scripts gave: {line}" for line in drifts(scripts, figures)]
    if args.record:
        write_record(figures, scripts, sha256)
        print(f"recorded in {RECORD.relative_to(ROOT)}; see git diff")
    else:
        failures += [f"drifted: {line}" for line in drifts(record["figures"], figures)]
        stale = [p for p, text in pages(record["figures"]).items() if block(p.read_text()) != text]
        failures += [f"{path.relative_to(ROOT)}: its table is not that of the record" for path in stale]
    print(
        "\n".join(failures)
        or f"every figure is the recorded one, to {POINTS} points of accuracy and {PERCENT} % of bpb"
    )
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main())
