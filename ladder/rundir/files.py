"""Files of a run directory, local or in an object store: atomic writes, JSON with its own hash, paths.

In a bucket, use these functions instead of the methods of a path: those take 2 to 25 requests each, and `read_text`
asks for the size before it reads that many bytes, so that a file which another process replaces in between is cut.
"""

import contextlib
import hashlib
import json
import os
import sys
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from etils import epath

from ladder.config import canonical_json
from ladder.errors import DamagedError, InputError
from ladder.rundir.kill_points import phase

MANIFEST = "MANIFEST.json"
CLOSED = "closed\n"  # the content of a manifest that only says that nobody may publish this step now
# gcsfs would remember every listing until the process ends, and not see what other processes write. It would also ask
# for the kind of the bucket, which takes a minute where it may not. epath would use TensorFlow if it is installed.
os.environ["FSSPEC_GCS_USE_LISTINGS_CACHE"] = "false"
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
os.environ.setdefault("EPATH_USE_TF", "false")
if "fsspec" in sys.modules:  # it read its variables when it was imported
    sys.modules["fsspec"].config.conf.setdefault("gcs", {})["use_listings_cache"] = False

SCHEMA_VERSION = 2  # of sealed JSON files; version 1 had no hash, except in MANIFEST.json


def write_atomic(path, content, reached=None, durable=True):
    """Write a text, bytes or an iterable of bytes to `path` atomically: if the process dies, the file has its old
    content or all of the new.

    durable: wait until the content is on the disk, so that a power cut cannot undo the write. reached: name of the kill
    point (kill_points.py) between write and rename; in a bucket, where one request does both, before it.
    """
    if not is_local(path):
        if reached:
            phase(reached)
        with _store(path) as (store, name):
            store.pipe_file(name, b"".join(_chunks(content)))
        return
    path = epath.Path(path)
    tmp = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        _write(tmp, content, durable)
        if reached:
            phase(reached)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


def _chunks(content):
    """The bytes of `content`, in one or several pieces."""
    if isinstance(content, str):
        content = content.encode()
    return [content] if isinstance(content, bytes | bytearray | memoryview) else content


def _write(path, content, durable):
    with open(path, "wb") as file:
        file.writelines(_chunks(content))
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

    reached, durable: as in `write_atomic`. No two processes may give the same text. In a bucket, True also where the
    file holds `text` already: the request that wrote it was answered, the answer was lost, and it was sent again.
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
    if reached:
        phase(reached)
    with _store(path) as (store, name):
        try:
            store.pipe_file(name, text.encode(), mode="create")  # the server checks that no generation exists
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # deleted since
                return store.cat_file(name) == text.encode()
            return False
    return True


def read_bytes(path):
    """The content of a file, in a bucket with one request. Raises FileNotFoundError if it is absent."""
    if is_local(path):
        return epath.Path(path).read_bytes()
    with _store(path) as (store, name):
        return store.cat_file(name)


def read_many(paths):
    """{path: content} of those files that exist; in a bucket they are read at the same time."""
    paths = list(paths)
    if not paths or is_local(paths[0]):
        contents = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                contents[path] = read_bytes(path)
        return contents
    with _store(paths[0]) as (store, _):
        names = {_name(path): path for path in paths}
        contents = store.cat(list(names), on_error="return")
        contents = {name: content for name, content in contents.items() if not isinstance(content, FileNotFoundError)}
        for content in contents.values():
            if isinstance(content, Exception):
                raise content
    return {names[name]: content for name, content in contents.items()}


def read_json(path):
    """The object in a JSON file. Raises InputError with file and line if it is not a JSON object."""
    return _parsed(read_bytes(path), path)


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
    return unsealed(read_bytes(path), path)


def unsealed(raw, path):
    """As `read_sealed`, of a file's content that was read already."""
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


@dataclass(frozen=True)
class Entry:
    """A file. size: bytes. In a bucket, version changes whenever the file is written, and crc32c (base64) is what the
    bucket has computed of its content; both are None on a disk."""

    path: epath.Path
    size: int
    version: str | None
    crc32c: str | None = None


def entries_under(directory):
    """{relative name: Entry} of every file in `directory` and its sub-directories, sorted by name.

    {} if there is no such directory. In a bucket: one request for each 1,000 files.
    """
    directory = epath.Path(directory)
    return dict(sorted(_local_entries(directory) if is_local(directory) else _bucket_entries(directory)))


def _local_entries(directory):
    for folder, _, names in os.walk(directory, onerror=_raise_unless_absent, followlinks=True):
        for path in (epath.Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                yield path.relative_to(directory).as_posix(), Entry(path, os.stat(path).st_size, None)


def _raise_unless_absent(error):
    if not isinstance(error, FileNotFoundError):
        raise error


def _bucket_entries(directory):
    with _store(directory) as (store, prefix):
        found = store.find(prefix, detail=True)
    for full_name, info in found.items():
        name = full_name[len(prefix) + 1 :]
        yield name, Entry(directory / name, info["size"], info.get("generation"), info.get("crc32c"))


def manifests(folder):
    """{relative name: Entry} of the manifests in a run directory's "checkpoints" folder; in a bucket, which lists all
    files with one request, of the other files too."""
    if not is_local(folder):
        return entries_under(folder)
    try:
        paths = [path / MANIFEST for path in epath.Path(folder).iterdir()]
    except FileNotFoundError:
        return {}
    entries = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if not os.path.isdir(path):
                entries[f"{path.parent.name}/{MANIFEST}"] = Entry(path, os.stat(path).st_size, None)
    return entries


def published_steps(entries):
    """The steps of the published checkpoints in a run directory, ascending: their manifests (checkpoint.py) hold more
    than CLOSED. entries: of the run directory's "checkpoints" folder."""
    sizes = {name.removesuffix(f"/{MANIFEST}"): entry.size for name, entry in entries.items()}
    return sorted(int(step) for step, size in sizes.items() if step.isdigit() and size > len(CLOSED))


def files_under(directory):
    """{relative name: path} of every file in `directory` and its sub-directories, sorted by name."""
    return {name: entry.path for name, entry in entries_under(directory).items()}


def is_local(path):
    """Whether `path` is on a file system, not in an object store (gs://...)."""
    return "://" not in str(path)


def as_path(text):
    """A local Path, or an epath.Path in an object store (gs://...), which has the same methods.

    Raises InputError for gs:// where the package that reads it is not installed.
    """
    if str(text).startswith("gs://") and find_spec("gcsfs") is None:
        raise InputError(f"{text}: a bucket needs the package gcsfs; install it with: pip install gcsfs")
    return epath.Path(text) if "://" in str(text) else Path(text)


def absolute(path):
    """A local path made absolute; a path in an object store unchanged."""
    path = epath.Path(path)
    return path.resolve() if is_local(path) else path


@contextlib.contextmanager
def _store(path):
    """Yields fsspec's file system of a path in a bucket, and the path's name in it.

    Raises OSError where the bucket does not answer (after six attempts); gcsfs raises other errors.
    """
    import fsspec

    try:
        yield fsspec.core.url_to_fs(str(path))
    except Exception as error:
        if is_store_error(error) and not isinstance(error, OSError):
            raise OSError(f"{path}: {type(error).__name__}: {error}") from error
        raise


def _name(path):
    return str(path).partition("://")[2]


def is_store_error(error):
    """Whether `error` says that a bucket does not answer or refuses to; not all such errors are OSErrors."""
    return type(error).__module__.partition(".")[0] in ("gcsfs", "aiohttp", "google", "botocore", "aiobotocore")
