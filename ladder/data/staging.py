"""Copy a corpus to the machine's own disk, once, and check the hash of every file."""

import hashlib
import json
import os
import uuid
from pathlib import Path

from etils import epath

from ladder.errors import InputError
from ladder.rundir.files import files_under, is_local, read_json, write_atomic

SEAL = "FILES.json"  # sha256 of every other file, by name


def seal(directory) -> None:
    """Write FILES.json with the hashes of a corpus's files, unless it exists."""
    directory = epath.Path(directory)
    if not (directory / SEAL).exists():
        paths = _corpus_files(directory)
        hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
        write_atomic(directory / SEAL, json.dumps({"schema_version": 1, "files": hashes}, indent=1) + "\n")


def stage(directory):
    """The directory to read a corpus from: `directory` itself if it is on a disk, else a verified local copy.

    The copy is under LADDER_STAGE (default /tmp/ladder-stage). If LADDER_STAGE is set, a corpus on a (shared) disk is
    copied too. Raises InputError if a file is missing, is not in FILES.json or has another hash than there.
    """
    stage_root = os.environ.get("LADDER_STAGE")
    if is_local(directory) and not stage_root:
        return directory
    source, stage_root = epath.Path(directory), Path(stage_root or "/tmp/ladder-stage")
    target = stage_root / source.name
    if target.exists():
        return target
    if not (source / SEAL).exists():
        raise InputError(f"{source / SEAL}: missing, so a copy cannot be checked; run `ladder data build` to write it")
    hashes, paths = read_json(source / SEAL)["files"], _corpus_files(source)
    if hashes.keys() != paths.keys():
        different = ", ".join(sorted(hashes.keys() ^ paths.keys()))
        raise InputError(f"{source}: files are missing or were added since it was built: {different}; build it again")
    partial = stage_root / f".{source.name}-{uuid.uuid4().hex[:8]}"
    for name, path in paths.items():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != hashes[name]:
            raise InputError(f"{path}: not the file that was built (its hash differs); build the corpus again")
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(data)
    try:
        partial.rename(target)
    except OSError:  # another process of this machine has finished its copy first
        if not target.exists():
            raise
    return target


def _corpus_files(directory) -> dict:
    return {name: path for name, path in files_under(directory).items() if path.name != SEAL}
