"""Fetching the task-ladder paper's published runs: the CSVs of its repository, at one commit, as a runs table."""

import subprocess
from pathlib import Path

from fitting.tables import importers, runs_table
from ladder.errors import InputError

REPOSITORY = "https://github.com/allenai/OLMo-ladder"
# The checksum: git takes no object whose content is not what the commit's hash says.
COMMIT = "4d993445ec8d0e1202c21ebd14aab505550dcee6"
RUNS = "src/scripts/paper/data/ladder-runs"
FOLDER = Path(".cache/paper")


def install(folder: Path = FOLDER, repository: str = REPOSITORY, commit: str = COMMIT) -> Path:
    """-> `folder`/runs.csv.gz, the published runs as a tidy runs table. Idempotent.

    Raises InputError where git is missing or cannot fetch the commit.
    """
    table = folder / "runs.csv.gz"
    if not table.exists():
        clone = folder / "repository"
        _git("init", "--quiet", clone)
        _git("-C", clone, "sparse-checkout", "set", "--no-cone", f"/{RUNS}/*.csv")
        _git("-C", clone, "fetch", "--quiet", "--depth", "1", "--filter", "blob:none", repository, commit)
        _git("-C", clone, "checkout", "--quiet", "FETCH_HEAD")
        runs_table.write(importers.paper(clone / RUNS), table)
    return table


def _git(*words: str | Path) -> None:
    try:
        done = subprocess.run(["git", *map(str, words)], capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError("git is not installed; the paper's runs are fetched with it") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word"]
        raise InputError(f"git {words[-2]} {words[-1]}: {said[-1]}")
