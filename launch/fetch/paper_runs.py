"""Fetch the task-ladder paper's published runs: the CSV files of its repository, at one commit, as a runs table."""

import subprocess
from pathlib import Path

from fitting.tables import importers, runs_table
from ladder.errors import InputError

REPOSITORY = "https://github.com/allenai/OLMo-ladder"
# It is also the checksum: git refuses objects that do not match the commit's hash.
COMMIT = "4d993445ec8d0e1202c21ebd14aab505550dcee6"
RUNS = "src/scripts/paper/data/ladder-runs"
FOLDER = Path(".cache/paper")


def install(folder: Path = FOLDER, repository: str = REPOSITORY, commit: str = COMMIT) -> Path:
    """Write `folder`/runs.csv.gz, the published runs as a runs table, and return its path. Idempotent.

    Prints what of the published files is not in the table.
    Raises InputError where git is missing or cannot fetch the commit.
    """
    table = folder / "runs.csv.gz"
    if not table.exists():
        clone = folder / "repository"
        _git("init", "--quiet", clone)
        _git("-C", clone, "sparse-checkout", "set", "--no-cone", f"/{RUNS}/*.csv")
        _git("-C", clone, "fetch", "--quiet", "--depth", "1", "--filter", "blob:none", repository, commit)
        _git("-C", clone, "checkout", "--quiet", "FETCH_HEAD")
        runs = importers.paper(clone / RUNS)
        for line in runs.left_out:
            print(f"left out: {line}")
        runs_table.write(runs, table)
    return table


def _git(*arguments: str | Path) -> None:
    try:
        process = subprocess.run(["git", *map(str, arguments)], capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError("git is not installed; install it to fetch the paper's runs") from None
    if process.returncode:
        message = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        raise InputError(f"git {arguments[-2]} {arguments[-1]}: {message[-1]}")
