"""Flags that several verbs share."""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ladder.errors import InputError
from ladder.rundir.files import as_path

RUNS, CORPORA = "runs", "corpora"

Name = Annotated[
    Positional[str], arg(metavar="NAME", help="a built-in ladder (demo, olmo2, kaplan ...) or path/to/file.py:function")
]
Overrides = Annotated[
    Positional[tuple[str, ...]],
    arg(metavar="[KEY=VALUE ...]", help="for every run, for example optimizer.peak_lr=1e-3", help_behavior_hint=""),
]
Table = Annotated[Positional[str], arg(metavar="TABLE", help="a runs table (.csv, .csv.gz, .jsonl) or runs/NAME")]
Targets = Annotated[tuple[str, ...], arg(metavar="N,D|NAME=N,D ...")]

Json = Annotated[Path | None, arg(metavar="FILE", help="write the result as JSON", help_behavior_hint="")]
Html = Annotated[
    Path | None, arg(metavar="FILE", help="write the progress as a page: curves, forecast", help_behavior_hint="")
]
Root = Annotated[str, arg(metavar="DIR", help="where run directories are: a folder, or gs://...")]
Corpora = Annotated[str, arg(metavar="DIR", help="where corpora are kept: a folder, or gs://...")]
Out = Annotated[Path, arg(metavar="FILE", aliases=["-o"], help="the file to write")]


def root_of(name: str, root: str) -> Path:
    """Where the run directories of the ladder `name` are. Raises InputError for --root beside a folder of runs."""
    if root != RUNS and as_path(name).is_dir():  # in this order: a folder in a bucket costs requests
        refuse(f"with the folder {name}", {"root": True})
    return as_path(root)


def refuse_rung(run: str, rung: str | None) -> None:
    """Raises InputError for --rung beside a run directory."""
    if rung is not None and (as_path(run) / "config.json").exists():
        refuse(f"with the run directory {run}", {"rung": rung})


def preset(value: Any) -> Any:
    """The help of a flag whose value is None where it is not given, and `value` where that matters."""
    return arg(help_behavior_hint=f"(default: {value})")


def amounts(argument: str, texts: tuple[str, ...]) -> tuple[float, ...]:
    """Numbers of parameters, tokens or FLOPs, such as 7B, 4T and 1.3e9. Raises InputError with the argument's name."""
    from fitting.errors import InputError as FitInputError
    from fitting.tables.quantities import quantity

    try:
        return tuple(quantity(text) for text in texts)
    except FitInputError as error:
        raise InputError(str(error), argument) from None


def given(flags: dict) -> dict:
    """The flags of a verb that were given: those that are not None, False or empty; 0 is a value."""
    return {name: value for name, value in flags.items() if value is not None and value is not False and value != ()}


def refuse(where: str, flags: dict) -> None:
    """Raises InputError for flags that were given but have no effect there, for example "with --vary"."""
    names = [f"--{name.replace('_', '-')}" for name in given(flags)]
    if names:
        raise InputError(f"{' and '.join(names)}: no effect {where}; leave {'it' if len(names) == 1 else 'them'} out")
