"""Verbs about a whole ladder: submit it, keep it going, see how far it is, stop it, check it."""

from typing import Annotated, Literal

from tyro.conf import Positional, arg

import configs
from ladder.errors import InputError
from launch import runs, show
from launch.flags import CORPORA, RUNS, Corpora, Json, Name, Overrides, Root

Rung = Annotated[str | None, arg(help="only this one, by label or the start of its run_id")]


def submit(
    name: Name,
    overrides: Overrides = (),
    /,
    *,
    backend: Literal["local"] = "local",
    targets: bool = False,
    at_once: int = 1,
    processes: int = 1,
    retry: bool = False,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> int:
    """Train a whole ladder and fit it; the same command again takes it up where it stopped.

    Example: ladder submit demo --backend local

    Args:
        backend: local runs processes on this machine
        targets: train the targets too, after all rungs
        at_once: local: how many runs at a time
        processes: local: processes of each run, joined by jax.distributed
        retry: try anew what failed, diverged or was stuck
    """
    from launch import foreground, prepare, submission, watch
    from launch.backends.local import Local

    if at_once < 1 or processes < 1:
        raise InputError("--at-once and --processes: must be at least 1")
    console, ladder = show.console(), configs.overridden(configs.load(name), overrides)
    prepare.check_tasks(ladder)
    built = prepare.build(ladder, corpora)
    jobs = submission.write(built, targets, root)
    for run_id in watch.retry(jobs, ("cancelled", "failed", "stuck", "diverged") if retry else ("cancelled",)):
        console.print(f"{run_id}: tried anew")
    try:
        outcome = foreground.run(jobs, console, Local(at_once, processes))
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
    from launch import submission, watching

    if every <= 0:
        raise InputError(f"--every {every}: must be positive")
    folder = runs.folder(name, root)
    return watching.watch(folder, submission.read(folder), every, show.console())


def status(name: Name, /, *, root: Root = RUNS, json: Json = None) -> None:
    """How far every run of a ladder is, as its run directories tell it.

    Example: ladder status demo
    """
    from launch import status as statuses

    read = statuses.read(runs.folder(name, root))
    show.console().print(statuses.table(read))
    if json:
        show.write_json(json, statuses.to_json(read))


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
    from launch import logs as logged

    directory = runs.directory(run, rung, root)
    for line in logged.tail(directory, lines):
        print(line)
    if follow:
        for text in logged.follow(directory):
            print(text, end="", flush=True)


def cancel(name: Name, /, *, rung: Rung = None, root: Root = RUNS) -> None:
    """Stop a ladder's jobs (they save first); submit takes it up again.

    Example: ladder cancel demo --rung d24-trunk
    """
    from launch import submission
    from launch import watch as watching

    there = submission.read(runs.folder(name, root))
    jobs = there.jobs
    if rung is not None:
        jobs = (runs.match(rung, {job.run_id: job for job in jobs}),)
    cancelled = watching.cancel(jobs, there.backend())
    print(f"{len(cancelled)} of {len(jobs)} cancelled" + "".join(f"\n  {run_id}" for run_id in cancelled))


def verify(name: Name, /, *, rung: Rung = None, root: Root = RUNS, json: Json = None) -> int:
    """Check every byte of a ladder's checkpoints against their manifests, and every line of its metrics.

    Example: ladder verify demo
    """
    from launch import verify as verifying

    folder = runs.folder(name, root)
    directories = [runs.directory(name, rung, root)] if rung else runs.directories(folder)
    checked = [verifying.check(path) for path in directories]
    show.console().print(verifying.table(checked))
    if json:
        show.write_json(json, verifying.to_json(checked))
    return 1 if any(c.problems for c in checked) else 0
