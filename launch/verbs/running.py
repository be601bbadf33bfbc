"""Verbs about single runs: what they cost, and what a job runs."""

import os
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

import configs
from ladder.errors import InputError
from launch import runs, show
from launch.flags import CORPORA, RUNS, Corpora, Json, Name, Overrides, Root, place


def plan(name: Name, overrides: Overrides = (), /, *, devices: int = 1, json: Json = None) -> None:
    """What every run of a ladder costs: size, tokens, steps, rate, FLOPs, share of each target, memory.

    Example: ladder plan olmo2 --devices 64

    Args:
        devices: over how many devices state and batch are split, for the memory estimate
    """
    from launch import plan as planning

    if devices < 1:
        raise InputError(f"--devices {devices}: must be at least 1")
    made = planning.make(configs.overridden(configs.load(name), overrides), devices)
    show.console().print(planning.table(made))
    if json:
        show.write_json(json, planning.to_json(made))


def train(
    run: Annotated[Positional[str], arg(metavar="RUN_DIR|NAME", help="a run directory, or a ladder with --rung")],
    overrides: Overrides = (),
    /,
    *,
    rung: str | None = None,
    vmap: Annotated[str | None, arg(metavar="seeds=N|peak_lr=A,B", help_behavior_hint="")] = None,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT", help_behavior_hint="")] = None,
    processes: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    process: Annotated[int | None, arg(metavar="I", help_behavior_hint="")] = None,
) -> None:
    """Train one rung, or take it up where it stopped.

    Example: ladder train demo --rung d16-trunk

    Args:
        rung: of a ladder, by label or the start of its run_id; its run directory is written first
        vmap: train several seeds, or peak rates, of the rung at once, by one vmapped step; each has its run directory
        coordinator: one run by several processes: where process 0 is, or auto on a TPU pod (LADDER_COORDINATOR)
        processes: how many there are (LADDER_PROCESSES)
        process: which of them this is (LADDER_PROCESS, else SLURM_PROCID, else JOB_COMPLETION_INDEX)
    """
    from ladder import processes as distributed

    if not place(run).is_dir() and (coordinator or "LADDER_COORDINATOR" in os.environ):
        raise InputError(f"{run}: name a run directory to several processes: runs/LADDER/RUN_ID")
    directory = _run_directory(run, overrides, rung, place(root), place(corpora), vmap)
    from launch import worker

    worker.train(directory, lambda: distributed.join(coordinator, processes, process))


def _run_directory(
    run: str, overrides: tuple[str, ...], rung: str | None, root: Path, corpora: Path, vmap: str | None
) -> Path:
    from launch import prepare

    if place(run).is_dir():
        if overrides or rung or vmap:
            raise InputError(f"{run}: a run directory says itself what to train; leave out --rung, --vmap, overrides")
        return place(run)
    ladder = configs.overridden(configs.load(run), overrides)
    if rung is None:
        raise InputError(f"ladder {run} has {len(ladder.all)} runs; name one: --rung {ladder.all[0].label}")
    chosen = ladder.all.index(runs.pick(ladder, rung))
    prepare.check_tasks(ladder)
    built = prepare.build(ladder, corpora)
    if vmap:
        from ladder import group

        return prepare.write_group(built, group.members(built.ladder.all[chosen], vmap), root)
    return prepare.write(built, (built.ladder.all[chosen],), root)[0]


def conclude(
    directory: Annotated[Positional[str], arg(metavar="FIT_DIR", help="runs/NAME/fit/ID, as submit makes it")], /
) -> None:
    """Predict a ladder's targets from its finished runs and write the page: what its last job runs.

    Example: ladder conclude runs/demo/fit/fit-1a2b3c4d
    """
    from launch import worker

    worker.conclude(place(directory))
