"""Verbs about scaling laws of the loss."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from launch import compiled, fits, show
from launch.flags import Json

Losses = Annotated[
    Positional[str],
    arg(metavar="TABLE", help="a wide table (a row per run), a runs table (.csv, .csv.gz, .jsonl) or runs/NAME"),
]
Column = Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="")]
Plot = Annotated[Path | None, arg(metavar="FILE", help="draw it: .png, .svg or .pdf", help_behavior_hint="")]


def fit(
    table: Losses,
    /,
    *,
    law: str = "chinchilla",
    huber: float = 1e-3,
    bootstrap: int = 4000,
    seed: int = 0,
    n: Column = None,
    d: Column = None,
    c: Column = None,
    y: Column = None,
    task: str = "validation",
    metric: str = "bpb",
    drop_above: Annotated[float | None, arg(help_behavior_hint="")] = None,
    keep_excluded: bool = False,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Fit a scaling law of the loss: parameters, standard errors, intervals.

    Example: ladder fit points.csv --law chinchilla --huber 1e-3 --bootstrap 4000 --plot fit.png

    Args:
        law: its name; a wrong one lists them
        huber: threshold of the Huber loss, in ln loss
        bootstrap: resamples behind standard errors and intervals
        seed: of the resamples
        n: wide: column of parameters (params); runs table: how they are counted (n_params)
        d: wide: column of training tokens (tokens; without it, flops / 6 N)
        c: wide: column of training FLOPs (flops; without it, 6 N D)
        y: wide: column of the loss (loss)
        task: runs table: what was measured
        metric: runs table: and how
        drop_above: leave out points with a larger loss
        keep_excluded: also fit rows marked in a column "excluded"
    """
    compiled.keep()
    from fitting import loss_law, loss_points

    points = loss_points.read(
        table, {"N": n, "D": d, "C": c}, y, task=task, metric=metric, keep_excluded=keep_excluded, drop_above=drop_above
    )
    fitted = loss_law.fit(points, law, delta=huber, n_resamples=bootstrap, seed=seed)
    result = fitted.json()
    console = show.console()
    console.print(fits.table(result))
    console.print(fits.summary(result))
    if json:
        show.write_json(json, result)
    if plot:
        from fitting import loss_plots

        fits.save(loss_plots.law(fitted), plot)
