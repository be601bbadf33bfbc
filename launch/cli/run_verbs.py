"""Verbs about single runs: what they cost, and what a job runs."""

import os
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from configs import loader
from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.rundir.record import Record
from launch import terminal
from launch.cli.options import CORPORA, RUNS, Corpora, Json, Name, Overrides, Root
from launch.scheduler import runs


def plan(name: Name, overrides: Overrides = (), /, *, devices: int = 1, json: Json = None) -> None:
    """What every run of a ladder costs: size, tokens, steps, rate, FLOPs, share of each target, memory.

    Example: ladder plan olmo2 --devices 64

    Args:
        devices: over how many devices state and batch are split, for the memory estimate
    """
    from launch import plan as planning

    if devices < 1:
        raise InputError(f"--devices {devices}: must be at least 1")
    made = planning.make(loader.overridden(loader.load(name), overrides), devices)
    terminal.console().print(planning.table(made))
    if json:
        terminal.write_json(json, planning.to_json(made))


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
    from ladder.parallel import processes as distributed

    if not as_path(run).is_dir() and (coordinator or "LADDER_COORDINATOR" in os.environ):
        raise InputError(f"{run}: name a run directory to several processes: runs/LADDER/RUN_ID")
    directory = _run_directory(run, overrides, rung, as_path(root), as_path(corpora), vmap)
    from launch.scheduler import worker

    worker.train(directory, lambda: distributed.join(coordinator, processes, process))


def _run_directory(
    run: str, overrides: tuple[str, ...], rung: str | None, root: Path, corpora: Path, vmap: str | None
) -> Path:
    from launch import prepare

    if as_path(run).is_dir():
        if overrides or rung or vmap:
            raise InputError(f"{run}: a run directory says itself what to train; leave out --rung, --vmap, overrides")
        return as_path(run)
    ladder = loader.overridden(loader.load(run), overrides)
    if rung is None:
        raise InputError(f"ladder {run} has {len(ladder.all)} runs; name one: --rung {ladder.all[0].label}")
    chosen = ladder.all.index(runs.pick(ladder, rung))
    prepare.check_tasks(ladder)
    built = prepare.build(ladder, corpora)
    if vmap:
        from ladder.loop import group

        return prepare.write_group(built, group.members(built.ladder.all[chosen], vmap), root)
    return prepare.write(built, (built.ladder.all[chosen],), root)[0]


def evaluate(
    run: Annotated[
        Positional[str],
        arg(
            metavar="RUN_DIR|CHECKPOINT|NAME|MODEL.gguf",
            help="a run directory, one of its checkpoints, all runs of a ladder, or a published llama",
        ),
    ],
    /,
    *,
    tasks: Annotated[tuple[str, ...] | None, arg(metavar="TASK ...", help_behavior_hint="")] = None,
    max_docs: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    step: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    missing: bool = False,
    rung: str | None = None,
    root: Root = RUNS,
    json: Json = None,
) -> None:
    """Evaluate what is trained already, from its checkpoints; the scores stand beside the run's own from then on.

    A published model's are only shown (and written by --json).

    Example: ladder eval runs/demo --tasks olmes my/questions.jsonl

    Args:
        tasks: by name (olmes is the paper's eight), or files of requests; without it, what the run itself asks
        max_docs: of each task at most so many docs
        step: which checkpoint; without it, the newest
        missing: every checkpoint that has no such evaluation yet
        rung: only this run of a ladder, by the start of its run_id
    """
    from ladder.loop import evaluate as evaluation
    from launch.cli import evaluation_tables

    if missing and step is not None:
        raise InputError("--missing and --step: choose one")
    directories, at = _evaluated(run, rung, as_path(root))
    tasks = tasks and tuple(name for given in tasks for name in given.split(",") if name)
    step, evaluations = step if at is None else at, []
    with terminal.progress(BarColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("", total=len(directories))
        for directory in directories:
            progress.update(bar, description=f"evaluating {directory.name}")
            for one in evaluation.evaluate(directory, tasks, max_docs=max_docs, step=step, missing=missing):
                evaluations.append(one)
                terminal.console().print(evaluation_tables.table(one))
                terminal.console().print(evaluation_tables.cost(one))
            progress.advance(bar)
    if not evaluations:
        terminal.console().print("no evaluation is missing")
    if json:
        terminal.write_json(json, evaluation_tables.to_json(evaluations))


def _evaluated(run: str, rung: str | None, root: Path) -> tuple[list[Path], int | None]:
    """The run directories (or the published model) that are meant, and the step where it is one checkpoint."""
    there = as_path(run)
    if there.suffix == ".gguf" and rung is None:
        return [there], None
    if there.parent.name == "checkpoints" and there.name.isdigit():
        return [there.parent.parent], int(there.name)
    if rung is not None:
        return [runs.directory(run, rung, root)], None
    found = runs.directories(runs.folder(run, root))
    done = [path for path in found if Record(path).is_done()]
    return (found, None) if len(found) == 1 else (done, None)


def conclude(
    directory: Annotated[Positional[str], arg(metavar="FIT_DIR", help="runs/NAME/fit/ID, as submit makes it")], /
) -> None:
    """Predict a ladder's targets from its finished runs and write the page: what its last job runs.

    Example: ladder conclude runs/demo/fit/fit-1a2b3c4d
    """
    from launch.scheduler import worker

    worker.conclude(as_path(directory))
