"""Write constraints.txt: the versions that pip chooses for this project with each given Python, merged with markers.

Usage: python tools/lock.py python3.11 python3.12   (`make lock`)
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LEFT_OUT = {"ladder-lm", "pip", "setuptools", "wheel"}
HEADER = "# Every dependency, pinned for the Pythons that are tested. Made by `make lock`.\n"


def resolved(python: str) -> tuple[str, dict[str, str]]:
    """("3.11", {distribution: version}) in a new environment of `python`."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip"]
        path = f"{folder}/report.json"
        what = ".[test,gke,gcp,tpu,tensorboard,wandb]"
        subprocess.run([*pip, "install", "--quiet", "--dry-run", "--report", path, what], check=True)
        report = json.loads(Path(path).read_text())
    pins = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    names = {name: re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    return report["environment"]["python_version"], {names[n]: v for n, v in pins.items() if names[n] not in LEFT_OUT}


def merged(by_python: dict[str, dict[str, str]]) -> list[str]:
    """Constraint lines; with a marker only where the versions differ between Pythons."""
    lines = []
    for name in sorted(set().union(*by_python.values())):
        versions = [pins.get(name) for pins in by_python.values()]
        if len(set(versions)) == 1:
            lines.append(f"{name}=={versions[0]}")
            continue
        *older, newest = sorted(by_python, key=lambda python: int(python.split(".")[1]))
        markers = {python: f'python_version == "{python}"' for python in older}
        markers[newest] = f'python_version >= "{newest}"'
        lines += [f"{name}=={by_python[p][name]} ; {markers[p]}" for p in markers if name in by_python[p]]
    return lines


if __name__ == "__main__":
    Path("constraints.txt").write_text(HEADER + "\n".join(merged(dict(map(resolved, sys.argv[1:])))) + "\n")
