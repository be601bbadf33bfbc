"""Verbs about single runs: plan, train, eval, conclude."""

import os
from pathlib import Path
from typing import Annotated, Literal

from rich.progress import BarColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from configs import loader
from ladder.errors import InputError
from ladder.rundir.files import as_path
from ladder.rundir.record import Record
from launch import display, terminal
from launch.cli.options import CORPORA, RUNS, Corpora, Json, Name, Overrides, Root, refuse, refuse_rung, root_of
from launch.scheduler import runs

MOST_DEVICES = 10_000_000


def plan(
    name: Name,
    overrides: Overrides = (),
    /,
    *,
    devices: int = 1,
    corpora: Corpora = CORPORA,
    json: Json = None,
    emit: Annotated[Literal["maxtext", "olmo-core", "levanter"] | None, arg(help_behavior_hint="")] = None,
    out: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="")] = None,
) -> None:
    """Show what every run of a ladder costs: size, tokens, steps, learning rate, FLOPs, share of each target, memory.

    Where the data are a mixture, also tokens, share and epochs of every source.

    Example: ladder plan olmo2 --devices 64

    Example: ladder plan olmo2 --emit maxtext --out emitted --devices 64

    Args:
        devices: over how many devices state and batch are split, for the memory estimate and MaxText's batch
        emit: also write the config of every run for another trainer; `ladder export --source` reads its logs back
        out: the folder for --emit
    """
    from launch import epochs, prepare
    from launch import plan as planning

    if not 1 <= devices <= MOST_DEVICES:
        raise InputError(f"--devices {devices}: must be 1 to {MOST_DEVICES:,}")
    if emit is None:
        refuse("without --emit", {"out": out})
    elif out is None:
        raise InputError(f"--emit {emit}: name the folder to write, --out DIR")
    ladder = loader.overridden(loader.load(name), overrides)
    prepare.check_tokenizers(ladder, named=any(text.startswith("data.tokenizer=") for text in overrides))
    ladder_plan = planning.make(ladder, devices, as_path(corpora))
    terminal.console().print(planning.table(ladder_plan))
    if json:
        terminal.write_json(json, planning.to_json(ladder_plan))
    for rung, row in zip(ladder.all, ladder_plan.rungs + ladder_plan.targets, strict=True):
        epochs.check(rung, row.sources)
    if emit:
        from launch.emit import files

        emitted = files.write(ladder, emit, out, devices)
        lines = [f"{out}: {len(emitted.paths)} configs for {files.TRAINERS[emit].TRAINER}; fill in what says FILL_IN"]
        terminal.console().print("\n".join([*lines, *emitted.notes]), markup=False, highlight=False, soft_wrap=True)


def train(
    run: Annotated[Positional[str], arg(metavar="RUN_DIR|NAME", help="a run directory, or a ladder with --rung")],
    overrides: Overrides = (),
    /,
    *,
    rung: str | None = None,
    vmap: Annotated[str | None, arg(metavar="seeds=N|peak_lr=A,B", help_behavior_hint="")] = None,
    profile: Annotated[str | None, arg(metavar="FIRST:LAST", help_behavior_hint="")] = None,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT", help_behavior_hint="")] = None,
    processes: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    process: Annotated[int | None, arg(metavar="I", help_behavior_hint="")] = None,
) -> None:
    """Train one rung, or resume it where it stopped.

    Example: ladder train demo --rung d16-trunk

    Args:
        rung: a rung of a ladder: its label or the start of its run_id; its run directory is written first
        vmap: train several seeds or peak rates of the rung together in one vmapped step; each has its run directory
        profile: trace these steps with the profiler into RUN_DIR/profile, and print what they spend their time on
        coordinator: for several processes: the address of process 0, or auto on a TPU pod (LADDER_COORDINATOR)
        processes: how many processes train the run (LADDER_PROCESSES)
        process: the index of this process (LADDER_PROCESS, else SLURM_PROCID, else JOB_COMPLETION_INDEX)
    """
    coordinated = coordinator or "LADDER_COORDINATOR" in os.environ
    if not coordinated:
        refuse("without --coordinator", {"processes": processes, "process": process})
    if as_path(run).is_dir():
        refuse(f"with the run directory {run}", {"root": root != RUNS, "corpora": corpora != CORPORA})
    elif coordinated:
        raise InputError(f"{run}: several processes need a run directory: ladder train runs/LADDER/RUN_ID")
    steps = None if profile is None else _steps(profile)
    directory = _run_directory(run, overrides, rung, as_path(root), as_path(corpora), vmap)
    from launch.scheduler import worker

    def join() -> int:
        from ladder.parallel import processes as distributed

        return distributed.join(coordinator, processes, process)

    worker.train(directory, join, steps)


