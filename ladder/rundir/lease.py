"""One trainer per run directory: a file lock decides, and lease.json names the holder.

Where file locks work (one machine, most shared disks), exactly one process gets the lock. The kernel releases the lock
of a killed process, so the run can be resumed at once. Elsewhere (object stores) lease.json holds until it expires. It
is created only if it does not exist, so of several processes at the same instant one gets it. If two processes find an
expired lease at the same instant, both may train until the first of them renews.
"""

import fcntl
import json
import os
import socket
import time
import uuid

from etils import epath

from ladder.errors import Preempted
from ladder.rundir.files import create, is_local, read_json, write_atomic


class Lease:
    """The exclusive right to train the run in `directory`. It expires after `seconds` unless it is renewed.

    holder_does: what the holder does, for messages.

    `with Lease(directory) as lease: ...; lease.renew()`. Entering raises Preempted, which names the holder, if another
    process holds the lease. `renew` raises Preempted if another process has taken it.
    """

    def __init__(self, directory, seconds=60.0, holder_does="trains this run"):
        self.path = epath.Path(directory) / "lease.json"
        self.seconds, self.holder_does = seconds, holder_does
        self._host, pid = socket.gethostname(), os.getpid()
        self.owner = f"{self._host}:{pid}:{uuid.uuid4().hex[:8]}"
        self._holder = {"schema_version": 1, "owner": self.owner, "host": self._host, "pid": pid}
        self._lock = None

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        available, self._lock = _try_lock(self.path.with_suffix(".lock"))
        existing = read_lease(self.path.parent)
        # Its holder would have the lock that we have, so it was killed; its pid may be in use again.
        holder_is_dead = self._lock is not None and existing and existing["host"] == self._host
        if not available or (existing and is_live(existing) and not holder_is_dead):
            self._unlock()
            holder = existing["owner"] if existing else "another process"
            raise Preempted(f"{self.path.parent}: {holder} {self.holder_does}")
        if self._lock is None:
            if existing:
                self.path.unlink(missing_ok=True)
            if not create(self.path, self._text()):
                raise Preempted(f"{self.path.parent}: another process took the lease first and {self.holder_does}")
        else:
            self._write()
        self.renew()
        return self

    def __exit__(self, *error):
        existing = read_lease(self.path.parent)
        if existing and existing["owner"] == self.owner:
            self.path.unlink()
        self._unlock()

    def renew(self):
        """Extend the lease if less than half of its time is left; cheap enough to call at every printed line."""
        existing = read_lease(self.path.parent) or {"owner": "nobody"}
        if existing["owner"] != self.owner:
            raise Preempted(f"{self.path}: the lease is lost, {existing['owner']} has it")
        if existing["expires"] - time.time() < self.seconds / 2:
            self._write()

    def _write(self):
        write_atomic(self.path, self._text(), durable=False)

    def _text(self):
        return json.dumps(self._holder | {"expires": time.time() + self.seconds}, indent=2) + "\n"

    def _unlock(self):
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def read_lease(directory):
    """The content of a run directory's lease.json, or None: owner, host, pid, expires (seconds since 1970)."""
    path = epath.Path(directory) / "lease.json"
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


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
