"""Verbs about runs: what they cost, train them, watch them."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

import configs
from ladder.errors import InputError
from launch import runs, show
from launch.backends import local
from launch.flags import CORPORA, RUNS, Corpora, Json, Name, Overrides, Root


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
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> None:
    """Train one rung, or take it up where it stopped.

    Example: ladder train demo --rung d16-trunk

    Args:
        rung: of a ladder, by label or the start of its run_id; its run directory is written first
    """
    directory = _run_directory(run, overrides, rung, root, corpora)
    from ladder.train import train as train_run

    train_run(directory)


def _run_directory(run: str, overrides: tuple[str, ...], rung: str | None, root: Path, corpora: Path) -> Path:
    from launch import prepare

    if Path(run).is_dir():
        if overrides or rung:
            raise InputError(f"{run}: a run directory says itself what to train; leave out --rung and overrides")
        return Path(run)
    ladder = configs.overridden(configs.load(run), overrides)
    if rung is None:
        raise InputError(f"ladder {run} has {len(ladder.all)} runs; name one: --rung {ladder.all[0].label}")
    chosen = ladder.all.index(runs.pick(ladder, rung))
    prepare.check_tasks(ladder)
    built = prepare.build(ladder, corpora)
    return prepare.write(built, (built.ladder.all[chosen],), root)[0]


def submit(
    name: Name,
    overrides: Overrides = (),
    /,
    *,
    backend: Literal["local"] = "local",
    targets: bool = False,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> int:
    """Train a whole ladder; the same command again takes it up where it stopped.

    Example: ladder submit demo --backend local

    Args:
        backend: local trains one run after another on this machine
        targets: train the targets too
    """
    from launch import prepare

    console, ladder = show.console(), configs.overridden(configs.load(name), overrides)
    prepare.check_tasks(ladder)
    built = prepare.build(ladder, corpora)
    outcome = local.run(prepare.write(built, built.ladder.all if targets else built.ladder.rungs, root), console)
    console.print(f"{len(outcome.done)} done, {len(outcome.diverged)} diverged, {len(outcome.skipped)} skipped")
    return 78 if outcome.diverged else 0


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
