"""Files of which each block of 64 KiB is compared with its hash when it is read.

From a disk, a block that was right is not compared again while the file stays the same; from an object store, each
answer is. A block that arrives wrong over the network is asked for once more before it is called damaged.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ladder.data.storage.ranges import Storages
from ladder.data.storage.ranges import read as read_ranges
from ladder.data.storage.store import another_size
from ladder.errors import DamagedError

BLOCK = 1 << 16  # bytes; a random window reads one or two blocks
DIGEST = 8  # bytes of a hash: a damaged block passes with the chance of 1 in 10^19
MOST_PAGES = 2048  # of BLOCK bytes each: the hashes of 1 TB


def digest(data) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def digests(data) -> bytes:
    """The hashes of the blocks of `data`, one after the other."""
    view = memoryview(data)
    return b"".join(digest(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK))


class Pages:
    """The pages of hashes that were read last, by file and number. Threads may share it."""

    def __init__(self, most: int = MOST_PAGES):
        self._most, self._pages, self._lock = most, OrderedDict(), threading.Lock()

    def get(self, key):
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
            return self._pages.get(key)

    def put(self, key, page: bytes) -> None:
        with self._lock:
            self._pages[key] = page
            if len(self._pages) > self._most:
                self._pages.popitem(last=False)


class _File:
    """A file of `size` bytes in blocks. mend: what to do if it is damaged."""

    def __init__(self, path, size: int, storages: Storages, mend: str):
        self.path, self.size, self._mend = str(path), size, mend
        self._storage = storages.of(path)
        self.over_network = self._storage.over_network

    def open(self):
        """Raises DamagedError where the file is missing or has another size."""
        try:
            opened = self._storage.open(self.path)
        except OSError as error:
            raise DamagedError(self.problem(error)) from None
        if opened.size != self.size:
            raise DamagedError(self.problem(opened.size))
        return opened

    def problem(self, size: int | OSError) -> str | None:
        """What to say of a file that has this size, or raises this error; None where it has the right size."""
        if isinstance(size, OSError):
            return f"{self.path}: cannot be read ({size.strerror}); {self._mend}"
        if size == self.size:
            return None
        return another_size(self.path, size, self.size, self._mend)

    def compare(self, opened, first: int, data, expected: Callable[[int], bytes], blocks: Sequence[int]):
        """`data`, which begins with block `first`, where its `blocks` have the expected hashes; else what a second
        request brings, if it has. Raises DamagedError."""
        view = memoryview(data)
        for block in blocks:
            at = (block - first) * BLOCK
            if digest(view[at : at + BLOCK]) != expected(block):
                begin, end = block * BLOCK, min((block + 1) * BLOCK, self.size)
                again = opened.reader.read([(opened, begin, end)])[0] if self.over_network else b""
                if digest(again) != expected(block):
                    raise DamagedError(self._damage(opened, begin, end))
                view = memoryview(bytes(view[:at]) + bytes(again) + bytes(view[at + BLOCK :]))
        return view

    def _damage(self, opened, begin: int, end: int) -> str:
        changed = opened.reader.changed(opened) if self.over_network else None
        reason = "not the bytes that were indexed (their hash differs)"
        return changed or f"{self.path}: bytes {begin:,} to {end:,}: {reason}; {self._mend}"


class Hashes(_File):
    """A file with the hash of each block of another, read by pages of BLOCK bytes. digests: the hash of each page."""

    def __init__(self, path, blocks: int, page_digests: bytes, storages: Storages, pages: Pages, mend: str):
        super().__init__(path, DIGEST * blocks, storages, mend)
        self._digests, self._pages = page_digests, pages

    def open(self):
        """As of other files; of a store it asks nothing."""
        return self._storage.expect(self.path, self.size) if self.over_network else super().open()

    def page(self, number: int) -> bytes | None:
        """The page if it is in memory."""
        return self._pages.get((self.path, number))

    def request(self, number: int) -> tuple:
        """The range to read for a page."""
        return self.open(), number * BLOCK, min((number + 1) * BLOCK, self.size)

    def add(self, number: int, opened, data) -> bytes:
        """The page, once it is known to be right. Raises DamagedError."""
        page = bytes(self.compare(opened, number, data, lambda n: self._digests[DIGEST * n :][:DIGEST], [number]))
        self._pages.put((self.path, number), page)
        return page


class CheckedFile(_File):
    """A file with its hashes; None: it is read unchecked. One bit for each block remembers that it was right, 2 MB for
    each TB on a disk."""

    def __init__(self, path, size: int, hashes: Hashes | None, storages: Storages, mend: str = "restore the file"):
        super().__init__(path, size, storages, mend)
        self.hashes = hashes
        self._right = None, bytearray()  # of the file with this identity, a bit for each block that was right

    def plan(self, start: int, stop: int) -> "_Plan":
        """What must be read for the bytes start to stop - 1."""
        opened = self.open()
        pending, right = self._pending(opened, start, stop)
        if not pending:
            return _Plan(self, opened, start, stop, start, stop, (), right)
        begin, end = start // BLOCK * BLOCK, min(-(-stop // BLOCK) * BLOCK, self.size)
        return _Plan(self, opened, start, stop, begin, end, pending, right)

    def read_known(self, start: int, stop: int) -> bytes | None:
        """The bytes start to stop - 1, if all of their blocks were right before; else None."""
        opened = self.open()
        return None if self._pending(opened, start, stop)[0] else opened.reader.read([(opened, start, stop)])[0]

    def _pending(self, opened, start: int, stop: int) -> tuple[Sequence[int], bytearray]:
        """(the blocks of these bytes that must be compared, the bits of those that need not)."""
        if self.hashes is None:
            return (), bytearray()
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        if self.over_network:
            return blocks, bytearray()
        identity, right = self._right
        if opened.identity != identity:  # nothing is known of the blocks of another file than before
            right = bytearray((self.size // BLOCK >> 3) + 1)
            self._right = opened.identity, right
        return [block for block in blocks if not right[block >> 3] >> (block & 7) & 1], right

    def damaged_blocks(self, start_block: int, stop_block: int) -> list[int]:
        """Of the blocks start_block to stop_block - 1, those whose hash differs; all are read again."""
        opened, wrong = self.open(), []
        blocks = range(start_block, stop_block)
        whole = (opened, start_block * BLOCK, min(stop_block * BLOCK, self.size))
        expected, [data] = _with_hashes([(self, blocks)], [whole])
        for block in blocks:
            at = (block - start_block) * BLOCK
            if digest(memoryview(data)[at : at + BLOCK]) != expected(self, block):
                try:
                    self.compare(opened, block, b"", lambda n: expected(self, n), [block])
                except DamagedError:
                    wrong.append(block)
        return wrong

    def accept(self, plan: "_Plan", data, expected: Callable[[int], bytes]):
        """The bytes that the plan is for, out of `data`, which was read for it. Raises DamagedError."""
        if plan.pending:
            data = self.compare(plan.opened, plan.begin // BLOCK, data, expected, plan.pending)
            if not self.over_network:
                for block in plan.pending:
                    plan.right[block >> 3] |= 1 << (block & 7)  # another thread may undo it; it is checked again
        return memoryview(data)[plan.start - plan.begin : plan.stop - plan.begin]


class _Plan(NamedTuple):
    """Bytes begin to end - 1 are read for the bytes start to stop - 1, to check the blocks `pending`. right: a bit for
    each block that was right before, of the file that is open."""

    file: CheckedFile
    opened: object
    start: int
    stop: int
    begin: int
    end: int
    pending: Sequence[int]
    right: bytearray


def read(requests: Sequence[tuple[CheckedFile, int, int]]) -> list[bytes | memoryview]:
    """The bytes start to stop - 1 of each request (file, start, stop). From stores all are read at the same time,
    together with the hashes that are needed.

    Raises DamagedError where a file, or a block of it, is not as it was, Preempted where a store stays down.
    """
    contents: list = [None] * len(requests)
    remote = []
    for i, (file, start, stop) in enumerate(requests):
        if file.over_network:
            remote.append(i)
        else:  # one by one, so that few files are open
            contents[i] = file.read_known(start, stop)
            if contents[i] is None:
                [contents[i]] = _read_together([requests[i]])
    if remote:
        for i, content in zip(remote, _read_together([requests[i] for i in remote]), strict=True):
            contents[i] = content
    return contents


def _read_together(requests: Sequence[tuple[CheckedFile, int, int]]) -> list[memoryview]:
    plans = [file.plan(start, stop) for file, start, stop in requests]
    ranges = [(plan.opened, plan.begin, plan.end) for plan in plans]
    expected, contents = _with_hashes([(plan.file, plan.pending) for plan in plans if plan.pending], ranges)
    return [
        plan.file.accept(plan, data, lambda block, file=plan.file: expected(file, block))
        for plan, data in zip(plans, contents, strict=True)
    ]


def _with_hashes(pending: list[tuple], ranges: list[tuple]) -> tuple[Callable[[CheckedFile, int], bytes], list]:
    """(expected(file, block) -> the hash of a block, contents of `ranges`), read together. pending: (file, blocks) for
    which `expected` is needed."""
    per_page = BLOCK // DIGEST
    pages: dict[tuple[str, int], bytes | None] = {}
    missing = []
    for file, blocks in pending:
        for number in range(blocks[0] // per_page, blocks[-1] // per_page + 1):
            key = (file.hashes.path, number)
            if key not in pages:
                pages[key] = file.hashes.page(number)
                if pages[key] is None:
                    missing.append((file.hashes, number, file.hashes.request(number)))
    contents = read_ranges([request for _, _, request in missing] + ranges)
    for (hashes, number, request), data in zip(missing, contents, strict=False):
        pages[hashes.path, number] = hashes.add(number, request[0], data)

    def expected(file: CheckedFile, block: int) -> bytes:
        return pages[file.hashes.path, block // per_page][block % per_page * DIGEST :][:DIGEST]

    return expected, contents[len(missing) :]
