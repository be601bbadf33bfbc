"""Objects of a store (gs://, s3://, https:// ...), read by byte range through fsspec, many requests at a time.

Neighbouring ranges are read with one request. What fails is sent again (retries.py), also an answer of another length
than was asked for.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ladder.data.storage import retries
from ladder.data.storage.locations import Url, common_folder, location
from ladder.errors import DamagedError, InputError
from ladder.rundir.files import is_store_error

AT_ONCE = 64  # requests
TIMEOUT = 60.0  # seconds of one request; gcsfs sends it up to 6 times within them
LISTED = 50  # objects; more are listed with their folder, which takes a request for each 1,000 objects in it
GAP = 1 << 16  # bytes that are read in vain rather than with a request of their own
LARGEST = 1 << 22  # bytes of a request that was made of several
# Any of them changes when an object is written anew; which of them there is depends on the store.
VERSIONS = ("generation", "ETag", "etag", "mtime", "LastModified", "last_modified", "created")

logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it would print a traceback for each failed request


@dataclass(frozen=True)
class Object:
    """size: bytes. identity: changes when the object is written."""

    path: str
    size: int
    identity: str
    reader: "Store"


class Store:
    """The objects of one bucket or server; what it learned of their sizes it does not ask again. Threads may share it.

    Its methods raise Preempted where the store stays down, and InputError where it refuses access. mend: what to do
    about a damaged object.
    """

    over_network = True  # so what was read once may be read again with other bytes: every answer is checked

    def __init__(self, url: Url, mend: str = "restore the file"):
        """Raises InputError where the package for this kind of store is not installed."""
        import fsspec

        self._mend, self._objects = mend, {}
        try:
            self._fs = fsspec.core.url_to_fs(str(url))[0]
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: cannot be read: {' '.join(str(error).split())}") from None

    def open(self, path) -> Object:
        """Raises FileNotFoundError."""
        known = self._objects.get(str(path)) or self._look_up([str(path)])[0]
        if isinstance(known, OSError):
            raise known
        return known

    def expect(self, path, size: int) -> Object:
        """An object that must have this size, without a request: reading shows if it is missing or was cut."""
        return self._objects.get(str(path)) or Object(str(path), size, "", self)

    def sizes(self, paths: Sequence) -> list[int | OSError]:
        """In bytes, asked for at the same time, of many by a listing; of objects that are missing, the error."""
        paths = list(map(str, paths))
        if sum(path not in self._objects for path in paths) > LISTED:
            self.find(common_folder(map(location, paths)))
        asked = [path for path in paths if path not in self._objects]
        found = self._objects | dict(zip(asked, self._look_up(asked), strict=True))
        return [one if isinstance(one, OSError) else one.size for one in map(found.get, paths)]

    def state(self, path) -> list:
        """What tells whether an object has been written since: asks anew. Raises FileNotFoundError."""
        [known] = self._look_up([str(path)])
        if isinstance(known, OSError):
            raise known
        return [known.size, known.identity]

    def is_file(self, path) -> bool:
        return not isinstance(self.sizes([path])[0], OSError)

    def find(self, folder: Url) -> list[Url]:
        """Every object below a folder, by one request for each 1,000 or more of them; their sizes are known then."""
        return self._listed(folder, self._fs.find)

    def glob(self, pattern: Url) -> list[Url]:
        return self._listed(pattern, self._fs.glob)

    def _listed(self, url: Url, listing: Callable) -> list[Url]:
        self._fs.invalidate_cache()
        found = self._until_it_answers(url, lambda: listing(self._name(url), detail=True))
        found, scheme, urls = found or {}, str(url).partition("://")[0], []
        for name, info in found.items():
            if info["type"] == "file":
                urls.append(Url(name if "://" in name else f"{scheme}://{name.lstrip('/')}"))
                self._remember(str(urls[-1]), info)
        return urls

    def write(self, path, data: bytes) -> None:
        """A whole object, atomically."""
        self._until_it_answers(path, lambda: self._fs.pipe_file(self._name(path), data))
        self._objects.pop(str(path), None)

    def read(self, ranges: Sequence[tuple[Object, int, int]]) -> list[memoryview]:
        """The bytes start to stop - 1 of each range (object, start, stop).

        Raises DamagedError where an object is missing, or has another size than when it was opened.
        """
        requests, places = merged(ranges)
        contents = retries.answers(
            len(requests),
            lambda pending: self._ask([requests[i] for i in pending]),
            lambda i: f"{requests[i][0].path}: byte {requests[i][1]:,}",
            lambda i: self._refuse_another_size(requests[i][0]),
        )
        for (known, _, _), content in zip(requests, contents, strict=True):
            if isinstance(content, BaseException):
                raise self._for_good(known.path, content) from None
        return [
            memoryview(contents[request])[start - requests[request][1] : stop - requests[request][1]]
            for request, (_, start, stop) in zip(places, ranges, strict=True)
        ]

    def changed(self, known: Object) -> str | None:
        """What to say of an object that is not the one that was opened; None if it is. Asks anew."""
        [now] = self._look_up([known.path], remember=False)
        if isinstance(now, OSError):
            return f"{known.path}: is missing now; {self._mend}"
        if now.size != known.size:
            return another_size(known.path, now.size, known.size, self._mend)
        if known.identity and now.identity != known.identity:
            return f"{known.path}: was written anew since it was opened; {self._mend}"
        return None

    def _refuse_another_size(self, known: Object) -> None:
        """A range beyond the end of an object that was cut fails in as many ways as there are stores."""
        info = _result(lambda: self._fs.info(self._name(known.path)))
        if isinstance(info, dict) and info["size"] != known.size:
            raise DamagedError(another_size(known.path, info["size"], known.size, self._mend))

    def _ask(self, requests: list[tuple[Object, int, int]]) -> list:
        """The bytes of each, or the exception."""
        named = [(self._name(known.path), start, stop) for known, start, stop in requests]
        if self._fs.async_impl:
            calls = [lambda one=one: self._fs._cat_file(one[0], start=one[1], end=one[2]) for one in named]
            contents = self._at_once(calls)
        else:
            contents = self._fs.cat_ranges(*map(list, zip(*named, strict=True)), on_error="return")
        for i, (_, start, stop) in enumerate(requests):
            if isinstance(contents[i], bytes) and len(contents[i]) != stop - start:
                contents[i] = retries.ShortAnswerError(f"{len(contents[i]):,} of {stop - start:,} bytes")
        return contents

    def _look_up(self, paths: list[str], remember: bool = True) -> list[Object | FileNotFoundError]:
        """Asks the store what it holds now."""
        self._fs.invalidate_cache()
        names = [self._name(path) for path in paths]

        def send(pending: list[int]) -> list:
            if self._fs.async_impl:
                return self._at_once([lambda name=names[i]: self._fs._info(name) for i in pending])
            return [_result(lambda name=names[i]: self._fs.info(name)) for i in pending]

        results = []
        for path, info in zip(paths, retries.answers(len(paths), send, paths.__getitem__), strict=True):
            if isinstance(info, FileNotFoundError) or (isinstance(info, dict) and info["type"] != "file"):
                results.append(FileNotFoundError(2, "No such file", path))
            elif isinstance(info, BaseException):
                raise self._for_good(path, info) from None
            else:
                results.append(self._remember(path, info) if remember else self._object(path, info))
        return results

    def _at_once(self, calls: list[Callable]) -> list:
        """What the coroutines return or raise; AT_ONCE of them run at a time, each for TIMEOUT seconds at most.

        Not fsspec's cat_ranges, in which one request that is never answered holds up all others for ever.
        """
        from fsspec.asyn import sync

        async def together() -> list:
            limit = asyncio.Semaphore(AT_ONCE)

            async def one(call):
                async with limit:
                    return await asyncio.wait_for(call(), TIMEOUT)

            return await asyncio.gather(*map(one, calls), return_exceptions=True)

        return sync(self._fs.loop, together)

    def _until_it_answers(self, path, ask: Callable):
        """None where there is nothing."""
        [answer] = retries.answers(1, lambda pending: [_result(ask)], lambda i: str(path))
        if isinstance(answer, FileNotFoundError):
            return None
        if isinstance(answer, BaseException):
            raise self._for_good(path, answer) from None
        return answer

    def _for_good(self, path, error: BaseException) -> BaseException:
        """What to raise for an error that another attempt does not mend."""
        if isinstance(error, FileNotFoundError):
            return DamagedError(f"{path}: is missing now; {self._mend}")
        if isinstance(error, OSError | ValueError) or is_store_error(error):
            reason = retries.one_line(error)
            return InputError(f"{path}: the store refuses it ({reason}); check the name and your credentials")
        return error

    def _name(self, path) -> str:
        return self._fs._strip_protocol(str(path))

    def _object(self, path: str, info: dict) -> Object:
        version = next((str(info[key]) for key in VERSIONS if info.get(key) is not None), "")
        return Object(path, info["size"], version, self)

    def _remember(self, path: str, info: dict) -> Object:
        known = self._objects[path] = self._object(path, info)
        return known


def another_size(path: str, size: int, expected: int, mend: str) -> str:
    """What to say of a file that does not have the size it had."""
    kind = "was cut here, to" if size < expected else "has grown from here, to"
    return f"{path}: byte {min(size, expected):,}: the file {kind} {size:,} bytes (it had {expected:,}); {mend}"


def merged(ranges: Sequence[tuple[Object, int, int]]) -> tuple[list[tuple[Object, int, int]], list[int]]:
    """(requests, for each range the number of the request that holds it): neighbours in a file are one request."""
    requests: list[tuple[Object, int, int]] = []
    places = [0] * len(ranges)
    for i in sorted(range(len(ranges)), key=lambda i: (ranges[i][0].path, ranges[i][1])):
        known, start, stop = ranges[i]
        last, first, end = requests[-1] if requests else (None, 0, 0)
        fits = stop <= end or (start <= end + GAP and stop - first <= LARGEST)
        if last is not None and last.path == known.path and fits:
            requests[-1] = (last, first, max(stop, end))
        else:
            requests.append((known, start, stop))
        places[i] = len(requests) - 1
    return requests, places


def _result(ask: Callable):
    try:
        return ask()
    except Exception as error:
        return error