def _steps(text: str) -> tuple[int, int]:
    """(first, last) of --profile."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise InputError(f"--profile {text}: write FIRST:LAST, two steps in ascending order, for example 50:55")
    return int(first), int(last)


def _run_directory(
    run: str, overrides: tuple[str, ...], rung: str | None, root: Path, corpora: Path, vmap: str | None
) -> Path:
    from launch import prepare

    if as_path(run).is_dir():
        if overrides or rung or vmap:
            raise InputError(f"{run}: its config.json fixes what is trained; leave out --rung, --vmap and overrides")
        return as_path(run)
    ladder = loader.overridden(loader.load(run), overrides)
    if rung is None:
        raise InputError(f"ladder {run} has {len(ladder.all)} runs; name one: --rung {ladder.all[0].label}")
    chosen = ladder.all.index(runs.pick(ladder, rung))
    if vmap:
        from ladder.loop import group

        group.members(ladder.all[chosen], vmap)  # before the corpus is built, which takes long
    prepare.check_tasks(ladder)
    built = prepare.build(ladder, corpora)
    display.flags(built.notes)
    if vmap:
        return prepare.write_group(built, group.members(built.ladder.all[chosen], vmap), root)
    return prepare.write(built, (built.ladder.all[chosen],), root)[0]


def evaluate(
    run: Annotated[
        Positional[str],
        arg(
            metavar="RUN_DIR|CHECKPOINT|NAME|MODEL",
            help="a run directory, one of its checkpoints, a ladder, or a published model: GGUF or Hugging Face",
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
    """Evaluate trained runs from their checkpoints, and record the scores in the run directories.

    The scores of a published model are only shown (and written by --json).

    Example: ladder eval runs/demo --tasks olmes my/questions.jsonl

    Args:
        tasks: names (olmes means the paper's eight tasks) or request files; default: the tasks of the run's config
        max_docs: use at most this many docs of each task
        step: which checkpoint; default: the newest
        missing: evaluate every checkpoint that does not have this evaluation yet
        rung: only this run of a ladder, by the start of its run_id
    """
    from ladder.loop import evaluate as evaluation
    from launch.cli import evaluation_tables

    if missing and step is not None:
        raise InputError("--missing and --step: choose one")
    if max_docs is not None and max_docs < 1:
        raise InputError(f"--max-docs {max_docs}: must be at least 1")
    if tasks is not None:
        tasks = tuple(name for names in tasks for name in names.split(",") if name.strip())
        if not tasks:
            raise InputError("--tasks: names no task; leave it out for the tasks of the run's config")
    directories, checkpoint_step = _directories(run, rung, root_of(run, root))
    if checkpoint_step is not None:
        refuse(f"with the checkpoint {run}", {"step": step, "missing": missing, "rung": rung})
    step, evaluations = step if checkpoint_step is None else checkpoint_step, []
    with terminal.progress(BarColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("", total=len(directories))
        for directory in directories:
            progress.update(bar, description=f"evaluating {directory.name}")
            for result in evaluation.evaluate(directory, tasks, max_docs=max_docs, step=step, missing=missing):
                evaluations.append(result)
                terminal.console().print(evaluation_tables.table(result))
                terminal.console().print(evaluation_tables.cost(result))
            progress.advance(bar)
    if not evaluations:
        terminal.console().print("no evaluation is missing")
    if json:
        terminal.write_json(json, evaluation_tables.to_json(evaluations))


def _directories(run: str, rung: str | None, root: Path) -> tuple[list[Path], int | None]:
    """The run directories (or the published model) to evaluate, and the step where `run` is one checkpoint."""
    from ladder.convert import pretrained

    refuse_rung(run, rung)
    path = as_path(run)
    if pretrained.is_model(path):
        refuse(f"with the published model {run}", {"rung": rung, "root": root != as_path(RUNS)})
        return [path], None
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return [path.parent.parent], int(path.name)
    if rung is not None:
        return [runs.directory(run, rung, root)], None
    run_dirs = runs.directories(runs.folder(run, root))
    done = [path for path in run_dirs if Record(path).is_done()]
    if len(run_dirs) > 1 and not done:
        raise InputError(f"{run}: no finished run among {len(run_dirs)} run directories; train them first")
    return (run_dirs if len(run_dirs) == 1 else done), None


def conclude(
    directory: Annotated[Positional[str], arg(metavar="FIT_DIR", help="runs/NAME/fit/ID, written by submit")], /
) -> None:
    """Predict a ladder's targets from its finished runs and write report.html; the last job of a ladder runs this.

    Example: ladder conclude runs/demo/fit/fit-1a2b3c4d
    """
    from launch.scheduler import worker

    worker.conclude(as_path(directory))
