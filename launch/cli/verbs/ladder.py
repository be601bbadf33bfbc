"""Verbs about a whole ladder: submit, watch, status, logs, cancel, verify."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from configs import loader
from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import display, terminal
from launch.cli.options import CORPORA, RUNS, Corpora, Html, Json, Name, Overrides, Root, refuse, refuse_rung, root_of
from launch.data.token_index import bytes_bar
from launch.scheduler import runs
from launch.settings import FILE

Rung = Annotated[str | None, arg(help="only this run: its label or the start of its run_id")]


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
    stage: Literal["auto", "always", "never"] = "auto",
    dry_run: bool = False,
    settings: Annotated[Path, arg(metavar="FILE")] = FILE,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> int:
    """Train a whole ladder and fit it; the same command again resumes it.

    Example: ladder submit demo --backend local

    Args:
        backend: local trains on this machine until the end; with the others, ladder watch submits what follows
        targets: train the targets too, after all rungs
        at_once: local: how many runs at a time
        processes: local: processes of each run, joined by jax.distributed
        retry: try again the runs that failed, diverged or were stuck
        stage: gke, tpu: whether corpora in a bucket are copied to each machine's disk, or the bucket is mounted there
        dry_run: only print what would be submitted, and what could not be checked; nothing is written
        settings: partitions, images, topologies, prices (README, Run a ladder on TPUs)
    """
    from launch.scheduler import placement, submission
    from launch.settings import load

    _refuse_flags(backend, at_once, processes, stage)
    if dry_run:
        refuse("with --dry-run, which submits nothing", {"retry": retry})
    config = submission.BackendConfig(backend, at_once, processes, load(settings))
    config.open()  # before anything is built: a missing setting is reported at once
    placement.check_root(root, backend)
    ladder = loader.overridden(loader.load(name), overrides)
    if dry_run:
        _show_dry_run(ladder, targets, root, corpora, config, stage)
        return 0
    submitted = _prepared(ladder, targets, as_path(root), as_path(corpora), config, stage)
    return _submit(submitted.jobs, submitted.config.open(), retry)


def _prepared(ladder, targets: bool, root: Path, corpora: Path, config, stage):
    """Build the corpora and write the run directories, once everything that can be checked before a job is checked."""
    from dataclasses import replace

    from launch import prepare
    from launch.backends.archive import publish
    from launch.scheduler import placement, status, submission

    prepare.check_tasks(ladder)
    if config.tpu:
        prepare.check_layouts(ladder.all if targets else ladder.rungs, config.tpu.slice_of, config.tpu.slices)
    if config.backend == "tpu":
        config = replace(config, code=publish(config.settings.tpu.archive))
    built = prepare.build(ladder, corpora)
    display.flags(built.notes)
    rungs = built.ladder.all if targets else built.ladder.rungs
    for rung in rungs:
        prepare.check_batch(rung, built)
    placed, notes = placement.place(built, rungs, root, config.backend, config.settings, stage)
    display.flags(notes)
    config = replace(config, placement=placed)
    planned = submission.planned(built.ladder, rungs, root, config)
    cost = planned.cost(status.of_planned(planned.jobs))
    terminal.console().print(str(cost), markup=False)
    if reason := cost.above(config.settings.limits.dollars):
        raise InputError(reason)
    return submission.write(built, targets, root, config)


def _show_dry_run(ladder, targets: bool, root: str, corpora: str, config, stage) -> None:
    from launch.scheduler.dry_run import DryRun

    dry = DryRun(ladder, root, corpora)
    submitted = dry.plan(targets, config, stage)
    cost = submitted.cost(dry.runs(submitted))
    reason = cost.above(config.settings.limits.dollars)
    display.flags([*dry.notes, *(f"not checked: {line}" for line in dry.not_checked)])
    terminal.console().print(str(cost), markup=False)
    display.flags([f"would be refused: {reason}"] if reason else [])
    backend = submitted.config.open()
    for job in submitted.jobs:
        print(backend.render(job))


def _refuse_flags(backend: str, at_once: int, processes: int, stage: str) -> None:
    """Raises InputError for flags of `submit` that have no effect with this backend."""
    if at_once < 1 or processes < 1:
        raise InputError("--at-once and --processes: must be at least 1")
    if backend != "local":
        one_machine = {"at_once": at_once > 1, "processes": processes > 1}
        refuse(f"with --backend {backend}, which starts as many as {FILE} says", one_machine)
    if backend in ("local", "slurm"):
        refuse(f"with --backend {backend}, which reads corpora on a disk in place", {"stage": stage != "auto"})


def _submit(jobs, backend, retry: bool) -> int:
    from launch.scheduler import foreground, loop

    console, states = terminal.console(), ("cancelled", "failed", "stuck", "diverged") if retry else ("cancelled",)
    for run_id in loop.retry(jobs, states):
        console.print(f"{run_id}: tried again", markup=False)
    if backend.name != "local":
        with loop.submit_lease(loop.folder_of(jobs)):
            round_ = loop.once(jobs, backend)
        for line in (*round_.log, *([f"not now: {round_.busy}"] if round_.busy else [])):
            console.print(line, markup=False)
        return 75 if round_.busy else 0
    try:
        outcome = foreground.run(jobs, console, backend)
    except foreground.Failed as error:
        raise foreground.Failed(f"{error}\nmend the cause, then repeat the command with --retry", error.code) from None
    console.print(f"{len(outcome.done)} done, {len(outcome.diverged)} diverged, {len(outcome.skipped)} skipped")
    return 78 if outcome.diverged else 0


def watch(name: Name, /, *, every: float = 10.0, html: Html = None, root: Root = RUNS) -> int:
    """Submit the jobs of a ladder as they become ready, and show its status, until nothing is left to do.

    Example: ladder watch demo --html status.html

    Args:
        every: seconds between two updates
    """
    from launch.scheduler import screen, submission

    if not 0 < every < 86_400:
        raise InputError(f"--every {every}: must be positive, and less than a day")
    folder = runs.folder(name, root_of(name, root))
    submitted, console = submission.read(folder), terminal.console()
    if html is None:
        return screen.watch(folder, submitted, every, console)
    page = _page(folder, html, every)
    return screen.watch(folder, submitted, every, console, lambda round_: page.follow(round_, console.print))


def _page(folder: Path, html: Path, every: float = 0.0):
    from launch.page.writer import Page

    return Page(folder, html, f"ladder {folder.name}", every=every)


def status(
    name: Name,
    /,
    *,
    goodput: bool = False,
    noise_scale: bool = False,
    root: Root = RUNS,
    json: Json = None,
    html: Html = None,
) -> None:
    """Show the progress of every run of a ladder, from its run directories.

    Example: ladder status demo --html status.html

    Args:
        goodput: also show where the time of each run went: training, compilation, saves, lost work, idle
        noise_scale: also show the gradient noise scale of the runs with optimizer.noise_scale_every
    """
    from launch import goodput as time_parts
    from launch import noise_scale as noise_scales
    from launch.scheduler import status as statuses
    from launch.scheduler import submission

    folder = runs.folder(name, root_of(name, root))
    page = _page(folder, html) if html else None
    records = statuses.records(folder, timings=goodput)
    ladder_status = statuses.of_records(records)
    terminal.console().print(statuses.table(ladder_status))
    parts = time_parts.of_runs(records) if goodput else None
    if parts is not None:
        terminal.console().print(time_parts.table(parts))
        display.flags(time_parts.notes(records))
    noise = noise_scales.of_ladder(folder) if noise_scale else None
    if noise is not None:
        terminal.console().print(display.table(noise_scales.grid(noise)))
    with suppress(submission.NothingSubmitted):
        if spent := submission.spent_on(folder, ladder_status):
            terminal.console().print(str(spent), markup=False)
    if json:
        more = {} if parts is None else {"goodput": time_parts.to_json(parts)}
        more |= {} if noise is None else {"noise_scale": noise_scales.to_json(noise)}
        terminal.write_json(json, statuses.to_json(ladder_status) | more)
    if page:
        page.write(ladder_status)


def logs(
    run: Annotated[Positional[str], arg(metavar="RUN_DIR|NAME", help="a run directory, or a ladder with --rung")],
    /,
    *,
    rung: str | None = None,
    lines: int = 40,
    follow: Annotated[bool, arg(aliases=["-f"])] = False,
    machine: int = 0,
    root: Root = RUNS,
) -> None:
    """Show the last lines that a run printed.

    Example: ladder logs demo --rung d16-1xC --follow

    Args:
        rung: a run of a ladder, by the start of its run_id
        lines: how many lines
        follow: print new lines as they come, until the run ends
        machine: which of a run's TPU VMs, from 0; the first prints the progress
    """
    from launch import run_log
    from launch.scheduler import submission

    if lines < 1:
        raise InputError(f"--lines {lines}: must be at least 1")
    refuse_rung(run, rung)
    directory = runs.directory(run, rung, root_of(run, root))
    backend_lines = submission.backend_logs(directory)  # where there is no log in it
    if backend_lines:
        refuse("on a log that the backend keeps", {"follow": follow, "machine": machine or None})
    for line in backend_lines[-lines:] or run_log.tail(directory, lines, machine):
        print(line)
    if follow:
        for text in run_log.follow(directory, machine):
            print(text, end="", flush=True)


def cancel(name: Name, /, *, rung: Rung = None, root: Root = RUNS) -> None:
    """Stop a ladder's jobs (they save first); ladder submit resumes them.

    Example: ladder cancel demo --rung d24-trunk
    """
    from launch.scheduler import loop, submission

    submitted = submission.read(runs.folder(name, root_of(name, root)))
    jobs = submitted.jobs
    if rung is not None:
        jobs = (runs.match(rung, {job.run_id: job for job in jobs}),)
    cancelled = loop.cancel(jobs, submitted.config.open())
    print(f"{len(cancelled)} of {len(jobs)} cancelled" + "".join(f"\n  {run_id}" for run_id in cancelled))


def verify(name: Name, /, *, rung: Rung = None, root: Root = RUNS, json: Json = None) -> int:
    """Check every file of a ladder's runs and their corpora against its hash, and every config.json against its run_id;
    or every block of token files that have an index.

    Example: ladder verify demo
    Example: ladder verify my/tokens
    """
    from launch import verify as verifying

    if (index := verifying.token_index(name)) is not None:
        refuse("with token files", {"rung": rung, "root": root != RUNS})
        with bytes_bar("checking") as start_bar:
            return _show([verifying.check_tokens(index, start_bar)], json)
    refuse_rung(name, rung)
    folder = runs.folder(name, root_of(name, root))
    directories = [runs.directory(name, rung, root_of(name, root))] if rung else runs.directories(folder)
    fits = [] if rung else sorted(config.parent for config in folder.glob("fit/*/config.json"))
    checked = [verifying.check(path) for path in (*directories, *fits)]
    with bytes_bar("checking") as start_bar:
        checked += verifying.check_corpora(directories, start_bar)
    return _show(checked, json)


def _show(checked: list, json: Json) -> int:
    """Print what was checked; the exit code of `verify`."""
    from launch import verify as verifying

    terminal.console().print(verifying.table(checked))
    if json:
        terminal.write_json(json, verifying.to_json(checked))
    return 1 if any(c.problems for c in checked) else 0
