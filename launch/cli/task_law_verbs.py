"""Verbs about runs tables and the laws fitted to them."""

from pathlib import Path
from typing import Annotated, Literal

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from ladder.errors import InputError
from launch import terminal
from launch.cli.options import Json, Out, Table, Targets


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
    from launch import task_law_tables

    wanted = None if tasks == ("all",) else list(tasks)
    if method == "default":
        result = task_law_tables.predict(table, target, wanted, bootstrap, seed)[1].json()
    else:
        result = task_law_tables.by_the_paper(table, target, wanted, method)
    terminal.console().print(task_law_tables.table([*result["predictions"], *result.get("suite", [])]))
    if json:
        terminal.write_json(json, result)


def backtest(table: Table, /, *, seed: int = 0, json: Json = None) -> None:
    """How well the ladder's small runs predict its large ones: errors, coverage and the forms' weights.

    Example: ladder backtest runs.csv.gz

    Args:
        seed: of the resamples
    """
    from fitting.tables import points
    from fitting.task_laws import accuracy
    from fitting.task_laws import backtest as backtests
    from launch import task_law_tables

    runs, _ = task_law_tables.read(table, ())
    at = points.ladder_points(runs, None, "n_params")
    report = backtests.report(runs, at, accuracy.fit_all(runs, at.tasks, 100, seed), "n_params", seed)
    if report is None:
        raise InputError(
            f"{table}: {len(at.runs)} runs cannot be split; a backtest needs {backtests.MIN_FIT_RUNS} to fit"
        )
    console, bpb = terminal.console(), report.bpb.table()
    console.print(task_law_tables.backtests(bpb, "bits per byte, in percent", 100))
    console.print(task_law_tables.backtests(report.acc_rows, "accuracy through both steps, in points", 1))
    weights = dict(zip((f.name for f in report.bpb.forms), report.weights_FT.mean(axis=1).tolist(), strict=True))
    console.print("weights of the forms: " + ", ".join(f"{name} {w:.1%}" for name, w in weights.items()))
    console.print(f"intervals are stretched by {report.factor_bpb:.2f} (bpb) and {report.factor_acc:.2f} (accuracy)")
    if json:
        terminal.write_json(json, {"bpb": bpb, "accuracy": report.acc_rows, "form_weights": weights})


