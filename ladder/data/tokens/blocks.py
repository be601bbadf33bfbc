"""Files read by byte range, each block of 64 KiB compared with its hash when it is first read.

By pread, not memmap: mapped pages would count as the memory of the process, and an error of the disk would kill it.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable

from ladder.errors import DamagedError

BLOCK = 1 << 16  # bytes; a random window reads one or two blocks
DIGEST = 8  # bytes of a hash: a damaged block passes with the chance of 1 in 10^19
MOST_OPEN = 128  # files; a process may often have 1,024


def digest(data) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def digests(data) -> bytes:
    """The hashes of the blocks of `data`, one after the other."""
    view = memoryview(data)
    return b"".join(digest(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK))


class Handle:
    """An open file, closed when nobody holds it any longer."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)

    def __del__(self, close=os.close):  # bound here: when the interpreter ends, modules are emptied first
        if hasattr(self, "fd"):
            close(self.fd)


class OpenFiles:
    """The files that were read last stay open, at most `most`. Threads may share it: a file that one of them still
    reads is closed when it has finished."""

    def __init__(self, most: int = MOST_OPEN):
        self._most, self._files, self._lock = most, OrderedDict(), threading.Lock()

    def get(self, path, opened: Callable[[os.stat_result], None]) -> Handle:
        """The file, opened if it is not open; then opened(status) is called first, which may refuse it."""
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = Handle(path)
                opened(os.fstat(file.fd))
                self._files[path] = file
                if len(self._files) > self._most:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(path)
            return file


class CheckedFile:
    """A file of `size` bytes. hashes(first, stop) -> the hashes of its blocks first to stop - 1; None: read unchecked.

    One bit for each block remembers that it was right: 2 MB for each TB. mend: what to do about a damaged file.
    """

    def __init__(
        self,
        path,
        size: int,
        hashes: Callable[[int, int], bytes] | None,
        files: OpenFiles,
        mend: str = "restore the file",
    ):
        self.path, self.size, self._hashes, self._files, self._mend = str(path), size, hashes, files, mend
        self._checked, self._identity = bytearray(), None

    def read(self, start: int, stop: int):
        """The bytes start to stop - 1. Raises DamagedError where the file, or a block of them, is not as it was."""
        file = self._open()
        if self._hashes is None:
            return self._pread(file, start, stop)
        first, last = start // BLOCK, (stop - 1) // BLOCK
        checked = self._checked
        pending = [block for block in range(first, last + 1) if not checked[block >> 3] >> (block & 7) & 1]
        if not pending:
            return self._pread(file, start, stop)
        begin = pending[0] * BLOCK if pending[0] == first else start
        end = min((last + 1) * BLOCK, self.size) if pending[-1] == last else stop
        data = memoryview(self._pread(file, begin, end))
        hashes = self._hashes(pending[0], pending[-1] + 1)
        for block in pending:
            at = block * BLOCK - begin
            expected = hashes[(block - pending[0]) * DIGEST :][:DIGEST]
            if digest(data[at : at + BLOCK]) != expected:
                raise self._damaged(block)
            checked[block >> 3] |= 1 << (block & 7)  # another thread may undo it; then the block is checked again
        return data[start - begin : stop - begin]

    def damaged_blocks(self, start_block: int, stop_block: int) -> list[int]:
        """Of the blocks start_block to stop_block - 1, those whose hash differs; all are read again."""
        begin, end = start_block * BLOCK, min(stop_block * BLOCK, self.size)
        found, expected = digests(self._pread(self._open(), begin, end)), self._hashes(start_block, stop_block)
        if found == expected:
            return []
        pairs = ((found[i : i + DIGEST], expected[i : i + DIGEST]) for i in range(0, len(expected), DIGEST))
        return [start_block + i for i, (one, other) in enumerate(pairs) if one != other]

    def check_size(self) -> None:
        """Raises DamagedError where the file is missing, was cut or has grown. Reads no data."""
        try:
            self._refuse_size(os.stat(self.path).st_size)
        except OSError as error:
            raise DamagedError(f"{self.path}: cannot be read ({error.strerror}); {self._mend}") from None

    def _open(self) -> Handle:
        try:
            return self._files.get(self.path, self._opened)
        except OSError as error:
            raise DamagedError(f"{self.path}: cannot be read ({error.strerror}); {self._mend}") from None

    def _opened(self, status: os.stat_result) -> None:
        """Called whenever the file is opened: nothing is known of the blocks of another file than before."""
        self._refuse_size(status.st_size)
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if identity != self._identity:
            self._identity = identity
            self._checked = bytearray((self.size // BLOCK >> 3) + 1)

    def _refuse_size(self, size: int) -> None:
        if size != self.size:
            where = f"byte {min(size, self.size):,}"
            kind = f"was cut here, to {size:,} bytes" if size < self.size else f"has grown from here, to {size:,} bytes"
            raise DamagedError(f"{self.path}: {where}: the file {kind} (it had {self.size:,}); {self._mend}")

    def _pread(self, file: Handle, start: int, stop: int) -> bytes:
        at, parts = start, []
        while at < stop:
            try:
                part = os.pread(file.fd, stop - at, at)
            except OSError as error:
                raise DamagedError(
                    f"{self.path}: byte {at:,}: cannot be read ({error.strerror}); {self._mend}"
                ) from None
            if not part:
                raise DamagedError(f"{self.path}: byte {at:,}: the file was cut here; {self._mend}")
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _damaged(self, block: int) -> DamagedError:
        where = f"bytes {block * BLOCK:,} to {min((block + 1) * BLOCK, self.size):,}"
        return DamagedError(f"{self.path}: {where}: not the bytes that were indexed (their hash differs); {self._mend}")
