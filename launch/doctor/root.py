"""Can runs be written to a folder or a bucket, is there room, and does its clock agree with this machine's?"""

import errno
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir import files
from ladder.rundir.lease import SECONDS
from launch import terminal
from launch.doctor.finding import Finding

LEAST, FEW = 2**30, 20 * 2**30  # bytes free: below, no run may start; below, say so
CLOCK_NOTE, CLOCK_STOP = 5.0, SECONDS / 2  # seconds; a lease is renewed after a quarter of SECONDS
OF_FULL_DISKS = (errno.ENOSPC, errno.EDQUOT)
logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it would print a traceback for a failed request


def examine(root: str) -> Iterator[Finding]:
    """Writes one small file, as runs write theirs, looks at its time, and deletes it. Creates no folder."""
    try:
        folder = _existing(files.as_path(root))
        offset = _write(folder)
    except Exception as error:  # gcsfs and its kin raise many kinds
        yield Finding("stop", "root", _why(root, error))
    else:
        absent = "" if str(folder) == str(files.as_path(root)) else f"; it will be made in {folder}"
        yield Finding("ok", "root", f"{root} can be written{absent}")
        yield clock(offset, "the bucket" if not files.is_local(root) else "its file system")
    if files.is_local(root):
        yield disk(root)


def disk(root: str) -> Finding:
    """How much room there is. A checkpoint holds 12 bytes for each parameter: float32, and two moments of AdamW."""
    try:
        free = shutil.disk_usage(_existing(Path(root))).free
    except (OSError, ValueError) as error:
        return Finding("note", "disk", f"free space of {root} is unknown ({getattr(error, 'strerror', error)})")
    message = f"{terminal.size(free)} free at {root}"
    if free >= FEW:
        return Finding("ok", "disk", message)
    needed = (
        "one checkpoint takes at least 12 bytes for each parameter: 2.3 GB for 190M; make room, or name another --root"
    )
    return Finding("stop" if free < LEAST else "note", "disk", f"{message}; {needed}")


def clock(offset: float, of_what: str) -> Finding:
    """offset: seconds that this machine's clock is ahead of the other one. Leases expire by these clocks."""
    message = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} that of {of_what}"
    if abs(offset) < CLOCK_NOTE:
        return Finding("ok", "clock", f"this machine's agrees with that of {of_what}")
    reason = "two machines could train one run at the same time; set it by NTP (timedatectl set-ntp true)"
    return Finding("stop" if abs(offset) >= CLOCK_STOP else "note", "clock", f"this machine's is {message}: {reason}")


def _existing(folder):
    """The folder, or the nearest one above it that exists; in a bucket, which has no folders, `folder`."""
    while files.is_local(folder):
        try:
            os.lstat(folder)
            break
        except FileNotFoundError:
            folder = folder.parent
    return folder


def _write(folder) -> float:
    """How many seconds this machine's clock is ahead of the time that a new file gets."""
    path = folder / f".ladder-doctor-{uuid.uuid4().hex[:8]}"
    before = time.time()
    files.create(path, path.name)
    try:
        after, made = time.time(), _modified(path)
    finally:
        _delete(path)
    return max(before - made, min(after - made, 0.0))  # 0 where it may have been made meanwhile


def _modified(path) -> float:
    if files.is_local(path):
        return path.stat().st_mtime
    import fsspec

    store, name = fsspec.core.url_to_fs(str(path))
    return store.modified(name).timestamp()


def _delete(path) -> None:
    if files.is_local(path):
        return path.unlink()
    import fsspec

    store, name = fsspec.core.url_to_fs(str(path))
    store.rm_file(name)


def _why(root: str, error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in OF_FULL_DISKS:
        return f"{root}: the disk or your share of it is full ({error.strerror}); make room, or name another --root"
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    mend = "mend that, or name another --root"
    if not files.is_local(root):
        mend = "check its name, your credentials and the network"
    return f"{root}: cannot be written ({reason}); {mend}"
