"""Files on a disk, read by byte range.

By pread, not memmap: mapped pages would count as the memory of the process, and an error of the disk would kill it.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

from ladder.errors import DamagedError
from ladder.rundir.files import write_atomic

MOST_OPEN = 128  # files; a process may often have 1,024


def _identity(status: os.stat_result) -> tuple:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


class Handle:
    """An open file, closed when nobody holds it any longer. Its bytes stay those of the file that was opened, even if
    another takes its name. size: bytes. identity: changes when the file is written, or is another."""

    def __init__(self, path: str, reader: "Reader"):
        self.path, self.reader = path, reader
        self.fd = os.open(path, os.O_RDONLY)
        status = os.fstat(self.fd)
        self.size, self.identity = status.st_size, _identity(status)

    def __del__(self, close=os.close):  # bound here: when the interpreter ends, modules are emptied first
        if hasattr(self, "fd"):
            close(self.fd)


class Reader:
    """Reads open files. It does not know the Disk, so that files are closed as soon as nobody needs them."""

    def __init__(self, mend: str):
        self._mend = mend

    def read(self, ranges: Sequence[tuple[Handle, int, int]]) -> list[bytes]:
        """The bytes start to stop - 1 of each range (handle, start, stop). Raises DamagedError."""
        return [self._pread(*one) for one in ranges]

    def _pread(self, file: Handle, start: int, stop: int) -> bytes:
        at, parts = start, []
        while at < stop:
            try:
                part = os.pread(file.fd, stop - at, at)
            except OSError as error:
                message = f"{file.path}: byte {at:,}: cannot be read ({error.strerror}); {self._mend}"
                raise DamagedError(message) from None
            if not part:
                raise DamagedError(f"{file.path}: byte {at:,}: the file was cut here; {self._mend}")
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Disk:
    """The files that were read last stay open, at most `most`. Threads may share it: a file that one of them still
    reads is closed when it has finished. mend: what to do about a damaged file."""

    over_network = False  # what was read once is read again with the same bytes

    def __init__(self, mend: str = "restore the file", most: int = MOST_OPEN):
        self._reader, self._most = Reader(mend), most
        self._files, self._lock = OrderedDict(), threading.Lock()
        self.read = self._reader.read

    def open(self, path) -> Handle:
        """Raises OSError."""
        path = str(path)
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = Handle(path, self._reader)
                if len(self._files) > self._most:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(path)
            return file

    def sizes(self, paths: Sequence) -> list[int | OSError]:
        """In bytes, without opening the files; for one that cannot be read, the error."""
        sizes: list[int | OSError] = []
        for path in paths:
            try:
                sizes.append(os.stat(path).st_size)
            except OSError as error:
                sizes.append(error)
        return sizes

    def state(self, path) -> list:
        """What tells cheaply whether a file has been written since. Any write changes the ctime. Raises OSError."""
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]

    def is_file(self, path) -> bool:
        return os.path.isfile(path)

    def write(self, path, data: bytes) -> None:
        """Atomically; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
