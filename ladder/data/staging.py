"""Where a job reads a corpus of a bucket: a copy on the machine's own disk, made once, or a mount of the bucket."""

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from ladder.data import seal
from ladder.errors import InputError
from ladder.rundir.files import is_local


def stage(directory):
    """The directory to read a corpus from: `directory` itself if it is on a disk, else a verified local copy.

    The copy is under LADDER_STAGE (default /tmp/ladder-stage). If LADDER_STAGE is set, a corpus on a (shared) disk is
    copied too. If LADDER_MOUNT is set, gs://BUCKET is mounted at LADDER_MOUNT/BUCKET, and nothing is copied.
    Processes copy one after the other. Raises InputError if a file is missing, is not in FILES.json or has another hash
    than there, if the corpus does not fit on the disk or fills it (no partial copy is left), or the bucket is not
    mounted.
    """
    stage_root, mounts = os.environ.get("LADDER_STAGE"), os.environ.get("LADDER_MOUNT")
    if mounts and str(directory).startswith("gs://"):
        return _mounted(str(directory), Path(mounts))
    if is_local(directory) and not stage_root:
        return directory  # `corpus.open_corpus` checks it
    source, stage_root = epath.Path(directory), Path(stage_root or "/tmp/ladder-stage")
    target = stage_root / source.name
    if not target.exists():
        with _alone_in(stage_root):
            if not target.exists():  # another process of this machine may have copied it meanwhile
                _copy(source, target)
    seal.check(target, mend=f"delete {target}, so that it is copied again from {source}")
    return target


def is_mounted(directory) -> bool:
    """Whether a folder is in a bucket that is mounted (LADDER_MOUNT)."""
    mounts = os.environ.get("LADDER_MOUNT")
    return bool(mounts) and Path(directory).is_relative_to(mounts)


def _mounted(directory: str, mounts: Path):
    bucket, _, name = directory.removeprefix("gs://").partition("/")
    if not (mounts / bucket).is_dir():
        reason = f"LADDER_MOUNT={mounts} says that gs://{bucket} is mounted here"
        mend = f"mount it: gcsfuse -o ro --implicit-dirs {bucket} {mounts / bucket}"
        raise InputError(f"{mounts / bucket}: no such folder, but {reason}; {mend}")
    return epath.Path(mounts / bucket / name)


def _copy(source, target: Path) -> None:
    if not seal.is_sealed(source):
        raise InputError(
            f"{source / seal.SEAL}: missing, so a copy cannot be checked; run `ladder data build` to write it"
        )
    mend = seal.how_to_mend(source)
    hashes, entries = seal.read(source, mend), seal.content(source)
    paths = {name: entry.path for name, entry in entries.items()}
    if hashes.keys() != paths.keys():
        different = ", ".join(sorted(hashes.keys() ^ paths.keys()))
        raise InputError(f"{source}: files are missing or were added since it was built: {different}; {mend}")
    size, free = sum(entry.size for entry in entries.values()), shutil.disk_usage(target.parent).free
    larger = "set LADDER_STAGE to a larger disk, or mount the bucket (LADDER_MOUNT)"
    if size > free:
        raise InputError(
            f"{source}: {size:,} bytes do not fit on the disk of {target.parent} ({free:,} are free); {larger}"
        )
    partial = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        for name, path in paths.items():
            if seal.sha256(_copied(path, partial / name)) != hashes[name]:
                raise InputError(f"{path}: {seal.CHANGED}; {mend}")
        (partial / seal.SEAL).write_bytes((source / seal.SEAL).read_bytes())
        partial.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{source}: the disk of {target.parent} is full; make room on it, {larger}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copied(path, copy: Path) -> Iterator[bytes]:
    """The bytes of a file, as they are copied."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with open(copy, "wb") as file:
        for chunk in seal.chunks(path):
            file.write(chunk)
            yield chunk


@contextlib.contextmanager
def _alone_in(stage_root: Path) -> Iterator[None]:
    """Wait until no other process copies into the folder, and remove what killed processes have left there."""
    stage_root.mkdir(parents=True, exist_ok=True)
    folder = os.open(stage_root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the system releases it when a process ends, however it ends
        for partial in stage_root.glob(f".*-{'[0-9a-f]' * 8}"):
            shutil.rmtree(partial, ignore_errors=True)
        yield
    finally:
        os.close(folder)
