"""Finding runs: by ladder name or folder, and one of them by the start of its run_id."""

from collections.abc import Mapping
from pathlib import Path

from configs import loader
from ladder.config import Ladder, Rung
from ladder.errors import InputError
from ladder.rundir.files import as_path


def folder(name: str, root: Path) -> Path:
    """The folder that holds a ladder's run directories: `name` itself, or root/<ladder name>."""
    for there in (as_path(name), root / name):
        if there.is_dir():
            return there
    there = root / loader.load(name).name
    if not there.is_dir():
        raise InputError(f"{there}: no runs yet; start them with: ladder submit {name}")
    return there


def directories(there: Path) -> list[Path]:
    """The run directories in a folder, by name; a run directory itself is the only one in it."""
    if (there / "config.json").exists():
        return [there]
    found = sorted(path.parent for path in there.glob("*/config.json"))
    if not found:
        raise InputError(f"{there}: holds no run directories (a run directory has a config.json)")
    return found


def directory(name: str, rung: str | None, root: Path) -> Path:
    """One run directory: `name` itself, or the run of a ladder that `rung` names."""
    if (as_path(name) / "config.json").exists():
        return as_path(name)
    found = directories(folder(name, root))
    if rung is None:
        raise InputError(f"{name} has {len(found)} runs; name one with --rung, for example --rung {found[0].name}")
    return found[match(rung, {path.name: i for i, path in enumerate(found)})]


def pick(ladder: Ladder, name: str) -> Rung:
    """The rung or target that a label (7B-4T) or the start of a run_id names."""
    labelled = [rung for rung in ladder.all if rung.label == name]
    return labelled[0] if len(labelled) == 1 else match(name, {rung.run_id: rung for rung in ladder.all})


def match(start: str, by_run_id: Mapping):
    """The value of the one run_id that starts so."""
    found = [run_id for run_id in by_run_id if run_id.startswith(start)]
    whole = [run_id for run_id in found if run_id.startswith(f"{start}-")]
    if len(found) == 1 or len(whole) == 1:
        return by_run_id[found[0] if len(found) == 1 else whole[0]]
    if found:
        raise InputError(f"rung {start!r} is ambiguous: {', '.join(found)}")
    raise InputError(f"no rung starts with {start!r}; there are {', '.join(by_run_id)}")
