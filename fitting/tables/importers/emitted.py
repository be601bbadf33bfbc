"""emitted.json, which `ladder plan --emit` writes beside the configs of another trainer: what a log does not say.

It lists the runs with their N, tokens, batch and steps, by the names of the columns of a runs table.
"""

import json
from pathlib import Path

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.importers.metrics import is_number

NAME = "emitted.json"
PARENTS = 3  # how many folders above a log are looked into
_NEEDED = ("n_params", "tokens", "steps", "batch_tokens")


def find(paths: list) -> dict[str, dict]:
    """{run: facts} of every emitted.json at or beside these files and folders, or up to PARENTS folders above them."""
    folders = {}
    for path in paths:
        path = path.absolute() if isinstance(path, Path) else path
        here = path if path.is_dir() else path.parent
        folders |= dict.fromkeys([here, *list(here.parents)[:PARENTS]])
    runs = {}
    for file in [folder / NAME for folder in folders if (folder / NAME).is_file()]:
        for facts in _read(file):
            earlier = runs.setdefault(facts["run"], facts)
            if any(earlier[name] != facts[name] for name in _NEEDED):
                raise InputError(f"{file}: the run {facts['run']} has another size in another {NAME}; name fewer")
    return runs


def _read(file) -> list[dict]:
    """Raises InputError unless every run has its name and what _NEEDED lists, positive."""
    try:
        runs = json.loads(reader.content(file)[1])["runs"]
        for facts in runs:
            if not isinstance(facts["run"], str) or not all(is_number(facts[n]) and facts[n] > 0 for n in _NEEDED):
                raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{file}: not as `ladder plan --emit` wrote it; emit the configs again") from None
    return runs
