"""Verbs about runs tables and the task law fitted to them."""

from pathlib import Path
from typing import Annotated, Literal

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from ladder.errors import InputError
from launch import display, terminal
from launch.cli.options import Json, Out, Table, Targets, amounts, preset, refuse


def predict(
    table: Table,
    /,
    *,
    target: Targets = (),
    tasks: Annotated[tuple[str, ...], arg(metavar="TASK ...")] = ("all",),
    method: Literal["default", "paper", "paper-c", "paper-single"] = "default",
    floor: Literal["families", "uniform"] = "families",
    bootstrap: Annotated[int | None, preset(200)] = None,
    seed: Annotated[int | None, preset(0)] = None,
    json: Json = None,
    seal: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
) -> None:
    """Predict the bpb and the accuracy of a larger model from a table of runs.

    Example: ladder predict runs.csv.gz --target 7B-4T=6887575552,3945065873408

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        tasks: which tasks
        method: paper, paper-c, paper-single: the task-ladder paper's methods to the letter (no intervals)
        floor: prior of the law's irreducible loss. families: about 58 % of the smallest loss, as in public families of
            large models. uniform: every share is equally likely; for models of less than a million parameters
        bootstrap: resamples of the runs, which say how far each parameter is known
        seed: of the resamples
        seal: write the forecast to a new file with what it was made of, and print the hash to publish before the target
            is trained; ladder report --sealed FILE compares them
    """
    fitting = _fitting()
    targets = _targets(target)
    if method != "default":
        given = {"bootstrap": bootstrap, "seed": seed, "seal": seal}
        refuse(f"with --method {method}, which has no intervals", given)
    if seal:
        from launch import sealed

        sealed.check_new(seal)
    chosen = None if tasks == ("all",) else _named(tasks)
    runs = _runs(table)
    settings = {"resamples": 200 if bootstrap is None else bootstrap, "seed": seed or 0, "floor": floor}
    with terminal.working("fitting the task laws"):
        result = fitting.forecast(runs, targets, tasks=chosen, method=method, **settings)
    display.show(result)
    if json:
        about = {"table_sha256": runs.sha256, "method": method, "n_convention": "n_params"}
        about |= {"targets": [t.json() for t in targets or _in_table(runs)]}
        terminal.write_json(json, about | result.json())
    if seal:
        sha256 = sealed.write(seal, runs, targets or _in_table(runs), result, settings | {"tasks": chosen})
        print(f"sealed in {seal}; publish its sha256 before the target is trained: {sha256}")


def _named(tasks: tuple[str, ...]) -> list[str]:
    """The tasks, each once."""
    if not all(name.strip() for name in tasks) or not tasks:
        raise InputError("--tasks: names no task; leave it out for all")
    return list(dict.fromkeys(tasks))


def _fitting():
    """The public interface of fitting, with compiled programs kept in the user's cache."""
    with terminal.working("starting"):
        import fitting
        from ladder.loop import compile_cache

        compile_cache.keep()
    return fitting


def _runs(table: str):
    """The runs table, after a line for every run that is left out."""
    fitting = _fitting()
    with terminal.working(f"reading {table}"):
        runs = fitting.read_runs(table)
    display.flags(f"left out: {line}" for line in runs.left_out)
    return runs


def _targets(texts: tuple[str, ...]) -> list | None:
    """Targets from NAME=N,D; None for those in the table."""
    from fitting.tables import comparable
    from fitting.tables.points import parse_target

    targets = [parse_target(text) for text in texts]
    for target in targets:
        if target.C is not None and comparable.far_from_6nd(target.N, target.D, target.C):
            raise InputError(
                f"--target {target.name}: {target.C:.4g} FLOPs, but 6 N D is {6 * target.N * target.D:.4g}; write"
                " NAME=N,D,FLOPS with the FLOPs of the whole training, or leave them out"
            )
    return targets or None


def _one_target(texts: tuple[str, ...]):
    """The target from NAME=N,D, or None. Raises InputError for several."""
    if len(texts) > 1:
        raise InputError(f"--target: one target at a time, and these are {len(texts)}: {', '.join(texts)}")
    return (_targets(texts) or [None])[0]


def _in_table(runs) -> list:
    from fitting.tables.points import targets_of

    return targets_of(runs)


