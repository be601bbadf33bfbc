"""The cases of a bench: tables of public families of runs, split into `train` (fitted) and `target` (hidden)."""

import json
from dataclasses import dataclass
from pathlib import Path

from fitting.errors import InputError

INDEX = "index.json"


@dataclass(frozen=True)
class Case:
    """A table and the family that it belongs to. in_run: its rows are checkpoints of undecayed curves."""

    name: str
    family: str
    path: Path
    in_run: bool = False


def cases(folder) -> list[Case]:
    """The tables of a folder. index.json, if it is there, names family and kind of each (name, family, inrun); without
    it every table is a family. Raises InputError where there is no table."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    if (folder / INDEX).exists():
        found = _listed(folder)
    else:
        paths = sorted(path for path in folder.glob("*") if path.name.endswith((".csv", ".csv.gz", ".jsonl")))
        found = [Case(path.name.partition(".")[0], path.name.partition(".")[0], path) for path in paths]
    if not found:
        raise InputError(f"{folder}: no table (.csv, .csv.gz, .jsonl) to forecast")
    return found


def _listed(folder: Path) -> list[Case]:
    """The cases that index.json names."""
    path = folder / INDEX
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        named = [(str(e["name"]), str(e["family"]), bool(e.get("inrun", False))) for e in entries]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a list of objects with name and family ({error!r})") from error
    return [Case(name, family, _table_of(folder, name), in_run) for name, family, in_run in named]


def _table_of(folder: Path, name: str) -> Path:
    for suffix in (".csv.gz", ".csv", ".jsonl"):
        if (path := folder / f"{name}{suffix}").exists():
            return path
    raise InputError(f"{folder / INDEX}: names {name!r}, but there is no {name}.csv.gz beside it")
