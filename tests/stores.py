"""Object stores that misbehave, for tests: one in this process, and a proxy before a server on loopback."""

import asyncio
import contextlib
import mmap
import random
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import ClassVar

import fsspec
from fsspec.asyn import AsyncFileSystem

PROTOCOL = "faulty"


class Faults:
    """What goes wrong. share: of the requests fail, in turns with an error, with a connection that is cut, and with an
    answer that is cut. latency: seconds of each request. down: every request fails. Requests are counted by kind."""

    def __init__(self, share: float = 0.0, latency: float = 0.0, seed: int = 0):
        self.share, self.latency, self.down = share, latency, False
        self.kinds, self.failed, self._random = Counter(), Counter(), random.Random(seed)

    def next(self, kind: str) -> str | None:
        """What goes wrong with a request: "error", "cut", "short" or nothing."""
        self.kinds[kind] += 1
        if self.down:
            return "error"
        if self._random.random() >= self.share:
            return None
        fault = self._random.choice(("error", "cut", "short"))
        self.failed[fault] += 1
        return fault


class FaultyStore(AsyncFileSystem):
    """An object store in memory, faulty://bucket/name. Its reads by range fail as often as `faults` says."""

    protocol = PROTOCOL
    cachable = True
    objects: ClassVar[
        dict[str, tuple[bytes, int]]
    ] = {}  # content, generation; a content of any type that can be sliced
    faults = Faults()

    async def _fail(self, kind: str) -> str | None:
        await asyncio.sleep(self.faults.latency)
        fault = self.faults.next(kind)
        if fault == "error":
            raise OSError("503 Service Unavailable")
        if fault == "cut":
            raise ConnectionResetError("Connection reset by peer")
        return fault

    async def _cat_file(self, path, start=None, end=None, **kwargs):
        fault = await self._fail("get")
        path = self._strip_protocol(path)
        if path not in self.objects:
            raise FileNotFoundError(path)
        content = bytes(self.objects[path][0][start:end])
        return content[: len(content) * 2 // 3] if fault == "short" else content

    async def _info(self, path, **kwargs):
        await self._fail("stat")
        return self._about(self._strip_protocol(path))

    def _about(self, path: str) -> dict:
        if path in self.objects:
            content, generation = self.objects[path]
            return {"name": path, "size": len(content), "type": "file", "generation": generation}
        if any(name.startswith(f"{path}/") for name in self.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    async def _find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
        await self._fail("list")
        path = self._strip_protocol(path)
        found = {name: self._about(name) for name in self.objects if name.startswith(f"{path}/") or name == path}
        return found if detail else list(found)

    async def _glob(self, path, maxdepth=None, detail=False, **kwargs):
        await self._fail("list")
        pattern = re.compile(re.escape(self._strip_protocol(path)).replace(r"\*", "[^/]*"))
        found = {name: self._about(name) for name in self.objects if pattern.fullmatch(name)}
        return found if detail else list(found)

    async def _pipe_file(self, path, value, mode="overwrite", **kwargs):
        await self._fail("put")
        path = self._strip_protocol(path)
        generation = self.objects.get(path, (b"", 0))[1]
        self.objects[path] = bytes(value), generation + 1


@contextlib.contextmanager
def faulty_store(faults: Faults | None = None):
    """Yields the objects of faulty://, {"bucket/name": (content, generation)}, which are forgotten afterwards."""
    fsspec.register_implementation(PROTOCOL, FaultyStore, clobber=True)
    FaultyStore.objects, FaultyStore.faults = {}, faults or Faults()
    try:
        yield FaultyStore.objects
    finally:
        FaultyStore.objects, FaultyStore.faults = {}, Faults()


def upload(folder: Path, objects: dict, url: str) -> None:
    """Every file of a folder on the disk becomes an object below faulty://... ; it is not copied."""
    for path in folder.rglob("*"):
        if path.is_file():
            name = f"{url.partition('://')[2]}/{path.relative_to(folder).as_posix()}"
            content: mmap.mmap | bytes = b""
            if path.stat().st_size:
                with path.open("rb") as file:
                    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                content.madvise(mmap.MADV_RANDOM)  # else the system reads megabytes around each block
            objects[name] = content, objects.get(name, (b"", 0))[1] + 1


class Proxy:
    """Before a server of HTTP on loopback: each request waits, and some fail. `with Proxy(port, faults) as proxy`."""

    def __init__(self, port: int, faults: Faults):
        self._server_port, self.faults, self.port = port, faults, 0
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()

    def __enter__(self) -> "Proxy":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *error) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        async def listen() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The requests of a connection, one after the other."""
        upstream = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(_length(head) or 0)
                await asyncio.sleep(self.faults.latency)
                fault = self.faults.next(head.split(b" ", 1)[0].decode().lower())
                if fault == "error":
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                    continue
                upstream = upstream or await asyncio.open_connection("127.0.0.1", self._server_port)
                upstream[1].write(head + body)
                answer = await upstream[0].readuntil(b"\r\n\r\n")
                length = _length(answer)
                if fault is not None or length is None:
                    # Of an answer in chunks only the beginning is needed here: nothing that is cut is read further.
                    content = await (upstream[0].read(1 << 16) if length is None else upstream[0].readexactly(length))
                    if fault is None:
                        writer.write(answer + content + (await _rest(upstream[0], content)))
                        continue
                    writer.write(answer + content[: len(content) // 2] if fault == "short" else b"")
                    break
                writer.write(answer + await upstream[0].readexactly(length))
                await writer.drain()
        for stream in (writer, *(upstream or ())[1:]):
            stream.close()


def _length(head: bytes) -> int | None:
    """Of the body; None where it comes in chunks."""
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else None if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head) else 0


async def _rest(reader: asyncio.StreamReader, content: bytes) -> bytes:
    """Of a body in chunks, of which `content` was read."""
    whole = content
    while not whole.endswith(b"0\r\n\r\n"):
        part = await reader.read(1 << 16)
        if not part:
            break
        whole += part
    return whole[len(content) :]


if __name__ == "__main__":  # a proxy in a process of its own, until its input ends: PORT LATENCY
    with Proxy(int(sys.argv[1]), Faults(latency=float(sys.argv[2]))) as proxy:
        print(proxy.url, flush=True)
        sys.stdin.read()
