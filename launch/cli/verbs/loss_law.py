"""Verbs about scaling laws of the loss."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import display, terminal
from launch.cli.loss_reading import DEFAULTS, Column, Read, Reading
from launch.cli.options import Json, given, preset, refuse

Losses = Annotated[
    Positional[str],
    arg(metavar="TABLE", help="a wide table (a row per run), a runs table (.csv, .csv.gz, .jsonl) or runs/NAME"),
]
Plot = Annotated[Path | None, arg(metavar="FILE", help="draw it: .png, .svg or .pdf", help_behavior_hint="")]


def fit(
    table: Losses,
    /,
    *,
    law: str = "chinchilla",
    published: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    huber: Annotated[float | None, preset(1e-3)] = None,
    overestimate_penalty: Annotated[float | None, preset(1.0)] = None,
    starts: Annotated[Literal["data", "grid"] | None, preset("data")] = None,
    bootstrap: Annotated[int | None, preset(4000)] = None,
    seed: Annotated[int | None, preset(0)] = None,
    precision: Annotated[Literal["float64", "float32"] | None, preset("float64")] = None,
    noise: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    reading: Read = DEFAULTS,
    plot: Plot = None,
    figure: Annotated[Literal["law", "against", "pairs", "landscape"] | None, preset("law")] = None,
    json: Json = None,
) -> None:
    """Fit a scaling law of the loss: parameters, standard errors, intervals.

    Example: ladder fit points.csv --law chinchilla --huber 1e-3 --bootstrap 4000 --plot fit.png

    Args:
        law: its name; a wrong one lists them
        published: fit nothing, but hold the table against someone's constants of the law (kaplan, hoffmann, ...)
        huber: threshold of the Huber loss, in ln loss
        overestimate_penalty: how much more a run below the law counts than one above; for under-tuned runs
        starts: 24 drawn from the data, or the 4,500 of Hoffmann et al. 2022
        bootstrap: resamples behind standard errors and intervals
        seed: of the resamples
        noise: study.json of ladder study noise: intervals take the noise of a run for no less than that between seeds
        figure: what --plot draws: the law, loss against N, D and C, pairs of resampled parameters, or the objective
        precision: of the resamples; float32 is for accelerators without float64, refused where it differs by 0.2 %
    """
    settings = {"delta": huber, "penalty": overestimate_penalty, "n_resamples": bootstrap, "seed": seed}
    settings = given(settings | {"grid": starts == "grid", "precision": precision})
    refuse("without --plot", {"figure": None if plot else figure})
    if published:
        flags = {"huber": huber, "overestimate_penalty": overestimate_penalty, "starts": starts, "bootstrap": bootstrap}
        flags |= {"seed": seed, "precision": precision, "noise": noise, "plot": plot}
        flags |= {"weights": reading.weights, "runs": reading.runs}
        refuse("with --published, which fits nothing", flags)
        return _against_published(published, law, _points(table, law, reading), json)
    points, settings = _points(table, law, reading), settings | _noise_of(noise, reading.task)
    keep_compiled()
    from fitting.api import loss
    from fitting.report import loss_tables

    with terminal.working(f"fitting {law}"):
        fitted = loss.fit_points(points, law, **settings)
    terminal.console().print(display.table(fitted.grids()[0]))
    terminal.console().print("\n".join(loss_tables.summary(fitted)))
    display.flags(fitted.flags)
    if json:
        terminal.write_json(json, fitted.json())
    if plot:
        from fitting.report import loss_figures

        display.save(loss_figures.FIGURES[figure or "law"](fitted), plot)


def _noise_of(path: Path | None, task: str | None) -> dict:
    """Of a task (None: the validation loss), as a setting of the fit. Raises InputError where it was not measured."""
    if path is None:
        return {}
    from fitting.inference import measured
    from fitting.tables.loss_points import TASK

    noise = measured.read_noise(path)
    if (task or TASK) not in noise.sd:
        raise InputError(f"{path}: no noise of {task or TASK}; it has {', '.join(noise.sd)}")
    return {"noise": noise.sd[task or TASK]}


def _points(table: str, law: str, reading: Reading):
    """The points for a law. Raises InputError for flags that it does not use."""
    from fitting.laws.catalogue import LAWS

    points = reading.points(table)
    if law in LAWS:  # the fit lists the laws
        reading.refuse_unused(f"with the law {law}", points, LAWS[law].features)
    return points


def keep_compiled() -> None:
    """Compiled programs stay in the user's cache folder."""
    with terminal.working("starting"):
        from ladder.loop import compile_cache

        compile_cache.keep()


def _against_published(name: str, law: str, points, json) -> None:
    from fitting.laws import published
    from fitting.report import loss_tables
    from fitting.tables import comparable

    result = published.find(name, law).json(points) | comparable.in_json(points.flags)
    terminal.console().print(loss_tables.against_published(result))
    display.flags(points.flags)
    if json:
        terminal.write_json(json, result)


def extrapolate(
    table: Annotated[Positional[str], arg(metavar="TABLE", help="a runs table (.csv, .csv.gz, .jsonl) or runs/NAME")],
    /,
    *,
    first: float = 0.5,
    task: str = "train",
    metric: str = "loss",
    n: Column = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Predict where learning curves end from their first part; runs that are done show how well that goes.

    Example: ladder extrapolate runs/demo --first 0.5

    Args:
        first: share of a run's steps that may be known, beside the whole curves of smaller sizes
        task: what was measured along the way
        metric: and how
        n: how parameters are counted (n_params)
    """
    keep_compiled()
    from fitting.loss_laws import learning_curves
    from fitting.report import loss_tables
    from fitting.tables import comparable, runs_table

    with terminal.working(f"reading {table}"):
        runs = runs_table.read(as_path(table), unfinished=True)
    display.flags(f"left out: {line}" for line in runs.left_out)
    with terminal.working("fitting the learning curves"):
        read = learning_curves.read(runs, task, metric, n or "n_params")
        ends = learning_curves.ends(read, first)
    console = terminal.console()
    console.print(display.table(loss_tables.curve_ends(ends, f"{metric} of {task}")))
    console.print(loss_tables.curve_score(learning_curves.score(ends)))
    # The law knows how far a run has decayed, so runs without an end are no reason for a flag.
    scored = comparable.scored(runs.select(task=task, metric=metric))
    flags = [f"{task}: {line}" for line in comparable.other_docs(scored)]
    display.flags(flags)
    if json:
        about = {"first": first, "quantity": f"{metric} of {task}", "ends": [e.json() for e in ends]}
        terminal.write_json(json, about | comparable.in_json(flags))
    if plot:
        from fitting.report import curve_figures

        display.save(curve_figures.ends(ends, read, f"{metric} of {task}"), plot)
