"""Files of a run directory, local or in an object store: atomic writes, JSON with its own hash, paths."""

import hashlib
import json
import os
import uuid
from pathlib import Path

from etils import epath

from ladder.config import canonical_json
from ladder.errors import DamagedError, InputError
from ladder.rundir.kill_points import phase

MANIFEST = "MANIFEST.json"
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
        _write(tmp, text, durable)
        if reached:
            phase(reached)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


def _write(path, text, durable):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(path):
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def create(path, text, reached=None, durable=True):
    """Write `text` to a new file, atomically; False if the file exists. Of several processes exactly one succeeds.

    reached, durable: as in `write_atomic`.
    """
    if is_local(path):
        path = epath.Path(path)
        tmp = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            _write(tmp, text, durable)
            if reached:
                phase(reached)
            os.link(tmp, path)
        except FileExistsError:
            return False
        finally:
            tmp.unlink(missing_ok=True)
        if durable:
            _sync_folder(path.parent)
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
    return _parsed(path.read_bytes(), path)


def _parsed(raw, path):
    try:
        value = json.loads(raw)
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

    Raises DamagedError if the file is not JSON or its content does not match its hash, FileNotFoundError if it is
    absent.
    """
    raw = path.read_bytes()
    try:
        value = _parsed(raw, path)
    except InputError as error:
        raise DamagedError(str(error)) from None
    stated = value.pop("sha256", None)
    try:
        old = value.get("schema_version") == 1
        intact = stated in (None, _own_hash(value)) if old else sealed(value).encode() == raw
    except ValueError:  # NaN, or half of a surrogate pair
        intact = False
    if not intact:
        raise DamagedError(f"{path}: damaged, or edited by hand: its content does not match the hash in it")
    return value


def _own_hash(value):
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def is_published(checkpoint):
    """Whether the directory of a checkpoint's step has a manifest (checkpoint.py) that is not empty."""
    try:
        return (checkpoint / MANIFEST).stat().length > 0
    except FileNotFoundError:
        return False


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
