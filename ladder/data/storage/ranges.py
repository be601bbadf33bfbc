"""Where bytes come from: files on a disk (disk.py), or objects in a store (store.py). Both have the same methods."""

from collections.abc import Sequence

from ladder.data.storage.disk import Disk, Handle
from ladder.data.storage.locations import Url, disk_or_bucket, location
from ladder.data.storage.store import Object, Store

AT_A_TIME = 32 << 20  # bytes of many ranges that are in memory at the same time


class Storages:
    """The disk and the buckets that a user's paths name; files are opened in them once. mend: as in Disk."""

    def __init__(self, mend: str = "restore the file"):
        self._mend = mend
        self._disk, self._stores = Disk(mend), {}

    def of(self, path) -> Disk | Store:
        path = location(path)
        if not isinstance(path, Url):
            return self._disk
        bucket = disk_or_bucket(path)
        if bucket not in self._stores:
            self._stores[bucket] = Store(path, self._mend)
        return self._stores[bucket]

    def sizes(self, paths: Sequence) -> list[int | OSError]:
        """In bytes, of files anywhere; of those that cannot be read, the error."""
        sizes: list = [0] * len(paths)
        for storage, numbers in _grouped([self.of(path) for path in paths]):
            for number, size in zip(numbers, storage.sizes([paths[i] for i in numbers]), strict=True):
                sizes[number] = size
        return sizes

    def content(self, path) -> bytes:
        """Of a whole file. Raises OSError."""
        storage = self.of(path)
        opened = storage.open(path)
        return bytes(storage.read([(opened, 0, opened.size)])[0])


def read(ranges: Sequence[tuple[Handle | Object, int, int]]) -> list:
    """The bytes start to stop - 1 of each range (opened file, start, stop). Raises as Disk.read and Store.read."""
    if len(ranges) == 1:
        return ranges[0][0].reader.read(ranges)
    contents: list = [None] * len(ranges)
    for storage, numbers in _grouped([opened.reader for opened, _, _ in ranges]):
        for number, content in zip(numbers, storage.read([ranges[i] for i in numbers]), strict=True):
            contents[number] = content
    return contents


def _grouped(storages: list) -> list[tuple[Disk | Store, list[int]]]:
    """(storage, the indices at which it stands) of each."""
    groups: dict[int, tuple] = {}
    for i, storage in enumerate(storages):
        groups.setdefault(id(storage), (storage, []))[1].append(i)
    return list(groups.values())