def backtest(table: Table, /, *, json: Json = None) -> None:
    """How well the ladder's small runs predict its large ones: errors and coverage.

    Example: ladder backtest runs.csv.gz
    """
    fitting = _fitting()
    runs = _runs(table)
    with terminal.working("predicting the large runs from the small ones"):
        result = fitting.backtest(runs)
    display.show(result)
    if json:
        terminal.write_json(json, result.json())


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
        target: name, parameters and tokens of the model that both would train
        bootstrap: draws of both forecasts behind the intervals
        seed: of the draws
    """
    fitting = _fitting()
    first = _one_target(target)
    a, b = _runs(table), _runs(other)
    first = first or next(iter(_in_table(a)), None)
    if first is None:
        raise InputError(f"{table}: no target to compare at: add --target NAME=N,D")
    with terminal.working("fitting the task laws of both recipes"):
        result = fitting.compare(a, b, first, resamples=bootstrap, seed=seed)
    display.show(result)
    if json:
        terminal.write_json(json, {"tables": [table, other]} | result.json())


def design(
    table: Table,
    /,
    *,
    target: Targets = (),
    budget: Annotated[tuple[str, ...], arg(metavar="FLOPS ...")] = (),
    noise: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = None,
) -> None:
    """Which of a table's runs to train for a budget, so that the target's error bar is smallest.

    Example: ladder design runs.csv.gz --target 7B-4T=6887575552,3945065873408 --budget 7e20 1.4e21

    Args:
        target: name, parameters and tokens of a model; without it, the first target in the table
        budget: training FLOPs to spend; without it, 10, 20, 40 and 100 % of what the table's runs cost
        noise: study.json of ladder study noise, for the noise of the tasks that it has; default: how far the runs lie
            from the law
    """
    budgets = amounts("budget", budget)
    fitting, chosen = _fitting(), _one_target(target)
    measured = fitting.read_noise(noise) if noise else None
    runs = _runs(table)
    chosen = chosen or next(iter(_in_table(runs)), None)
    if chosen is None:
        raise InputError(f"{table}: no target to design for: add --target NAME=N,D")
    with terminal.working("choosing runs for each budget"):
        result = fitting.design(runs, chosen, budgets or None, measured)
    display.show(result)
    if json:
        terminal.write_json(json, result.json())


def error_analysis(table: str, target: tuple[str, ...], run: str | None, json: Path | None) -> None:
    """`ladder study errors`, the task-ladder paper's: how noisy each task is, how the error falls with the ladder's
    compute. run: whose last ten evaluations say how noisy a task is; None: the largest."""
    from fitting.bhagia2024 import error_analysis as analysis
    from fitting.bhagia2024 import methods
    from fitting.forecasting import diagnostics, measurements
    from fitting.report import task_tables
    from fitting.tables import comparable

    chosen_target = _one_target(target)
    runs = _runs(table)
    chosen_target = chosen_target or next(iter(_in_table(runs)), None)
    ends = methods.points(runs, None)
    chosen = run or ends.runs[-1]
    if chosen not in runs["run"]:
        raise InputError(f"{table}: no run {chosen!r}; it has {', '.join(runs.unique('run'))}")
    noise, console = analysis.variance(runs, chosen), terminal.console()
    console.print(display.table(task_tables.noise(noise, chosen)))
    errors = []
    if chosen_target:
        smaller = analysis.ladders(runs)
        rows = analysis.compute_versus_error(runs, chosen_target, smaller)
        with terminal.progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
            errors = list(progress.track(rows, total=len(smaller), description="smaller ladders"))
    if errors:
        console.print(display.table(task_tables.smaller_ladders(errors, chosen_target.name)))
    else:
        console.print("no target in the table has been measured above chance, so errors of smaller ladders are unknown")
    flags = diagnostics.mixed(measurements.read(runs, None, "n_params"))
    flags += [f"{task}: left out of the errors of accuracy, {why}" for task, why in analysis.at_chance(runs).items()]
    display.flags(flags)
    if json:
        about = {"run": chosen, "variance": noise, "compute_versus_error": errors}
        terminal.write_json(json, about | comparable.in_json(flags))


def report(
    table: Table,
    /,
    *,
    target: Targets = (),
    bootstrap: Annotated[int | None, preset(200)] = None,
    seed: Annotated[int | None, preset(0)] = None,
    sealed: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    out: Out = Path("report.html"),
) -> int:
    """One self-contained HTML page: the runs, the laws, the predictions and, where it is known, the truth.

    Example: ladder report runs/demo -o report.html

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        bootstrap: resamples of the runs, which say how far each parameter is known
        seed: of the resamples
        sealed: a forecast by ladder predict --seal: show it beside the truth, and exit with 1 if the runs that it was
            made of have changed
    """
    fitting, targets, contents = _fitting(), _targets(target), None
    draws = {"resamples": 200 if bootstrap is None else bootstrap, "seed": seed or 0}
    if sealed:
        from fitting.report import task_tables
        from launch import sealed as seals

        refuse("with --sealed, which holds it", {"target": target, "bootstrap": bootstrap, "seed": seed})
        contents = seals.read(sealed)
        targets, draws = contents.targets, contents.contents["settings"]
    runs = _runs(table)
    command, meta, changed = f"ladder report {table} -o {out}", {}, []
    if contents:
        entries, (said, changed) = seals.compared(contents, runs), seals.facts(contents, runs)
        meta = {"sealed": {"lines": said + changed, "entries": entries}}
        display.tables(task_tables.predictions(entries, (), contents.contents["metrics"]["loss"]), terminal.console())
        display.flags([*said, *changed])
        command += f" --sealed {sealed}"
    with terminal.working("fitting the task laws"):
        result = fitting.forecast(runs, targets, **draws)
    with terminal.working("drawing the page"):
        from fitting.report import task_report

        task_report.report(runs, result.prediction, out, meta | {"commands": [command]})
    print(out)
    return 1 if changed else 0
