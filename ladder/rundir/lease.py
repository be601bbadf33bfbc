"""One trainer per run directory: lease.json says who, the kernel's file lock makes it true.

Where file locks reach (one machine, most shared disks) they decide: of any number of processes one
wins, and a killed one holds nothing, so a run can be taken up again at once. Beyond them lease.json
holds until it expires; it is created only where there is none, so that of two in the same instant one
has it. Two who find one expired in the same instant may both go on until the first of them renews.
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
    """The right to train the run in `directory`, `seconds` at a time.

    `with Lease(directory) as lease: ...; lease.renew()`. Entering raises Preempted naming the
    holder where there is one; `renew` raises it where another has taken the run meanwhile.
    """

    def __init__(self, directory, seconds=60.0):
        self.path = epath.Path(directory) / "lease.json"
        self.seconds = seconds
        self._host, pid = socket.gethostname(), os.getpid()
        self.owner = f"{self._host}:{pid}:{uuid.uuid4().hex[:8]}"
        self._terms = {"schema_version": 1, "owner": self.owner, "host": self._host, "pid": pid}
        self._lock = None

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        free, self._lock = _try_lock(self.path.with_suffix(".lock"))
        there = read_lease(self.path.parent)
        corpse = self._lock is not None and there and there["host"] == self._host
        if not free or (there and is_live(there) and not corpse):
            self._unlock()
            holder = there["owner"] if there else "another process"
            raise Preempted(f"{self.path.parent}: {holder} trains this run")
        if self._lock is None:
            if there:
                self.path.unlink(missing_ok=True)
            if not create(self.path, self._text()):
                raise Preempted(f"{self.path.parent}: another process was first and trains this run")
        else:
            self._write()
        self.renew()
        return self

    def __exit__(self, *error):
        there = read_lease(self.path.parent)
        if there and there["owner"] == self.owner:
            self.path.unlink()
        self._unlock()

    def renew(self):
        """Extend the lease once half of it is gone; cheap enough for every printed line."""
        there = read_lease(self.path.parent) or {"owner": "nobody"}
        if there["owner"] != self.owner:
            raise Preempted(f"{self.path}: the lease is lost, {there['owner']} has it")
        if there["expires"] - time.time() < self.seconds / 2:
            self._write()

    def _write(self):
        write_atomic(self.path, self._text(), durable=False)

    def _text(self):
        return json.dumps(self._terms | {"expires": time.time() + self.seconds}, indent=2) + "\n"

    def _unlock(self):
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def read_lease(directory):
    """lease.json of a run directory, or None: owner, host, pid, expires (seconds since 1970)."""
    path = epath.Path(directory) / "lease.json"
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def is_live(lease):
    """Not expired, and not of a process of this machine that is gone."""
    if lease["host"] == socket.gethostname():
        try:
            os.kill(lease["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return time.time() < lease["expires"]


def _try_lock(path):
    """(free, descriptor): the descriptor is None where another has it or there are no locks."""
    if not is_local(path):
        return True, None
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        return not isinstance(error, BlockingIOError), None
    return True, lock
