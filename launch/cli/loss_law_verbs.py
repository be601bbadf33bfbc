"""Verbs about scaling laws of the loss."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fitting.errors import InputError as FitInputError
from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import display, terminal
from launch.cli.options import Json

Losses = Annotated[
    Positional[str],
    arg(metavar="TABLE", help="a wide table (a row per run), a runs table (.csv, .csv.gz, .jsonl) or runs/NAME"),
]
Column = Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="")]
Plot = Annotated[Path | None, arg(metavar="FILE", help="draw it: .png, .svg or .pdf", help_behavior_hint="")]


@dataclass(frozen=True)
class Reading:
    """How a table of losses is read."""

    n: Column = None
    """wide: column of parameters (params); runs table: how they are counted (n_params)"""
    d: Column = None
    """wide: column of training tokens (tokens; without it, flops / 6 N)"""
    c: Column = None
    """wide: column of training FLOPs (flops; without it, 6 N D)"""
    s: Column = None
    """wide: column of training steps (steps)"""
    b: Column = None
    """wide: column of the batch size in tokens (batch_tokens)"""
    u: Column = None
    """wide: column of the unique tokens of the training data (unique_tokens)"""
    t: Column = None
    """wide: column of the position of the predicted token (position)"""
    y: Column = None
    """wide: column of the fitted quantity (loss)"""
    weights: Column = None
    """wide: column of how much each row counts"""
    task: str = "validation"
    """runs table: what was measured"""
    metric: str = "bpb"
    """runs table: and how"""
    against: Annotated[str | None, arg(metavar="TASK", help_behavior_hint="")] = None
    """runs table: the task whose loss is L, for --law transfer"""
    reach: Annotated[float | None, arg(metavar="LOSS", help_behavior_hint="")] = None
    """fit the steps that learning curves take to this loss instead of the loss"""
    drop_above: Annotated[float | None, arg(metavar="LOSS", help_behavior_hint="")] = None
    """leave out points with a larger loss"""
    keep_excluded: bool = False
    """also use rows marked in a column "excluded" """
    critical_batch: Annotated[str | None, arg(metavar="B_STAR,ALPHA_B", help_behavior_hint="")] = None
    """constants of B_crit(L), by which S_min and C_min follow from S, B and C (Kaplan's 2e8,0.21)"""

    def points(self, table: str, curves: bool = False, labels: tuple[str, ...] = ()):
        """loss_points.LossPoints of a table."""
        from fitting.tables import loss_points

        columns = {"N": self.n, "D": self.d, "C": self.c, "S": self.s, "B": self.b, "U": self.u, "T": self.t}
        how = loss_points.Reading(
            {feature: column for feature, column in columns.items() if column},
            self.y,
            self.task,
            self.metric,
            self.keep_excluded,
            self.drop_above,
            self.critical(),
            curves,
            self.reach,
            self.weights,
            against=self.against,
            labels=labels,
        )
        return loss_points.read(table, how)

    def critical(self) -> dict | None:
        """Constants of B_crit(L), where they are given."""
        text = self.critical_batch
        if text is None:
            return None
        try:
            b_star, alpha_b = (float(v) for v in text.split(","))
        except ValueError:
            b_star = alpha_b = 0.0
        if not (0 < b_star < float("inf") and 0 < alpha_b < float("inf")):
            raise InputError(f"--critical-batch {text!r}: write B_STAR,ALPHA_B, positive numbers, such as 2e8,0.21")
        return {"B_star": b_star, "alpha_B": alpha_b}


Read = Annotated[Reading, arg(name="")]


def fit(
    table: Losses,
    /,
    *,
    law: str = "chinchilla",
    published: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    huber: float = 1e-3,
    overestimate_penalty: float = 1.0,
    starts: Literal["data", "grid"] = "data",
    bootstrap: int = 4000,
    seed: int = 0,
    precision: Literal["float64", "float32"] = "float64",
    reading: Read = Reading(),
    plot: Plot = None,
    figure: Literal["law", "against", "pairs", "landscape"] = "law",
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
        figure: what --plot draws: the law, loss against N, D and C, pairs of resampled parameters, or the objective
        precision: of the resamples; float32 is for accelerators without float64, refused where it differs by 0.2 %
    """
    points = reading.points(table)
    if published:
        return _against_published(published, law, points, json)
    _keep_compiled()
    from fitting.api import loss
    from fitting.report import loss_tables

    settings = {"n_resamples": bootstrap, "seed": seed, "grid": starts == "grid", "precision": precision}
    fitted = loss.fit_points(points, law, delta=huber, penalty=overestimate_penalty, **settings)
    terminal.console().print(display.table(fitted.grids()[0]))
    terminal.console().print("\n".join(loss_tables.summary(fitted)))
    display.flags(fitted.flags)
    if json:
        terminal.write_json(json, fitted.json())
    if plot:
        from fitting.report import loss_figures

        display.save(loss_figures.FIGURES[figure](fitted), plot)


def _keep_compiled() -> None:
    """Compiled programs stay in the user's cache folder."""
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


def allocate(
    table: Annotated[Positional[str | None], arg(metavar="[TABLE]", help_behavior_hint="")] = None,
    /,
    *,
    budget: Annotated[tuple[float, ...], arg(metavar="FLOPS ...")],
    approach: Literal[1, 2, 3] = 3,
    law: str = "chinchilla",
    published: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    huber: float = 1e-3,
    isoflop: Annotated[tuple[float, ...], arg(metavar="FLOPS ...", help_behavior_hint="")] = (),
    unique: Annotated[float | None, arg(metavar="TOKENS", help_behavior_hint="")] = None,
    vary: Annotated[tuple[str, ...], arg(metavar="FACTOR ...", help_behavior_hint="")] = (),
    bootstrap: int = 4000,
    seed: int = 0,
    reading: Read = Reading(),
    plot: Plot = None,
    json: Json = None,
) -> None:
    """What to train with a budget: compute-optimal parameters and tokens, with intervals.

    Example: ladder allocate points.csv --budget 1e22 5.76e23

    Args:
        budget: training FLOPs (6 N D)
        approach: of Hoffmann et al. 2022: 1 envelope of learning curves, 2 IsoFLOP parabolas, 3 a fitted law
        law: of approach 3: chinchilla, chinchilla-tied, kaplan-nd, kaplan-ns
        published: what a published fit says, without a table: hoffmann, besiroglu, muennighoff, kaplan
        huber: approach 3: threshold of the Huber loss, in ln loss
        isoflop: approach 2: the budgets that the table's runs were trained for, where they do not stand apart
        unique: how many tokens there are, where they must be repeated (fits the law muennighoff)
        vary: how the exponent of N_opt moves with these choices: columns of settings (tuning), or columns to count by
            (n=non_embedding,params c=6ND,flops)
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    _keep_compiled()
    from fitting.loss_laws import allocation
    from fitting.report import loss_tables

    options = {"delta": huber, "n_resamples": bootstrap}
    ways = _approaches(law, options, isoflop, reading.critical())
    if (table is None) == (published is None):
        raise InputError("give a TABLE, or --published NAME and no table")
    if unique and table:
        return _limited(reading.points(table), unique, budget, options | {"seed": seed}, json)
    if vary:
        return _decomposed(table, reading, approach, vary, ways[approach], seed, json)
    points = None if published else reading.points(table, curves=approach == 1)
    frontier = allocation.of_published(published) if published else ways[approach](points, seed)
    result = frontier.json(budget)
    notes = [*result["notes"], *_bias(points, isoflop, huber, approach)]
    _report(loss_tables.allocations(result), result, notes, json)
    if plot:
        from fitting.report import loss_figures

        display.save(loss_figures.allocation(frontier, points, budget), plot)


def _approaches(law: str, options: dict, budgets: tuple[float, ...], critical: dict | None) -> dict:
    """{approach: function of (points, seed) -> Frontier}."""
    from fitting.laws import kaplan_relations as kaplan
    from fitting.loss_laws import allocation, envelope, isoflop, loss_fit

    n_resamples, batch = options["n_resamples"], critical or kaplan.BATCH
    return {
        1: lambda points, seed: envelope.envelope(points, n_resamples, seed),
        2: lambda points, seed: isoflop.isoflop(points, n_resamples, seed, budgets),
        3: lambda points, seed: allocation.of_law(loss_fit.fit(points, law, **options, seed=seed), batch),
    }


def _limited(points, unique: float, budget: tuple[float, ...], options: dict, json) -> None:
    from fitting.loss_laws import allocation, loss_fit
    from fitting.report import loss_tables

    fitted = loss_fit.fit(points, "muennighoff", **options)
    result = {"unique_tokens": unique, "allocations": allocation.repeated(fitted, budget, unique)}
    result["notes"] = fitted.flags
    _report(loss_tables.limited_data(result), result, result["notes"], json)


def _report(grid, result: dict, notes: list[str], json) -> None:
    terminal.console().print(display.table(grid))
    display.flags(notes)
    if json:
        terminal.write_json(json, result)


def _decomposed(
    table: str | None, reading: Reading, approach: int, vary: tuple[str, ...], fit, seed: int, json
) -> None:
    from fitting.loss_laws import decomposition
    from fitting.report import loss_tables
    from fitting.tables import comparable

    if table is None or (approach == 3 and any(v.startswith("c=") for v in vary)):
        raise InputError("--vary: needs a TABLE, and for c= --approach 1 or 2 (approach 3 takes C for 6 N D)")
    factors = [decomposition.parse(text) for text in vary]
    labels, flags = tuple(f.name for f in factors if not f.counts), {}

    def read(columns: dict):
        try:
            points = replace(reading, **columns).points(table, curves=approach == 1, labels=labels)
            flags.update(dict.fromkeys(points.flags))
            return points
        except FitInputError as error:
            if error.argument and error.argument.lower() in columns:
                error.argument = "vary"
            raise

    factors, frontiers = decomposition.cells(factors, read, lambda points, draw: fit(points, seed + draw))
    result = decomposition.json(factors, frontiers) | comparable.in_json(flags)
    moves = loss_tables.moves(result)
    terminal.console().print(display.table(loss_tables.exponents(result)))
    terminal.console().print(moves if isinstance(moves, str) else display.table(moves))
    display.flags(flags)
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
    _keep_compiled()
    from fitting.loss_laws import learning_curves
    from fitting.report import loss_tables
    from fitting.tables import comparable, runs_table

    runs = runs_table.read(as_path(table), unfinished=True)
    display.flags(f"left out: {line}" for line in runs.left_out)
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


def _bias(points, budgets: tuple[float, ...], huber: float, approach: int) -> list[str]:
    """What the shape of the grid does to parabolas, in words."""
    if approach != 2:
        return []
    import numpy as np

    from fitting.loss_laws import isoflop, loss_fit

    of_a, of_n = isoflop.isoflop_bias(points, loss_fit.fit(points, delta=huber, n_resamples=2), budgets)
    return [
        f"bias of approach 2 on this grid, of a law without noise: {of_a:+.3f} in the exponent of N_opt,"
        f" {np.expm1(of_n):+.1%} in N_opt at the largest budget"
    ]
