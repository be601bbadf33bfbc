"""A corpus on the machine's own disk: copied once, every file checked by its hash."""

import hashlib
import json
import os
import uuid
from pathlib import Path

from etils import epath

from ladder.errors import InputError
from ladder.rundir.files import is_local, read_json, write_atomic

SEAL = "FILES.json"  # name -> sha256 of every other file


def seal(directory) -> None:
    """Write the hashes of a corpus's files beside them, unless they stand there."""
    directory = epath.Path(directory)
    if not (directory / SEAL).exists():
        files = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _files(directory).items()}
        write_atomic(directory / SEAL, json.dumps({"schema_version": 1, "files": files}, indent=1) + "\n")


def stage(directory):
    """The directory itself where it is on a disk; otherwise its copy under LADDER_STAGE (/tmp/ladder-stage).

    With LADDER_STAGE set, what is on a (shared) disk is copied too. Raises InputError where a file is missing, is not
    what the seal says, or is one too many.
    """
    under = os.environ.get("LADDER_STAGE")
    if is_local(directory) and not under:
        return directory
    source, under = epath.Path(directory), Path(under or "/tmp/ladder-stage")
    target = under / source.name
    if target.exists():
        return target
    there = source / SEAL
    if not there.exists():
        raise InputError(f"{there}: missing, so that no copy can be checked; ladder data build writes it")
    wanted, found = read_json(there)["files"], _files(source)
    if wanted.keys() != found.keys():
        different = ", ".join(sorted(wanted.keys() ^ found.keys()))
        raise InputError(f"{source}: other files than when it was built: {different}; build it again")
    half = under / f".{source.name}-{uuid.uuid4().hex[:8]}"
    for name, path in found.items():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != wanted[name]:
            raise InputError(f"{path}: not the file that was built (its hash differs); build the corpus again")
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        (half / name).write_bytes(data)
    try:
        half.rename(target)
    except OSError:  # another process of this machine was faster
        if not target.exists():
            raise
    return target


def _files(directory) -> dict:
    found, folders = {}, [directory]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir():
                folders.append(path)
            elif path.name != SEAL:
                found[path.relative_to(directory).as_posix()] = path
    return {name: found[name] for name in sorted(found)}
