"""What the config of every trainer needs of a rung: its name, its schedule in steps, and the refusals all share."""

import re
from collections import Counter
from dataclasses import dataclass, replace

from ladder.config import Ladder, Rung
from ladder.errors import InputError


@dataclass(frozen=True)
class Config:
    """The config of one rung for one trainer.

    tree: its settings (yaml_text.py). differences: a sentence for each respect in which the trainer will not do exactly
    what ours does; they stand in the file as comments, and are printed.
    """

    tree: dict
    differences: tuple[str, ...]


def named(ladder: Ladder) -> dict[str, Rung]:
    """{name: rung} of the runs to emit: labels where they are unique, else with the seed or the run_id.

    A trunk is left out. A branch is the last part of a full run of the same length, with its rates (configs/wsd.py):
    it is emitted as that run. Raises InputError where only trunks are there, or a name cannot be that of a file.
    """
    rungs = [_from_its_start(rung) for rung in ladder.all if rung.kind != "trunk"]
    for rung in rungs:
        if not re.fullmatch(r"[\w.+-]+", rung.label):
            raise InputError(
                f"rung {rung.label}: its name is that of a file here; use letters, digits and . _ + - only"
            )
    if not rungs:
        raise InputError(f"ladder {ladder.name} has only trunks, which no other trainer branches from; list full runs")
    for names in ([r.label for r in rungs], [f"{r.label}-s{r.seed}" for r in rungs]):
        if max(Counter(names).values()) == 1:
            return dict(zip(names, rungs, strict=True))
    return {rung.run_id: rung for rung in rungs}


def _from_its_start(rung: Rung) -> Rung:
    return rung if rung.kind == "full" else replace(rung, kind="full", parent=None, parent_step=None)


def decay_steps(rung: Rung) -> int:
    """Steps of the decay at the end: all after the warm-up for cosine."""
    return rung.steps - rung.warmup_steps if rung.optimizer.schedule == "cosine" else rung.decay_steps


def check(rung: Rung, trainer: str) -> None:
    """Raises InputError for what none of the trainers can express."""
    o = rung.optimizer
    over = rung.warmup_steps + decay_steps(rung) - rung.steps
    if over > 0 or rung.warmup_steps >= rung.steps:
        refuse(
            rung, trainer, f"warm-up ({rung.warmup_steps} steps) and decay that overlap in {rung.steps} steps",
            "lower optimizer.warmup_tokens or optimizer.decay_fraction",
        )  # fmt: skip
    if o.nu_dtype not in (None, rung.model.param_dtype):
        refuse(rung, trainer, f"optimizer.nu_dtype = {o.nu_dtype}", "leave it out")
    if rung.data.simulate_epochs_of is not None:
        refuse(rung, trainer, "data.simulate_epochs_of", "leave it out, and give the trainer a subset of the text")
    if rung.data.phases:
        refuse(rung, trainer, "data.phases (other weights from some step on)", "leave them out")


def refuse(rung: Rung, trainer: str, what: str, mend: str) -> None:
    raise InputError(f"rung {rung.label}: {trainer} has no {what}; {mend}")


def weights(rung: Rung) -> dict[str, float]:
    """{source: share of the training tokens}; one source "text" where the data are no mixture."""
    if not rung.data.sources:
        return {"text": 1.0}
    total = sum(source.weight for source in rung.data.sources)
    return {source.name: source.weight / total for source in rung.data.sources}


def fraction(steps: int, of: int) -> float:
    """A share of `of` steps of which int(share * of) is exactly `steps`."""
    share = steps / of
    while int(share * of) < steps:
        share += 2**-53
    return share
