"""What every run of a ladder costs, before anything is built or trained. Imports no jax."""

from dataclasses import asdict, dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fitting.report.numbers import si
from ladder.config import Ladder, Rung
from ladder.flops import flops_per_token
from ladder.sizes import memory_bytes, n_non_embedding, n_params, n_total
from launch import terminal


@dataclass(frozen=True)
class Row:
    """One run. flops: to train a model to these tokens (C in a law). own_flops: computed by this run alone, so that a
    trunk counts once. Both: FLOPs per token x tokens, not rounded up to whole steps. memory_bytes: on one device.
    """

    run_id: str
    label: str
    size: str
    multiple: float | None
    kind: str
    seed: int
    n_params: int
    n_non_embedding: int
    n_total: int
    tokens: int
    steps: int
    warmup_steps: int
    batch_tokens: int
    peak_lr: float
    schedule: str
    flops_per_token: int
    flops: int
    own_flops: int
    memory_bytes: dict[str, int]
    depends_on: tuple[str, ...]
    branch_of: str | None
    parent_step: int | None


@dataclass(frozen=True)
class Plan:
    ladder: str
    devices: int
    rungs: tuple[Row, ...]
    targets: tuple[Row, ...]

    @property
    def flops(self) -> int:
        """Training FLOPs of all rungs, without the targets."""
        return sum(row.own_flops for row in self.rungs)

    @property
    def shares(self) -> dict[str, float]:
        """`flops` as a fraction of each target's FLOPs."""
        return {target.label: self.flops / target.flops for target in self.targets}


def make(ladder: Ladder, devices: int = 1) -> Plan:
    """devices: over how many the state and the batch are split, for the memory estimate."""
    rows = {rung.run_id: _row(rung, ladder.parent_of(rung), devices) for rung in ladder.all}
    return Plan(
        ladder.name,
        devices,
        tuple(rows[r.run_id] for r in ladder.rungs),
        tuple(rows[r.run_id] for r in ladder.targets),
    )


def own_flops(rung: Rung) -> int:
    """Training FLOPs of this run alone: those of a branch without the part of its trunk."""
    return flops_per_token(rung.model) * (rung.tokens - (rung.parent_step or 0) * rung.batch_tokens)


def _row(rung: Rung, parent: Rung | None, devices: int) -> Row:
    per_device = -(-rung.batch_sequences // (rung.mesh.accumulation * devices))
    return Row(
        run_id=rung.run_id,
        label=rung.label,
        size=rung.size,
        multiple=rung.multiple,
        kind=rung.kind,
        seed=rung.seed,
        n_params=n_params(rung.model),
        n_non_embedding=n_non_embedding(rung.model),
        n_total=n_total(rung.model),
        tokens=rung.tokens,
        steps=rung.steps,
        warmup_steps=rung.warmup_steps,
        batch_tokens=rung.batch_tokens,
        peak_lr=rung.optimizer.peak_lr,
        schedule=rung.optimizer.schedule,
        flops_per_token=flops_per_token(rung.model),
        flops=flops_per_token(rung.model) * rung.tokens,
        own_flops=own_flops(rung),
        memory_bytes=memory_bytes(rung.model, per_device, devices, rung.mesh.remat, rung.optimizer),
        depends_on=(parent.run_id,) if parent else (),
        branch_of=parent.run_id if parent else None,
        parent_step=rung.parent_step,
    )


def to_json(plan: Plan) -> dict:
    return {
        "ladder": plan.ladder,
        "devices": plan.devices,
        "flops": plan.flops,
        "shares": plan.shares,
        "rungs": [asdict(row) for row in plan.rungs],
        "targets": [asdict(row) for row in plan.targets],
    }


def table(plan: Plan) -> Group:
    grid = Table(title=f"ladder {plan.ladder}", title_justify="left")
    grid.add_column("rung", no_wrap=True)
    for name in ("N", "D", "D/N", "steps", "batch", "peak rate", "FLOPs"):
        grid.add_column(name, justify="right", no_wrap=True)
    for target in plan.targets:
        grid.add_column(f"% of {target.label}", justify="right")
    grid.add_column("memory", justify="right", no_wrap=True)
    for row in plan.rungs:
        grid.add_row(*_cells(row, plan))
    if plan.targets:
        grid.add_section()
    for row in plan.targets:
        grid.add_row(*_cells(row, plan), style="bold")
    return Group(grid, Text(_summary(plan)))


def _cells(row: Row, plan: Plan) -> list[str]:
    return [
        row.label,
        si(row.n_params, 4),
        si(row.tokens, 4),
        f"{row.tokens / row.n_params:.4g}",
        f"{row.steps:,}",
        si(row.batch_tokens, 4),
        f"{row.peak_lr:.3e}",
        f"{row.own_flops:.3e}",
        *(f"{row.own_flops / target.flops:.3%}" for target in plan.targets),
        terminal.size(sum(row.memory_bytes.values())),
    ]


def _summary(plan: Plan) -> str:
    lines = [f"Sum of the {len(plan.rungs)} rungs: {plan.flops:.3e} FLOPs"]
    if plan.targets:
        lines[0] += ", " + ", ".join(f"{share:.2%} of {label}" for label, share in plan.shares.items())
    if len(plan.targets) > 1:
        lines[0] += f", {plan.flops / sum(t.flops for t in plan.targets):.2%} of all targets together"
    lines.append(
        "N: all parameters but the input embedding. D: tokens. FLOPs: nominal, FLOPs per token x tokens "
        "(forward and backward, attention not halved for causality; more than 6ND)."
    )
    if any(row.branch_of for row in plan.rungs):
        lines.append("A branch's D includes its trunk's tokens; its FLOPs are only those after it left the trunk.")
    plural = "s" if plan.devices > 1 else ""
    lines.append(
        f"memory: estimate per device, with state and batch split over {plan.devices} device{plural} (--devices N)."
    )
    return "\n".join(lines)
