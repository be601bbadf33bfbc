"""Write a file whole or not at all."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fitting.errors import InputError

# Error numbers of a failing machine (a full disk, a lost network), not of wrong input: the command may succeed later.
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}


def check_writable(path) -> None:
    """Raises InputError where `replaced` could not write to `path`, before the work that is to be written."""
    if "://" in str(path):
        return
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise InputError(f"{path}: is a folder; name a file in it")
        if target.exists():
            return
        folder = next(parent for parent in target.parents if parent.exists())
        reason = None if folder.is_dir() else os.strerror(errno.ENOTDIR)
    except OSError as error:  # such as a name that is too long
        folder, reason = target, error.strerror
    if reason or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written ({reason or os.strerror(errno.EACCES)})")


@contextmanager
def replaced(path) -> Iterator[Path]:
    """Yield a path to write to. At the end that file replaces `path`; after an error `path` is as it was.

    The folder of `path` is made. A path that is no ordinary file (/dev/stdout, a pipe) or lies in a bucket is written
    directly. Raises InputError where the path cannot be written to, and OSError for those of OF_THE_MACHINE.
    """
    if "://" in str(path):
        yield path
        return
    target = Path(os.path.realpath(path))
    direct = target.exists() and not target.is_file() and not target.is_dir()
    # The suffix is kept: figures are written in the format that it names.
    part = target if direct else target.with_name(f".{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if not direct:
            os.replace(part, target)
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from None
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        if not direct:
            with suppress(OSError):
                part.unlink(missing_ok=True)