def compare(
    table: Table,
    other: Annotated[Positional[str], arg(metavar="OTHER", help="the runs table of the other recipe")],
    /,
    *,
    target: Targets,
    bootstrap: int = 1000,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Which of two recipes, each with a ladder of its own, will be better at a target, and worth how much compute.

    Example: ladder compare mine.csv theirs.csv --target 7B-4T=6887575552,3945065873408

    Args:
        target: name, parameters and tokens of the model that both would train (the first counts)
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    from launch import task_law_tables

    (_, a), (_, b) = (task_law_tables.predict(t, target, None, bootstrap, seed) for t in (table, other))
    from fitting.task_laws import compare as comparing

    rows = comparing.compare(a, b, a.targets[0], seed)
    terminal.console().print(task_law_tables.comparison(rows, a.targets[0].name))
    if json:
        terminal.write_json(json, {"target": a.targets[0].name, "tables": [table, other], "tasks": rows})


def design(
    table: Table,
    /,
    *,
    target: Targets = (),
    budget: Annotated[tuple[float, ...], arg(metavar="FLOPS ...")] = (),
    json: Json = None,
) -> None:
    """Which of a table's runs to train for a budget, so that the target's error bar is smallest.

    Example: ladder design runs.csv.gz --target 7B-4T=6887575552,3945065873408 --budget 7e20 1.4e21

    Args:
        target: name, parameters and tokens of a model (the first is designed for)
        budget: training FLOPs to spend; without it, 10, 20, 40 and 100 % of what the table's runs cost
    """
    import numpy as np
    from rich.table import Table as Grid

    from fitting.inference import bootstrap
    from fitting.laws.power_sum import CHINCHILLA
    from fitting.tables import points
    from fitting.task_laws import design as designs
    from launch import task_law_tables

    runs, targets = task_law_tables.read(table, target)
    if not targets:
        raise InputError(f"{table}: no target to design for: add --target NAME=N,D")
    at = points.ladder_points(runs, None, "n_params")
    features = {k: at.features[k] for k in ("N", "D")}
    flops_n = at.features.get("flops", 6 * features["N"] * features["D"])
    has_Tn = ~np.isnan(at.bpb_Tn)
    bpb_Tn = np.where(has_Tn, at.bpb_Tn, 1.0)
    fitted = bootstrap.fit(
        CHINCHILLA, features, bpb_Tn, weights_Tn=has_Tn, delta=1e-2, n_resamples=2, method="residuals"
    )  # fmt: skip
    made = designs.candidates(fitted, features, targets[0].features, flops_n)
    total = float(flops_n.sum())
    rows = designs.frontier(made, budget or [share * total for share in (0.1, 0.2, 0.4, 1.0)])
    grid = Grid(title=f"runs that predict {targets[0].name} best, of {len(at.runs)}", title_justify="left")
    for name in ("budget, FLOPs", "of all", "80 % half-width of bpb", "runs"):
        grid.add_column(name, overflow="fold")
    for row in rows:
        row["runs"] = [at.runs[i] for i in row["runs"]]
        grid.add_row(
            f"{row['budget']:.3g}", f"{row['flops'] / total:.0%}", f"{row['half_width']:.1%}", ", ".join(row["runs"])
        )
    terminal.console().print(grid)
    if json:
        terminal.write_json(json, {"target": targets[0].name, "frontier": rows})


def study(
    table: Table,
    /,
    *,
    target: Targets = (),
    run: Annotated[str | None, arg(metavar="RUN")] = None,
    json: Json = None,
) -> None:
    """The task-ladder paper's error analysis: how noisy each task is, how the error falls with the ladder's compute.

    Example: ladder study runs.csv.gz --run 1B-10xC

    Args:
        target: a model whose own run is in the table; without it, the first target there
        run: whose last ten evaluations say how noisy a task is; without it, the largest run
    """
    from fitting.bhagia2024 import error_analysis, methods
    from launch import task_law_tables

    runs, targets = task_law_tables.read(table, target)
    chosen = run or methods.points(runs, None).runs[-1]
    if chosen not in runs["run"]:
        raise InputError(f"{table}: no run {chosen!r}; it has {', '.join(runs.unique('run'))}")
    noise, console = error_analysis.variance(runs, chosen), terminal.console()
    console.print(task_law_tables.noise(noise, chosen))
    errors = []
    if targets:
        smaller = error_analysis.ladders(runs)
        rows = error_analysis.compute_versus_error(runs, targets[0], smaller)
        with terminal.progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
            errors = list(progress.track(rows, total=len(smaller), description="smaller ladders"))
    if errors:
        console.print(task_law_tables.smaller_ladders(errors, targets[0].name))
    else:
        console.print("no target in the table has been measured: errors of smaller ladders cannot be told")
    if json:
        terminal.write_json(json, {"run": chosen, "variance": noise, "compute_versus_error": errors})


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
    from launch import task_law_tables

    read, predicted = task_law_tables.predict(table, target, None, bootstrap, seed)
    from fitting.report import task_report as reports

    reports.report(read, predicted, out, {"commands": [f"ladder report {table} -o {out}"]})
    print(out)


def export(
    table: Table,
    /,
    *,
    out: Out,
    source: Literal["ladder", "paper", "lm-eval", "wandb"] = "ladder",
    run: Annotated[str | None, arg(metavar="NAME=N,D")] = None,
    step: float = 0,
    tokens: str = "tokens",
) -> None:
    """Write runs as one runs table: the finished runs of a folder, or another project's results.

    Example: ladder export runs/demo -o demo.csv.gz

    Args:
        source: paper: a folder of the task-ladder paper's CSVs; lm-eval: a result JSON; wandb: a history CSV
        run: name and parameters of the run (lm-eval, wandb), and its training tokens (lm-eval): 1B-10xC=1.3e9,2.6e11
        step: of the run when lm-eval evaluated it
        tokens: wandb: the column with training tokens, or the number of tokens in a step
    """
    from fitting.tables import importers, runs_table

    if not out.name.endswith((".csv", ".csv.gz")):
        raise InputError(f"{out}: a runs table is written as .csv or .csv.gz")
    if source == "ladder":
        read = runs_table.read(table)
    elif source == "paper":
        read = importers.paper(table)
    else:
        name, numbers = _run(run, 2 if source == "lm-eval" else 1)
        if source == "lm-eval":
            read = importers.lm_eval(table, name, *numbers, step)
        else:
            read = importers.wandb(table, name, *numbers, tokens)
    try:
        runs_table.write(read, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    left = f"; left out: {'; '.join(read.left_out)}" if read.left_out else ""
    print(f"{out}: {len(read)} rows of {len(read.unique('run'))} runs{left}")


def _run(text: str | None, n_numbers: int) -> tuple[str, list[float]]:
    """ "NAME=N" or "NAME=N,D" -> (name, numbers)."""
    name, _, numbers = (text or "").partition("=")
    try:
        values = [float(v) for v in numbers.split(",")]
    except ValueError:
        values = []
    if not name or len(values) != n_numbers or not all(0 < v < float("inf") for v in values):
        wanted = "NAME=N,D" if n_numbers == 2 else "NAME=N"
        raise InputError(f"--run {text or ''!r}: write {wanted}, positive numbers, such as 1B-10xC=1.3e9,2.6e11")
    return name, values
