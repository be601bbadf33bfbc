"""What every run of a ladder costs, before anything is built or trained. Imports no jax."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group
from rich.text import Text

from fitting.report.numbers import si
from ladder.config import Ladder, Rung
from ladder.flops import flops_per_token
from ladder.sizes import memory_bytes, n_non_embedding, n_params, n_total
from launch import epochs, terminal
from launch.epochs import SourceUse


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
    sources: tuple[SourceUse, ...]
    mask_documents: bool


@dataclass(frozen=True)
class Plan:
    ladder: str
    devices: int
    rungs: tuple[Row, ...]
    targets: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # lines about its token files

    @property
    def flops(self) -> int:
        """Training FLOPs of all rungs, without the targets."""
        return sum(row.own_flops for row in self.rungs)

    @property
    def shares(self) -> dict[str, float]:
        """`flops` as a fraction of each target's FLOPs."""
        return {target.label: self.flops / target.flops for target in self.targets}


def make(ladder: Ladder, devices: int = 1, corpora: Path | None = None) -> Plan:
    """devices: over how many the state and the batch are split, for the memory estimate. corpora: where the corpora
    are, if they are built."""
    read = epochs.planned(ladder, corpora)
    rows = {rung.run_id: _row(rung, ladder.parent_of(rung), devices, read[rung.run_id]) for rung in ladder.all}
    return Plan(
        ladder.name,
        devices,
        tuple(rows[r.run_id] for r in ladder.rungs),
        tuple(rows[r.run_id] for r in ladder.targets),
        epochs.notes(ladder),
    )


def own_flops(rung: Rung) -> int:
    """Training FLOPs of this run alone: those of a branch without the part of its trunk."""
    return flops_per_token(rung.model) * (rung.tokens - (rung.parent_step or 0) * rung.batch_tokens)


def _row(rung: Rung, parent: Rung | None, devices: int, sources: tuple[SourceUse, ...]) -> Row:
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
        sources=sources,
        mask_documents=rung.data.mask_documents,
    )


def to_json(plan: Plan) -> dict:
    return {
        "ladder": plan.ladder,
        "devices": plan.devices,
        "flops": plan.flops,
        "shares": plan.shares,
        "rungs": [_row_to_json(row) for row in plan.rungs],
        "targets": [_row_to_json(row) for row in plan.targets],
    }


def _row_to_json(row: Row) -> dict:
    return asdict(row) | {"sources": [asdict(use) | {"epochs": use.epochs} for use in row.sources]}


def table(plan: Plan) -> Group:
    drop = ("peak rate", "batch", "D/N", "steps", "memory")
    grid = terminal.Table(title=f"ladder {plan.ladder}", drop=drop)
    grid.add_column("rung", no_wrap=True)
    for name in ("N", "D", "D/N", "steps", "batch", "peak rate", "FLOPs"):
        grid.add_column(name, justify="right", no_wrap=True)
    for target in plan.targets:
        grid.add_column(f"% of {target.label}", justify="right", no_wrap=True)
    grid.add_column("memory", justify="right", no_wrap=True)
    for row in plan.rungs:
        grid.add_row(*_cells(row, plan))
    if plan.targets:
        grid.add_section()
    for row in plan.targets:
        grid.add_row(*_cells(row, plan), style="bold")
    return Group(grid, *_sources(plan), Text(_summary(plan)))


def _sources(plan: Plan) -> list[terminal.Table]:
    """Tokens, share and epochs of every source for every run; nothing where each run reads one text."""
    rows = plan.rungs + plan.targets
    if all(use.name == "text" for row in rows for use in row.sources):
        return []
    grid = terminal.Table(title="sources")
    for name in ("rung", "source", "share", "tokens", "epochs"):
        grid.add_column(name, justify="left" if name in ("rung", "source") else "right", no_wrap=True)
    for row in rows:
        for i, use in enumerate(row.sources):
            cells = [use.name, f"{use.share:.4g}", si(use.tokens, 4), _epochs(use)]
            grid.add_row("" if i else row.label, *cells)
    return [grid]


def _epochs(use: SourceUse) -> Text:
    if use.epochs is None:
        return Text("not built yet", "dim")
    if use.is_refused:
        return Text(f"{use.epochs:.3g} > {use.max_epochs:g}", "red")
    return Text(f"{use.epochs:.3g}", "yellow" if use.is_flagged else "")


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
    masked = [row.label for row in plan.rungs + plan.targets if row.mask_documents]
    if masked:
        who = "" if len(masked) == len(plan.rungs + plan.targets) else f" (data.mask_documents: {', '.join(masked)})"
        lines.append(f"Attention and positions stay within a document{who}; FLOPs are counted as without that.")
    lines += [*_repeated(plan), *plan.notes]
    plural = "s" if plan.devices > 1 else ""
    lines.append(
        f"memory: estimate per device, with state and batch split over {plan.devices} device{plural} (--devices N)."
    )
    return "\n".join(lines)


def _repeated(plan: Plan) -> list[str]:
    """A line for each source that is repeated more often than its limit or than is known to help, with the run that
    repeats it most; for a single text always a line, once it is built. Runs that repeat a small data set on purpose
    have a line of their own."""
    most: dict[tuple[str, bool], tuple[Row, SourceUse]] = {}
    for row in plan.rungs + plan.targets:
        for use in row.sources:
            kind = use.name, use.repeats_subset
            if use.epochs is not None and (kind not in most or use.epochs > most[kind][1].epochs):
                most[kind] = row, use
    lines = []
    for (name, _), (row, use) in most.items():
        if use.repeats_subset:
            subset = f"the first {si(use.unique_tokens, 4)} tokens of its text"
            lines.append(f"{row.label} reads {subset} {use.epochs:.3g} times, as its unique_tokens asks.")
        elif name == "text" or use.is_flagged:
            what = "the text" if name == "text" else f"source {name}"
            lines.append(f"{row.label} reads {what} {use.epochs:.3g} times ({si(use.unique_tokens, 4)} tokens).")
        if use.is_flagged:
            mend = "add text" if name == "text" else f"lower data.sources.{name}.weight or set its max_epochs"
            lines[-1] += f" More than {epochs.FEW_EPOCHS} are worth less than new text: {mend}."
    return lines
