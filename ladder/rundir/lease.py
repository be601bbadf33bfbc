"""One trainer per run directory: a file lock decides where locks work, and the newest lease everywhere.

    leases/<number>.json   who may train, and until when; the highest number counts
    lease.lock             locked by the holder

Where file locks work (one machine, most shared disks), exactly one process gets the lock. The kernel releases the lock
of a killed process, so the run can be resumed at once. Elsewhere (object stores) a lease holds until it expires.

A process takes over by creating the file with the next number. Creation is exclusive, so of several processes one gets
it. A process that was paused until its lease expired may go on and not know that it was replaced. So the holder calls
`check` before it publishes anything: it fails as soon as a file with a higher number exists.
"""

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
import uuid

from etils import epath

from ladder.errors import DamagedError, InputError, Preempted
from ladder.rundir.files import create, is_local, read_bytes, sealed, unsealed, write_atomic

SECONDS = 60.0  # until a lease expires that is not renewed
_FIELDS = {"owner": str, "host": str, "pid": int, "expires": (int, float)}
_log = logging.getLogger(__name__)


class Lease:
    """The exclusive right to train the run in `directory`. A thread renews it, however long a step takes.

    `with Lease(directory) as lease: ...; lease.check()`. Entering raises Preempted, which names the holder, if another
    process holds the lease. `check` raises Preempted if another process has taken it.

    seconds: until it expires if it is not renewed. holder_does: what the holder does, for messages. on_lost: called
    once, by the thread, if another process takes the lease. number: of the lease; later holders have higher ones.
    """

    def __init__(self, directory, seconds=None, holder_does="trains this run", on_lost=lambda: None):
        self.directory = epath.Path(directory)
        self.seconds = SECONDS if seconds is None else seconds
        self.holder_does, self.on_lost = holder_does, on_lost
        host, pid = socket.gethostname(), os.getpid()
        self.owner = f"{host}:{pid}:{uuid.uuid4().hex[:8]}"
        self._holder = {"owner": self.owner, "host": host, "pid": pid}
        self._lock, self.number = None, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease", daemon=True)

    def __enter__(self):
        _path(self.directory, 0).parent.mkdir(parents=True, exist_ok=True)
        available, self._lock = _try_lock(self.directory / "lease.lock")
        newest = max(_numbers(self.directory), default=0)
        existing = read_lease(self.directory)
        # Its holder would have the lock that we have, so it was killed; its pid may be in use again.
        holder_is_dead = self._lock is not None and existing and existing["host"] == self._holder["host"]
        if not available or (existing and is_live(existing) and not holder_is_dead):
            self._unlock()
            holder = existing["owner"] if existing else "another process"
            raise Preempted(f"{self.directory}: {holder} {self.holder_does}")
        self.number = newest + 1
        if not create(_path(self.directory, self.number), self._text()):
            self._unlock()
            raise Preempted(f"{self.directory}: another process took the lease first and {self.holder_does}")
        if self._lock is not None:  # elsewhere an earlier holder may still renew its own
            for number in _numbers(self.directory) - {self.number}:
                _path(self.directory, number).unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()
        if not self._is_lost():
            write_atomic(_path(self.directory, self.number), self._text(expires=0.0), durable=False)
        self._unlock()

    def check(self):
        """Raise Preempted if another process has taken the lease: a request in an object store, so call it rarely."""
        if self._is_lost():
            raise Preempted(f"{self.directory}: the lease was lost; another process {self.holder_does} now")

    def _is_lost(self):
        return max(_numbers(self.directory), default=0) > self.number

    def _renew_until_ended(self):
        while not self._ended.wait(self.seconds / 4):
            try:
                if self._is_lost():
                    _log.warning("%s: another process has taken the lease", self.directory)
                    self.on_lost()
                    return
                write_atomic(_path(self.directory, self.number), self._text(), durable=False)
            except Exception as error:  # a bucket that does not answer; the next attempt may succeed
                _log.warning("%s: the lease could not be renewed: %s", self.directory, error)

    def _text(self, expires=None):
        return sealed(self._holder | {"expires": time.time() + self.seconds if expires is None else expires})

    def _unlock(self):
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def read_lease(directory, files=None):
    """The newest lease of a run directory: owner, host, pid, expires (seconds since 1970). None if there is none, or
    it was given back. A damaged one, which its holder will replace, counts as renewed when the file was last changed.
    files: of the run directory (snapshot.py), where they are read already.
    """
    path = _newest(directory) if files is None else newest(files.entries, files.directory)
    try:
        lease = path and (_read(path) if files is None else _checked(files.contents[f"leases/{path.name}"], path))
    except InputError:
        lease = {"owner": "an unknown process", "host": "", "pid": 0, "expires": path.stat().mtime + SECONDS}
    except (FileNotFoundError, KeyError):  # deleted since it was listed
        return None
    return lease if lease and lease["expires"] else None


def last_renewal(lease):
    """When its holder renewed `lease` last (seconds since 1970)."""
    return lease["expires"] - SECONDS


def newest(names, directory):
    """The path of the newest lease among the relative names of the files in a run directory; None if there is none."""
    parts = [name.removesuffix(".json").split("/") for name in names]
    numbers = [int(p[1]) for p in parts if p[0] == "leases" and len(p) == 2 and p[1].isdigit()]
    return _path(directory, max(numbers)) if numbers else None


def damage(directory):
    """What is wrong with the newest lease's file, in one line; "" if nothing is."""
    path = _newest(directory)
    with contextlib.suppress(FileNotFoundError):  # given back in this moment
        try:
            if path is not None:
                _read(path)
        except InputError as error:
            return f"{error}; delete it if no process trains this run"
    return ""


def _read(path):
    return _checked(read_bytes(path), path)


def _checked(content, path):
    lease = unsealed(content, path)
    for name, kind in _FIELDS.items():
        if not isinstance(lease.get(name), kind):
            raise DamagedError(f"{path}: damaged: {name} is {lease.get(name)!r}")
    return lease


def is_live(lease):
    """Whether `lease` is valid: not expired, and its process is alive if it is one of this machine."""
    if lease["host"] == socket.gethostname():
        try:
            os.kill(lease["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return time.time() < lease["expires"]


def _path(directory, number):
    return directory / "leases" / f"{number}.json"


def _newest(directory):
    numbers = _numbers(epath.Path(directory))
    return _path(epath.Path(directory), max(numbers)) if numbers else None


def _numbers(directory):
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = [path.name.removesuffix(".json") for path in (directory / "leases").iterdir()]
        return {int(name) for name in names if name.isdigit()}
    return set()


def _try_lock(path):
    """(available, descriptor). The descriptor is None if another process has the lock or locks do not work here."""
    if not is_local(path):
        return True, None
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        return not isinstance(error, BlockingIOError), None
    return True, lock
