"""Small files that are either as before or complete, whenever the process dies."""

import json
import os
import uuid
from pathlib import Path

from etils import epath

from ladder.errors import InputError
from ladder.rundir.kill_points import phase


def write_atomic(path, text, reached=None, durable=True):
    """Write `text` so that `path` is as before or complete, whenever the process dies.

    Durable: it is on the disk when this returns, and a power cut cannot take it back. `reached`
    names the phase between write and rename. An object store's put is atomic by itself.
    """
    path = epath.Path(path)
    if not is_local(path):
        path.write_text(text)
        return
    tmp = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(tmp, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if reached:
            phase(reached)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def create(path, text):
    """Write a file that is not there, whole; False where it is: of any number who try at once, one is first."""
    if is_local(path):
        path = epath.Path(path)
        tmp = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
        tmp.write_text(text)
        try:
            os.link(tmp, path)
        except FileExistsError:
            return False
        finally:
            tmp.unlink()
        return True
    import fsspec

    store, name = fsspec.core.url_to_fs(str(path))
    try:
        store.pipe_file(name, text.encode(), mode="create")  # Google Storage: if no generation of it exists
    except FileExistsError:
        return False
    return True


def read_json(path):
    """The object in a JSON file; InputError with file and line where it is not one."""
    try:
        value = json.loads(path.read_bytes())
    except RecursionError:
        raise InputError(f"{path}:1: not JSON (nested too deeply)") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}:1: an object {{...}} was expected")
    return value


def is_local(path):
    """Whether `path` is on a file system, not in an object store (gs://...)."""
    return "://" not in str(path)


def as_path(text):
    """A local path, or one in an object store (gs://...), which has the same methods."""
    return epath.Path(text) if "://" in str(text) else Path(text)


def absolute(path):
    """The whole path of a local one; one in an object store as it is."""
    path = epath.Path(path)
    return path.resolve() if is_local(path) else path
