"""The `ladder` command. Verbs only: each reads its flags, calls the module that does the work, and shows the result."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

import configs
from fitting.errors import InputError as FitInputError
from ladder.errors import Diverged, InputError, Preempted
from launch import runs, show
from launch.backends import local

RUNS, CORPORA = Path("runs"), Path("corpora")

Name = Annotated[
    Positional[str], arg(metavar="NAME", help="a built-in ladder (demo, olmo2, kaplan ...) or path/to/file.py:function")
]
Overrides = Annotated[
    Positional[tuple[str, ...]],
    arg(metavar="[KEY=VALUE ...]", help="for every run, by dotted path: optimizer.peak_lr=1e-3", help_behavior_hint=""),
]
Table = Annotated[Positional[str], arg(metavar="TABLE", help="a runs table (.csv, .csv.gz, .jsonl) or runs/NAME")]
Targets = Annotated[tuple[str, ...], arg(metavar="NAME=N,D ...")]
Json = Annotated[Path | None, arg(metavar="FILE", help="write the result for programs", help_behavior_hint="")]
Root = Annotated[Path, arg(metavar="DIR", help="where run directories are")]
Corpora = Annotated[Path, arg(metavar="DIR", help="where corpora are kept")]
Out = Annotated[Path, arg(metavar="FILE", aliases=["-o"], help="the file to write")]


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


def data(
    what: Annotated[Positional[Literal["build", "olmes"]], arg(help="the corpora of a ladder, or the OLMES requests")],
    name: Annotated[Positional[str | None], arg(metavar="[NAME]", help="build: the ladder")] = None,
    overrides: Overrides = (),
    /,
    *,
    corpora: Corpora = CORPORA,
) -> None:
    """Build the corpora that a ladder reads (or find them again); fetch the OLMES tasks into .cache/olmes.

    Example: ladder data build demo data.text=my/notes,more.jsonl.gz
    """
    from launch import olmes, prepare

    if what == "olmes":
        if name is not None:
            raise InputError(f"ladder data olmes takes no {name!r}")
        print(olmes.install())
        return
    if name is None:
        raise InputError("ladder data build: name a ladder, for example: ladder data build demo")
    built = prepare.build(configs.overridden(configs.load(name), overrides), corpora)
    for corpus_hash, directory in built.corpora.items():
        print(f"{corpus_hash}  {directory}")


def demo(
    *,
    quick: bool = False,
    full: bool = False,
    seed: int = 0,
    text: Annotated[tuple[Path, ...], arg(metavar="PATH ...")] = (),
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> None:
    """From text to a prediction on this machine: train a small ladder, predict a larger model, then train that too.

    Example: ladder demo --text my/notes

    Args:
        quick: under two minutes; the numbers mean little
        full: about an hour
        seed: of initialisation and data order
        text: your own text: files, folders, .jsonl(.gz); without it, the Python sources of this environment
    """
    from launch import demo as demonstration

    if quick and full:
        raise InputError("--quick and --full: choose one")
    name = "demo-quick" if quick else "demo-full" if full else "demo"
    ladder = demonstration.ladder_of(name, seed, tuple(map(str, text)))
    demonstration.run(ladder, root, corpora, show.console())


def predict(
    table: Table,
    /,
    *,
    target: Targets = (),
    tasks: Annotated[tuple[str, ...], arg(metavar="TASK ...")] = ("all",),
    bootstrap: int = 1000,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Predict the bpb and the accuracy of a larger model from a table of runs.

    Example: ladder predict runs.csv.gz --target 7B-4T=6887575552,3945065873408

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        tasks: which tasks
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    from launch import predictions

    _, predicted = predictions.predict(table, target, None if tasks == ("all",) else list(tasks), bootstrap, seed)
    show.console().print(predictions.table(predicted.entries))
    if json:
        show.write_json(json, predicted.json())


def report(
    table: Table,
    /,
    *,
    target: Targets = (),
    bootstrap: int = 1000,
    seed: int = 0,
    out: Out = Path("report.html"),
) -> None:
    """One self-contained HTML page: the runs, the laws, the predictions and, where it is known, the truth.

    Example: ladder report runs/demo -o report.html

    Args:
        target: name, parameters and tokens of a model; without it, the targets in the table
        bootstrap: resamples behind the intervals
        seed: of the resamples
    """
    from launch import predictions

    read, predicted = predictions.predict(table, target, None, bootstrap, seed)
    from fitting import report as reports

    reports.report(read, predicted, out, {"commands": [f"ladder report {table} -o {out}"]})
    print(out)


def export(table: Table, /, *, out: Out) -> None:
    """Write the finished runs of a folder as one runs table.

    Example: ladder export runs/demo -o demo.csv.gz
    """
    from fitting import table as tables

    if not out.name.endswith((".csv", ".csv.gz")):
        raise InputError(f"{out}: a runs table is written as .csv or .csv.gz")
    read = tables.read(table)
    try:
        tables.write(read, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    left = f"; left out: {'; '.join(read.left_out)}" if read.left_out else ""
    print(f"{out}: {len(read)} rows of {len(read.unique('run'))} runs{left}")


VERBS = {
    "demo": demo,
    "data": data,
    "plan": plan,
    "train": train,
    "submit": submit,
    "status": status,
    "logs": logs,
    "predict": predict,
    "report": report,
    "export": export,
}
DESCRIPTION = "Know what your large model will score before you train it."


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; the result is the exit code (DESIGN, Exit codes)."""
    try:
        return tyro.extras.subcommand_cli_from_dict(VERBS, prog="ladder", description=DESCRIPTION, args=arguments) or 0
    except (InputError, FitInputError) as error:
        return _ended(f"error: {error}", 2)
    except Preempted as error:
        return _ended(f"stopped: {error}", 75)
    except Diverged as error:
        return _ended(f"diverged: {error}", 78)
    except local.Failed as error:
        return _ended(f"error: {error}", error.code)
    except KeyboardInterrupt:
        return _ended("stopped", 130)


def _ended(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
