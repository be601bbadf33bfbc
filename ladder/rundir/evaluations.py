"""Evaluations after training: RUN_DIR/evaluations/<step>-<hash>.json, one for each checkpoint and evaluation.

The hash identifies tasks, tokenizer and settings (evaluation/evaluator.py). A file holds the rows, with the columns of
the metrics, and its own hash; it is written atomically, so an interrupted evaluation leaves none and is repeated.
INDEX.json lists the files, so that a missing one is noticed. Files that end in .jsonl were made before they held a
hash; they are read unchecked.
"""

import re

from ladder.errors import DamagedError, InputError
from ladder.rundir import segments
from ladder.rundir.files import read_sealed, sealed, write_atomic

INDEX = "INDEX.json"
_NAME = re.compile(r"(\d+)-(\w+)\.jsonl?")


def write(directory, step: int, evaluation: str, rows) -> None:
    """Record the rows of an evaluation (its hash) of one checkpoint of the run directory."""
    folder = directory / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    value = {"run_id": directory.name, "step": step, "evaluation": evaluation, "rows": list(rows)}
    write_atomic(folder / f"{step:09d}-{evaluation}.json", sealed(value), reached="evaluation-written")
    files = {name for name in names(directory) if name.endswith(".json")} | set(_listed(directory))
    write_atomic(folder / INDEX, sealed({"run_id": directory.name, "files": sorted(files)}))


def read(directory, evaluation: str) -> dict[int, list[dict]]:
    """{step: rows} of the recorded evaluations with this hash. Raises InputError if a file is damaged."""
    rows = {}
    for name, path in _files(directory).items():
        match = _NAME.fullmatch(name)
        if not match or match[2] != evaluation:
            continue
        step = int(match[1])
        rows[step] = list(segments.rows(path)) if name.endswith(".jsonl") else _sealed(path, directory)["rows"]
    return rows


def of_step(directory, step: int) -> list[dict]:
    """The rows of all recorded evaluations of one checkpoint. Raises InputError if a file is damaged."""
    hashes = {match[2] for name in names(directory) if (match := _NAME.fullmatch(name)) and int(match[1]) == step}
    return [row for evaluation in sorted(hashes) for row in read(directory, evaluation)[step]]


def names(directory) -> list[str]:
    """The names of the files of the recorded evaluations."""
    return [name for name in _files(directory) if name != INDEX]


def problems(directory) -> list[str]:
    """What is wrong with the recorded evaluations, one line each."""
    folder, paths, lines = directory / "evaluations", _files(directory), []
    for name, path in paths.items():
        try:
            if name.endswith(".jsonl"):
                list(segments.rows(path))
            elif name.endswith(".json"):
                _sealed(path, directory)
        except InputError as error:
            lines.append(f"{error}; delete it, and evaluate again: ladder eval --missing")
    try:
        missing = sorted(set(_listed(directory)) - set(paths))
    except InputError:
        return lines  # said above
    return lines + [f"{folder / name}: missing; evaluate again: ladder eval --missing" for name in missing]


def _files(directory) -> dict:
    """{name: path} of the evaluations and INDEX.json, sorted by name."""
    folder = directory / "evaluations"
    paths = sorted(folder.iterdir()) if folder.exists() else []
    return {path.name: path for path in paths if _NAME.fullmatch(path.name) or path.name == INDEX}


def _listed(directory) -> list[str]:
    try:
        return _sealed(directory / "evaluations" / INDEX, directory)["files"]
    except FileNotFoundError:
        return []


def _sealed(path, directory) -> dict:
    value = read_sealed(path)
    if value.get("run_id") != directory.name:
        raise DamagedError(f"{path}: belongs to run {value.get('run_id')}, not to {directory.name}")
    return value
