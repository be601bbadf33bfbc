"""The files of a ladder for another trainer: one config a run, what they need beside them, and emitted.json.

emitted.json lists the runs with their N, tokens and steps; `ladder export --source TRAINER` finds it beside the logs
and knows by it what a log does not say (fitting/tables/importers/emitted.py).
"""

import json
from dataclasses import dataclass
from typing import Literal

from ladder.config import Ladder, Rung
from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.sizes import n_non_embedding, n_params, n_total
from launch.emit import levanter, maxtext, olmo_core, yaml_text
from launch.emit.rungs import Config, decay_steps, named

Trainer = Literal["maxtext", "olmo-core", "levanter"]
TRAINERS = {"maxtext": maxtext, "olmo-core": olmo_core, "levanter": levanter}
MANIFEST = "emitted.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Emitted:
    """paths: the configs, in the order of the ladder. notes: what the trainer does differently, once each."""

    paths: tuple[str, ...]
    notes: tuple[str, ...]


def write(ladder: Ladder, trainer: Trainer, folder: str, devices: int = 1) -> Emitted:
    """Write the config of every run and target of a ladder for a trainer into a folder.

    devices: on how many a run will train, where the trainer's batch is given by device. Raises InputError, before
    anything is written, for what the trainer cannot express, and where a file would be overwritten.
    """
    module, runs = TRAINERS[trainer], named(ladder)
    configs = {name: module.config(rung, name, devices) for name, rung in runs.items()}
    texts = {name + module.SUFFIX: _text(module, ladder, rung, name, configs[name]) for name, rung in runs.items()}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "trainer": trainer,
        "ladder": ladder.name,
        "runs": [_facts(rung, name, ladder) for name, rung in runs.items()],
    }
    others = module.files(list(runs.values())) | {MANIFEST: json.dumps(manifest, indent=1) + "\n"}
    out = as_path(folder)
    for name in [*texts, *others]:
        if (out / name).exists():
            raise InputError(f"{out / name} is there already, perhaps filled in; name another folder", "out")
    for name, text in (texts | others).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    notes = list(dict.fromkeys(line for config in configs.values() for line in config.differences))
    trunks = [rung.label for rung in ladder.all if rung.kind == "trunk"]
    if trunks:
        notes.insert(0, f"Branches are full runs with the same rates, each trained from its start: {', '.join(trunks)}"
                        f" {'is' if len(trunks) == 1 else 'are'} not emitted.")  # fmt: skip
    return Emitted(tuple(str(out / name) for name in texts), tuple(notes))


def _text(module, ladder: Ladder, rung: Rung, name: str, config: Config) -> str:
    m = rung.model
    comments = (
        f"{name} of the ladder {ladder.name}, for {module.TRAINER}. Fill in what says FILL_IN, then:",
        f"  {module.COMMAND.format(file=name + module.SUFFIX, name=name)}",
        f"N = {n_params(m):,} (all parameters but the input embedding), {n_total(m):,} with it",
        f"D = {rung.tokens:,} tokens",
        *(f"Different here: {line}" for line in config.differences),
    )
    return yaml_text.text(comments, config.tree)


def _facts(rung: Rung, name: str, ladder: Ladder) -> dict:
    """A run as emitted.json lists it, by the names of the columns of a runs table."""
    o = rung.optimizer
    return {
        "run": name,
        "split": "target" if any(rung.label == target.label for target in ladder.targets) else "train",
        "size": rung.size,
        "multiple": rung.multiple,
        "seed": rung.seed,
        "n_params": n_params(rung.model),
        "n_non_embedding": n_non_embedding(rung.model),
        "n_total": n_total(rung.model),
        "tokens": rung.tokens,
        "steps": rung.steps,
        "batch_tokens": rung.batch_tokens,
        "schedule": o.schedule,
        "peak_lr": o.peak_lr,
        "lr_final_fraction": o.lr_final_fraction,
        "warmup_steps": rung.warmup_steps,
        "decay_steps": decay_steps(rung) if o.schedule == "wsd" else None,
    }
