"""Files of a run directory, local or in an object store: atomic writes, JSON with its own hash, paths."""

import hashlib
import json
import os
import uuid
from pathlib import Path

from etils import epath

from ladder.config import canonical_json
from ladder.errors import InputError
from ladder.rundir.kill_points import phase

SCHEMA_VERSION = 2  # of sealed JSON files; version 1 had no hash, except in MANIFEST.json


def write_atomic(path, text, reached=None, durable=True):
    """Write `text` to `path` atomically: if the process dies, the file has its old content or all of the new.

    durable: wait until the text is on the disk, so that a power cut cannot undo the write. reached: name of the kill
    point (kill_points.py) between write and rename. In an object store a put is atomic by itself.
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
    """Write `text` to a new file, atomically; False if the file exists. Of several processes exactly one succeeds."""
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
        store.pipe_file(name, text.encode(), mode="create")  # Google Cloud Storage checks that no generation exists
    except FileExistsError:
        return False
    return True


def read_json(path):
    """The object in a JSON file. Raises InputError with file and line if it is not a JSON object."""
    try:
        value = json.loads(path.read_bytes())
    except RecursionError:
        raise InputError(f"{path}:1: not JSON (nested too deeply)") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}:1: expected a JSON object {{...}}")
    return value


def sealed(value):
    """The text of a JSON file that holds `value`, its schema_version and its own hash (see `read_sealed`)."""
    value = value | {"schema_version": SCHEMA_VERSION}
    return json.dumps(value | {"sha256": _own_hash(value)}, sort_keys=True, allow_nan=False, indent=2) + "\n"


def read_sealed(path):
    """The object that `sealed` wrote, without its hash. One of schema_version 1 has no hash and is returned unchecked.

    Raises InputError if the file is not JSON or its content does not match its hash, FileNotFoundError if it is absent.
    """
    value = read_json(path)
    stated = value.pop("sha256", None)
    unchecked = stated is None and value.get("schema_version") == 1
    if not unchecked and (value.get("schema_version") != SCHEMA_VERSION or stated != _own_hash(value)):
        raise InputError(f"{path}: damaged, or edited by hand: its content does not match the hash in it")
    return value


def _own_hash(value):
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def files_under(directory):
    """{relative name: path} of every file in `directory` and its sub-directories, sorted by name."""
    paths, folders = {}, [directory]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir():
                folders.append(path)
            else:
                paths[path.relative_to(directory).as_posix()] = path
    return dict(sorted(paths.items()))


def is_local(path):
    """Whether `path` is on a file system, not in an object store (gs://...)."""
    return "://" not in str(path)


def as_path(text):
    """A local Path, or an epath.Path in an object store (gs://...), which has the same methods."""
    return epath.Path(text) if "://" in str(text) else Path(text)


def absolute(path):
    """A local path made absolute; a path in an object store unchanged."""
    path = epath.Path(path)
    return path.resolve() if is_local(path) else path
