"""How the verbs of loss laws read a table: the flags, the points they give, and those that have no effect."""

from dataclasses import dataclass, fields
from typing import Annotated

from tyro.conf import arg

from ladder.errors import InputError
from launch import terminal
from launch.cli.options import preset, refuse

Column = Annotated[str | None, arg(metavar="COLUMN", help_behavior_hint="")]


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
    runs: Column = None
    """wide: column that says which rows are of one run (trunk, parent, run; others such as run_name where their values
    repeat); none: every row is a run of its own"""
    task: Annotated[str | None, preset("validation")] = None
    """runs table: what was measured"""
    metric: Annotated[str | None, preset("bpb")] = None
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
            self.runs,
            against=self.against,
            labels=labels,
        )
        with terminal.working(f"reading {table}"):
            return loss_points.read(table, how)

    def given(self, *without: str) -> dict:
        """The flags of this class that were given, but for those named."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default and name not in without}

    def refuse_unused(self, where: str, points, features) -> None:
        """Refuse flags that name what neither `features` nor the features behind them are made of. points: as read."""
        behind = points.behind(*features) | ({"S", "B"} if self.reach else set())
        flags = {name: getattr(self, name) for name in ("s", "b", "u", "t") if name.upper() not in behind}
        flags |= {"against": self.against} if "L" not in behind else {}
        flags |= {"critical_batch": self.critical_batch} if not behind & {"S_min", "C_min"} else {}
        refuse(where, flags)

    def critical(self) -> dict | None:
        """Constants of B_crit(L), where they are given."""
        text = self.critical_batch
        if text is None:
            return None
        from fitting.tables.quantities import quantity

        try:
            b_star, alpha_b = (quantity(v) for v in text.split(","))
        except ValueError:
            b_star = alpha_b = 0.0
        if not (0 < b_star < float("inf") and 0 < alpha_b < float("inf")):
            raise InputError(f"--critical-batch {text!r}: write B_STAR,ALPHA_B, positive numbers, such as 2e8,0.21")
        return {"B_star": b_star, "alpha_B": alpha_b}


Read = Annotated[Reading, arg(name="")]
DEFAULTS = Reading()
