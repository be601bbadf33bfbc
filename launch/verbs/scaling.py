"""Verbs about scaling laws of the loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ladder.errors import InputError
from launch import compiled, fits, show
from launch.flags import Json

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
    y: Column = None
    """wide: column of the fitted quantity (loss)"""
    task: str = "validation"
    """runs table: what was measured"""
    metric: str = "bpb"
    """runs table: and how"""
    drop_above: Annotated[float | None, arg(metavar="LOSS", help_behavior_hint="")] = None
    """leave out points with a larger loss"""
    keep_excluded: bool = False
    """also use rows marked in a column "excluded" """
    critical_batch: Annotated[str | None, arg(metavar="B_STAR,ALPHA_B", help_behavior_hint="")] = None
    """constants of B_crit(L), by which S_min and C_min follow from S, B and C (Kaplan's 2e8,0.21)"""

    def points(self, table: str):
        """loss_points.LossPoints of a table."""
        from fitting import loss_points

        return loss_points.read(
            table,
            {"N": self.n, "D": self.d, "C": self.c, "S": self.s, "B": self.b},
            self.y,
            task=self.task,
            metric=self.metric,
            keep_excluded=self.keep_excluded,
            drop_above=self.drop_above,
            critical=_constants(self.critical_batch),
        )


Read = Annotated[Reading, arg(name="")]


def fit(
    table: Losses,
    /,
    *,
    law: str = "chinchilla",
    huber: float = 1e-3,
    bootstrap: int = 4000,
    seed: int = 0,
    reading: Read = Reading(),
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
    """
    compiled.keep()
    from fitting import loss_law

    fitted = loss_law.fit(reading.points(table), law, delta=huber, n_resamples=bootstrap, seed=seed)
    result = fitted.json()
    console = show.console()
    console.print(fits.table(result))
    console.print(fits.summary(result))
    if json:
        show.write_json(json, result)
    if plot:
        from fitting import loss_plots

        fits.save(loss_plots.law(fitted), plot)


def _constants(text: str | None) -> dict | None:
    """ "2e8,0.21" -> {"B_star", "alpha_B"}."""
    if text is None:
        return None
    try:
        b_star, alpha_b = (float(v) for v in text.split(","))
    except ValueError:
        b_star = alpha_b = 0.0
    if not (0 < b_star < float("inf") and 0 < alpha_b < float("inf")):
        raise InputError(f"--critical-batch {text!r}: write B_STAR,ALPHA_B, positive numbers, such as 2e8,0.21")
    return {"B_star": b_star, "alpha_B": alpha_b}
