"""`ladder allocate`: what to train with a budget."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fitting.errors import InputError as FitInputError
from fitting.errors import check_positive
from ladder.errors import InputError
from launch import display, terminal
from launch.cli.loss_reading import DEFAULTS, Read, Reading
from launch.cli.options import Json, amounts, preset, refuse
from launch.cli.verbs.loss_law import Plot, keep_compiled

LEAST_BUDGET = 6e6  # a thousand parameters, a thousand tokens
LAW, HUBER, RESAMPLES = "chinchilla", 1e-3, 4000


def allocate(
    table: Annotated[Positional[str | None], arg(metavar="[TABLE]", help_behavior_hint="")] = None,
    /,
    *,
    budget: Annotated[tuple[str, ...], arg(metavar="FLOPS ...")],
    approach: Annotated[Literal[1, 2, 3] | None, preset(3)] = None,
    law: Annotated[str | None, preset("chinchilla")] = None,
    published: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    huber: Annotated[float | None, preset(HUBER)] = None,
    isoflop: Annotated[tuple[str, ...], arg(metavar="FLOPS ...", help_behavior_hint="")] = (),
    unique: Annotated[str | None, arg(metavar="TOKENS", help_behavior_hint="")] = None,
    vary: Annotated[tuple[str, ...], arg(metavar="FACTOR ...", help_behavior_hint="")] = (),
    bootstrap: Annotated[int | None, preset(RESAMPLES)] = None,
    seed: Annotated[int | None, preset(0)] = None,
    reading: Read = DEFAULTS,
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
        unique: how many tokens there are, where they must be repeated (the law muennighoff)
        vary: how the exponent of N_opt moves with these choices: columns of settings (tuning), or columns to count by
            (n=non_embedding,params c=6ND,flops)
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    budgets, of_runs = amounts("budget", budget), amounts("isoflop", isoflop)
    n_unique = None if unique is None else amounts("unique", (unique,))[0]
    _check(table, published, budgets)
    batch = reading.critical()
    keep_compiled()
    if published:
        _refuse_with_published(law, n_unique, reading, approach=approach if approach != 3 else None, huber=huber,
                               isoflop=of_runs, vary=vary, bootstrap=bootstrap, seed=seed)  # fmt: skip
        return _as_published(published, law, n_unique, budgets, batch, plot, json)
    _refuse_of_table(approach or 3, law, huber, of_runs, n_unique, vary, reading, plot)
    huber, seed = HUBER if huber is None else huber, seed or 0
    options = {"delta": huber, "n_resamples": RESAMPLES if bootstrap is None else bootstrap}
    if n_unique is not None:
        return _limited(table, reading, n_unique, budgets, options | {"seed": seed}, json)
    approach, way = approach or 3, _approaches(law or LAW, options, of_runs, batch)[approach or 3]
    read = partial(_points, table, approach, law)
    if vary:
        return _decomposed(read, reading, approach, vary, way, seed, budgets, json)
    points = read(reading)
    with terminal.working(f"approach {approach}"):
        frontier, bias = way(points, seed), _bias(points, of_runs, huber, approach)
    _show(frontier, points, budgets, bias, plot, json)


def _check(table: str | None, published: str | None, budget: tuple[float, ...]) -> None:
    """Raises InputError, before a fit that takes long, unless there are budgets and something to allocate them by."""
    if (table is None) == (published is None):
        raise InputError("give a TABLE, or --published NAME and no table")
    if not budget:
        raise InputError("--budget: name at least one, in FLOPs, for example --budget 1e22")
    check_positive("budget", *budget)
    if min(budget) < LEAST_BUDGET:
        raise InputError(f"--budget {min(budget):g}: FLOPs of a whole training, at least {LEAST_BUDGET:g}; 1e21, say")


def _points(table: str, approach: int, law: str | None, reading: Reading, labels: tuple[str, ...] = ()):
    """The points for an approach. Raises InputError for flags that it does not use."""
    from fitting.laws.catalogue import LAWS

    points = reading.points(table, curves=approach == 1, labels=labels)
    features = LAWS[law or LAW].features if approach == 3 and (law or LAW) in LAWS else ("N", "D", "C")
    reading.refuse_unused(f"with --approach {approach}" + (f" and the law {law}" if law else ""), points, features)
    return points


def _refuse_with_published(law: str | None, unique: float | None, reading: Reading, **flags) -> None:
    """Refuse flags of fits and of tables; and those that the published law does not know."""
    refuse("with --published, which fits nothing", flags | reading.given("critical_batch"))
    if unique is not None:
        if law not in (None, "muennighoff"):
            raise InputError(f"--unique: the law of repeated tokens is muennighoff, not {law!r}; leave out --law")
        refuse("with --unique", {"critical_batch": reading.critical_batch})


def _as_published(name: str, law, unique, budget: tuple[float, ...], batch: dict | None, plot, json) -> None:
    from fitting.laws import kaplan_relations as kaplan
    from fitting.laws.catalogue import LAWS
    from fitting.loss_laws import allocation

    if unique is not None:
        refuse("with --unique", {"plot": plot})
        return _show_limited(allocation.repeated_published(name, budget, unique), unique, [], json)
    frontier = allocation.of_published(name, law, batch or kaplan.BATCH)
    if not LAWS[frontier.law].at_critical_batch:
        refuse(f"with the law {frontier.law}", {"critical_batch": batch})
    _show(frontier, None, budget, [], plot, json)


def _refuse_of_table(approach: int, law, huber, isoflop, unique, vary, reading: Reading, plot) -> None:
    """Refuse flags that another flag leaves without an effect."""
    of_law = {"law": law, "critical_batch": reading.critical_batch}
    if unique is not None:
        refuse("with --unique, which fits the law muennighoff", of_law | {"vary": vary, "plot": plot})
        refuse("with --unique", {"approach": approach if approach != 3 else None})
    if vary:
        refuse("with --vary", {"plot": plot})
    if approach != 2:
        refuse(f"with --approach {approach}", {"isoflop": isoflop})
    refuse("with ladder allocate, which needs the loss", {"reach": reading.reach})
    if approach != 3:
        refuse(f"with --approach {approach}", {"weights": reading.weights})
        refuse(f"with --approach {approach}", of_law | {"huber": huber if approach == 1 else None})
    elif law != "kaplan-ns":
        refuse(f"with the law {law or LAW}", {"critical_batch": reading.critical_batch})


def _show(frontier, points, budget: tuple[float, ...], notes: list[str], plot, json) -> None:
    from fitting.report import loss_tables

    result = frontier.json(budget)
    _describe(points)
    of_points = points.flags if points else ()
    _report(loss_tables.allocations(result), result, dict.fromkeys([*result["notes"], *of_points, *notes]), json)
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


def _limited(table: str, reading: Reading, unique: float, budget: tuple[float, ...], options: dict, json) -> None:
    from fitting.laws.catalogue import LAWS
    from fitting.loss_laws import allocation, loss_fit

    points = reading.points(table)
    reading.refuse_unused("with --unique, which fits the law muennighoff", points, LAWS["muennighoff"].features)
    allocation.check_limited(budget, unique)  # before the fit, which takes long
    with terminal.working("fitting muennighoff"):
        fitted = loss_fit.fit(points, "muennighoff", **options)
        rows = allocation.repeated(fitted, budget, unique)
    _describe(points)
    _show_limited(rows, unique, fitted.flags, json)


def _show_limited(rows: list[dict], unique: float, notes: list[str], json) -> None:
    from fitting.report import loss_tables

    result = {"unique_tokens": unique, "allocations": rows, "notes": notes}
    _report(loss_tables.limited_data(result), result, notes, json)


def _describe(points) -> None:
    """Print how many points there are, and what was left out. points: None where a published law needs none."""
    for line in [points.described, *(f"left out: {reason}" for reason in points.left_out)] if points else ():
        terminal.console().print(line)


def _report(grid, result: dict, notes: Iterable[str], json) -> None:
    terminal.console().print(display.table(grid))
    display.flags(notes)
    if json:
        terminal.write_json(json, result)


def _decomposed(
    read_points, reading: Reading, approach: int, vary: tuple[str, ...], fit, seed: int, budget: tuple[float, ...], json
) -> None:
    """read_points(reading, labels) -> points; fit(points, seed) -> Frontier."""
    from fitting.loss_laws import decomposition
    from fitting.report import loss_tables
    from fitting.tables import comparable

    if approach == 3 and any(v.startswith("c=") for v in vary):
        raise InputError("--vary: for c= --approach 1 or 2 (approach 3 takes C for 6 N D)")
    factors = [decomposition.parse(text) for text in vary]
    refuse("with --vary, which names its columns", {f.name: getattr(reading, f.name) for f in factors if f.counts})
    labels, flags, described = tuple(f.name for f in factors if not f.counts), {}, {}

    def read(columns: dict):
        try:
            points = read_points(replace(reading, **columns), labels)
            flags.update(dict.fromkeys(points.flags))
            described.update(dict.fromkeys([points.described, *(f"left out: {line}" for line in points.left_out)]))
            return points
        except FitInputError as error:
            if error.argument and error.argument.lower() in columns:
                error.argument = "vary"
            raise

    def fitted(points, draw: int):
        with terminal.working(f"approach {approach}"):
            return fit(points, seed + draw)

    factors, frontiers = decomposition.cells(factors, read, fitted)
    result = decomposition.json(factors, frontiers, budget) | comparable.in_json(flags)
    moves = loss_tables.moves(result)
    terminal.console().print(display.table(loss_tables.exponents(result)))
    terminal.console().print(moves if isinstance(moves, str) else display.table(moves))
    terminal.console().print("\n".join(described))
    display.flags(flags)
    if json:
        terminal.write_json(json, result)


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
