"""Verbs about runs tables and the laws fitted to them."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ladder.errors import InputError
from launch import show
from launch.flags import Json, Out, Table, Targets


def predict(
    table: Table,
    /,
    *,
    target: Targets = (),
    tasks: Annotated[tuple[str, ...], arg(metavar="TASK ...")] = ("all",),
    method: Literal["default", "paper", "paper-c", "paper-single"] = "default",
    bootstrap: int = 1000,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Predict the bpb and the accuracy of a larger model from a table of runs.

    Example: ladder predict runs.csv.gz --target 7B-4T=6887575552,3945065873408

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        tasks: which tasks
        method: paper, paper-c, paper-single: the task-ladder paper's methods to the letter (no intervals)
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    from launch import predictions

    wanted = None if tasks == ("all",) else list(tasks)
    if method == "default":
        result = predictions.predict(table, target, wanted, bootstrap, seed)[1].json()
    else:
        result = predictions.by_the_paper(table, target, wanted, method)
    show.console().print(predictions.table([*result["predictions"], *result.get("suite", [])]))
    if json:
        show.write_json(json, result)


def backtest(table: Table, /, *, seed: int = 0, json: Json = None) -> None:
    """How well the ladder's small runs predict its large ones: errors, coverage and the forms' weights.

    Example: ladder backtest runs.csv.gz

    Args:
        seed: of the resamples
    """
    from fitting import accuracy, points
    from fitting import backtest as backtests
    from fitting import table as tables
    from launch import predictions

    runs = tables.read(table)
    at = points.ladder_points(runs, None, "n_params")
    report = backtests.report(runs, at, accuracy.fit_all(runs, at.tasks, 100, seed), "n_params", seed)
    if report is None:
        raise InputError(
            f"{table}: {len(at.runs)} runs cannot be split; a backtest needs {backtests.MIN_FIT_RUNS} to fit"
        )
    console, bpb = show.console(), report.bpb.table()
    console.print(predictions.backtests(bpb, "bits per byte, in percent", 100))
    console.print(predictions.backtests(report.acc_rows, "accuracy through both steps, in points", 1))
    weights = dict(zip((f.name for f in report.bpb.forms), report.weights_FT.mean(axis=1).tolist(), strict=True))
    console.print("weights of the forms: " + ", ".join(f"{name} {w:.1%}" for name, w in weights.items()))
    console.print(f"intervals are stretched by {report.factor_bpb:.2f} (bpb) and {report.factor_acc:.2f} (accuracy)")
    if json:
        show.write_json(json, {"bpb": bpb, "accuracy": report.acc_rows, "form_weights": weights})


def report(
    table: Table,
    /,
    *,
    target: Targets = (),
    bootstrap: int = 1000,
    seed: int = 0,
    out: Out = Path("report.html"),
) -> None:
    """One self-contained HTML page: the runs, the laws, the predictions and, where it is known, the truth.

    Example: ladder report runs/demo -o report.html

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    from launch import predictions

    read, predicted = predictions.predict(table, target, None, bootstrap, seed)
    from fitting import report as reports

    reports.report(read, predicted, out, {"commands": [f"ladder report {table} -o {out}"]})
    print(out)


def export(table: Table, /, *, out: Out) -> None:
    """Write the finished runs of a folder as one runs table.

    Example: ladder export runs/demo -o demo.csv.gz
    """
    from fitting import table as tables

    if not out.name.endswith((".csv", ".csv.gz")):
        raise InputError(f"{out}: a runs table is written as .csv or .csv.gz")
    read = tables.read(table)
    try:
        tables.write(read, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    left = f"; left out: {'; '.join(read.left_out)}" if read.left_out else ""
    print(f"{out}: {len(read)} rows of {len(read.unique('run'))} runs{left}")
