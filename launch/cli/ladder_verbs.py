"""Verbs about a whole ladder: submit it, keep it going, see how far it is, stop it, check it."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from configs import loader
from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import terminal
from launch.cli.options import CORPORA, RUNS, Corpora, Json, Name, Overrides, Root
from launch.scheduler import runs
from launch.settings import FILE

Rung = Annotated[str | None, arg(help="only this one, by label or the start of its run_id")]


def submit(
    name: Name,
    overrides: Overrides = (),
    /,
    *,
    backend: Literal["local", "slurm", "gke", "tpu"] = "local",
    targets: bool = False,
    at_once: int = 1,
    processes: int = 1,
    retry: bool = False,
    dry_run: bool = False,
    settings: Annotated[Path, arg(metavar="FILE")] = FILE,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> int:
    """Train a whole ladder and fit it; the same command again takes it up where it stopped.

    Example: ladder submit demo --backend local

    Args:
        backend: local runs processes on this machine; the others are asked once, and ladder watch keeps it going
        targets: train the targets too, after all rungs
        at_once: local: how many runs at a time
        processes: local: processes of each run, joined by jax.distributed
        retry: try anew what failed, diverged or was stuck
        dry_run: write the run directories, print what would be submitted, and submit nothing
        settings: partitions, images, topologies, prices (README, Run a ladder on TPUs)
    """
    from dataclasses import replace

    from launch import prepare
    from launch.backends.archive import publish
    from launch.scheduler import submission
    from launch.settings import load

    if at_once < 1 or processes < 1:
        raise InputError("--at-once and --processes: must be at least 1")
    engine = submission.Engine(backend, at_once, processes, load(settings))
    opened = engine.open()  # before anything is built: what lacks is said at once
    if backend == "tpu":
        engine = replace(engine, code=publish(engine.settings.tpu.archive, dry=dry_run))
        opened = engine.open()
    ladder = loader.overridden(loader.load(name), overrides)
    prepare.check_tasks(ladder)
    there = submission.write(prepare.build(ladder, as_path(corpora)), targets, as_path(root), engine, dry_run)
    terminal.console().print(str(there.cost()), markup=False)
    if dry_run:
        for job in there.jobs:
            print(opened.render(job))
        return 0
    return _submit(there, opened, retry)


def _submit(there, opened, retry: bool) -> int:
    from launch.scheduler import foreground, loop

    console, again = terminal.console(), ("cancelled", "failed", "stuck", "diverged") if retry else ("cancelled",)
    for run_id in loop.retry(there.jobs, again):
        console.print(f"{run_id}: tried anew", markup=False)
    if opened.name != "local":
        with loop.alone(loop.folder_of(there.jobs)):
            round_ = loop.once(there.jobs, opened)
        for line in (*round_.did, *([f"not now: {round_.busy}"] if round_.busy else [])):
            console.print(line, markup=False)
        return 75 if round_.busy else 0
    try:
        outcome = foreground.run(there.jobs, console, opened)
    except foreground.Failed as error:
        raise foreground.Failed(f"{error}\nwhat is mended is tried anew with --retry", error.code) from None
    console.print(f"{len(outcome.done)} done, {len(outcome.diverged)} diverged, {len(outcome.skipped)} skipped")
    return 78 if outcome.diverged else 0


def watch(name: Name, /, *, every: float = 10.0, root: Root = RUNS) -> int:
    """Keep a submitted ladder going, and its table true, until nothing more will happen unasked.

    Example: ladder watch demo

    Args:
        every: seconds between two looks
    """
    from launch.scheduler import screen, submission

    if every <= 0:
        raise InputError(f"--every {every}: must be positive")
    folder = runs.folder(name, as_path(root))
    return screen.watch(folder, submission.read(folder), every, terminal.console())


def status(name: Name, /, *, root: Root = RUNS, json: Json = None) -> None:
    """How far every run of a ladder is, as its run directories tell it.

    Example: ladder status demo
    """
    from launch.scheduler import status as statuses

    read = statuses.read(runs.folder(name, as_path(root)))
    terminal.console().print(statuses.table(read))
    if json:
        terminal.write_json(json, statuses.to_json(read))


def logs(
    run: Annotated[Positional[str], arg(metavar="RUN_DIR|NAME", help="a run directory, or a ladder with --rung")],
    /,
    *,
    rung: str | None = None,
    lines: int = 40,
    follow: Annotated[bool, arg(aliases=["-f"])] = False,
    root: Root = RUNS,
) -> None:
    """What a run printed last.

    Example: ladder logs demo --rung d16-1xC --follow

    Args:
        rung: of a ladder, by the start of its run_id
        lines: how many of the last lines
        follow: go on with what comes, until the run ends
    """
    from launch import run_log
    from launch.scheduler import submission

    directory = runs.directory(run, rung, as_path(root))
    kept = submission.engine_logs(directory)  # what the engine has instead of log.txt
    for line in kept[-lines:] or run_log.tail(directory, lines):
        print(line)
    if kept:
        return
    if follow:
        for text in run_log.follow(directory):
            print(text, end="", flush=True)


def cancel(name: Name, /, *, rung: Rung = None, root: Root = RUNS) -> None:
    """Stop a ladder's jobs (they save first); submit takes it up again.

    Example: ladder cancel demo --rung d24-trunk
    """
    from launch.scheduler import loop, submission

    there = submission.read(runs.folder(name, as_path(root)))
    jobs = there.jobs
    if rung is not None:
        jobs = (runs.match(rung, {job.run_id: job for job in jobs}),)
    cancelled = loop.cancel(jobs, there.engine.open())
    print(f"{len(cancelled)} of {len(jobs)} cancelled" + "".join(f"\n  {run_id}" for run_id in cancelled))


def verify(name: Name, /, *, rung: Rung = None, root: Root = RUNS, json: Json = None) -> int:
    """Check every byte of a ladder's checkpoints against their manifests, and every line of its metrics.

    Example: ladder verify demo
    """
    from launch import verify as verifying

    folder = runs.folder(name, as_path(root))
    directories = [runs.directory(name, rung, as_path(root))] if rung else runs.directories(folder)
    checked = [verifying.check(path) for path in directories]
    terminal.console().print(verifying.table(checked))
    if json:
        terminal.write_json(json, verifying.to_json(checked))
    return 1 if any(c.problems for c in checked) else 0
