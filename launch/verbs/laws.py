"""Verbs about runs tables and the laws fitted to them."""

from pathlib import Path
from typing import Annotated

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
    bootstrap: int = 1000,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Predict the bpb and the accuracy of a larger model from a table of runs.

    Example: ladder predict runs.csv.gz --target 7B-4T=6887575552,3945065873408

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        tasks: which tasks
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    from launch import predictions

    _, predicted = predictions.predict(table, target, None if tasks == ("all",) else list(tasks), bootstrap, seed)
    show.console().print(predictions.table(predicted.entries))
    if json:
        show.write_json(json, predicted.json())


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
