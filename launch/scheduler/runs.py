"""Find the runs of a ladder by its name or folder, and one of them by the start of its run_id."""

from collections.abc import Mapping
from pathlib import Path

from configs import loader
from ladder.config import Ladder, Rung
from ladder.errors import InputError
from ladder.rundir.files import as_path

_HELD = ("config.json", "DONE.json", "metrics")  # by every run directory, or every finished one, or every begun one


def folder(name: str, root: Path) -> Path:
    """The folder that holds a ladder's run directories: `name` itself, or root/<ladder name>."""
    for path in (as_path(name), root / name):
        if path.is_dir():
            return path
    path = root / loader.load(name).name
    if not path.is_dir():
        raise InputError(f"{path}: no runs yet; start them with: ladder submit {name}")
    return path


def directories(path: Path) -> list[Path]:
    """The run directories in a folder, by name; only `path` itself where that is a run directory. One whose config.json
    was lost is known by what it holds."""
    if (path / "config.json").exists():
        return [path]
    run_dirs = sorted({found.parent for name in _HELD for found in path.glob(f"*/{name}")})
    if not run_dirs:
        raise InputError(f"{path}: holds no run directories (a run directory has a config.json)")
    return run_dirs


def directory(name: str, rung: str | None, root: Path) -> Path:
    """One run directory: `name` itself, or the run of a ladder that `rung` names."""
    if (as_path(name) / "config.json").exists():
        return as_path(name)
    run_dirs = directories(folder(name, root))
    if rung is None:
        raise InputError(f"{name} has {len(run_dirs)} runs; name one with --rung, such as --rung {run_dirs[0].name}")
    return match(rung, {path.name: path for path in run_dirs})


def pick(ladder: Ladder, name: str) -> Rung:
    """The rung or target that a label (7B-4T) or the start of a run_id names."""
    labelled = [rung for rung in ladder.all if rung.label == name]
    return labelled[0] if len(labelled) == 1 else match(name, {rung.run_id: rung for rung in ladder.all})


def match(start: str, by_run_id: Mapping):
    """The value of the only run_id that starts with `start`, or with `start` and a hyphen."""
    matches = [run_id for run_id in by_run_id if run_id.startswith(start)]
    full_matches = [run_id for run_id in matches if run_id.startswith(f"{start}-")]
    for candidates in (matches, full_matches):
        if len(candidates) == 1:
            return by_run_id[candidates[0]]
    if matches:
        raise InputError(f"rung {start!r} is ambiguous: {', '.join(matches)}; write more of the run_id")
    raise InputError(f"no rung starts with {start!r}; there are {', '.join(by_run_id)}")
