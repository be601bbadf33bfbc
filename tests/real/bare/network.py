"""The network of a bare machine: a cable that can be cut, and at its other end a metadata server, files and a proxy.

The machine has no other way out: the proxy, in the network of this process, connects it with the package registries.
"""

import contextlib
import http.server
import selectors
import socket
import socketserver
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

HOST, GUEST, LENGTH = "10.213.77.1", "10.213.77.2", 30
NAMESPACE, CABLE, FAR_END = "ladder-bare", "ladder-bare0", "ladder-bare1"
PROXY_PORT = 3128


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def cable():
    """A network namespace for the machine, joined with this one by a pair of virtual Ethernet devices."""
    _remove()  # of a process that was killed
    _ip("netns", "add", NAMESPACE)
    try:
        _ip("link", "add", CABLE, "type", "veth", "peer", "name", FAR_END)
        _ip("link", "set", FAR_END, "netns", NAMESPACE)
        _ip("addr", "add", f"{HOST}/{LENGTH}", "dev", CABLE)
        _ip("link", "set", CABLE, "up")
        inside = ("netns", "exec", NAMESPACE, "ip")
        _ip(*inside, "addr", "add", f"{GUEST}/{LENGTH}", "dev", FAR_END)
        _ip(*inside, "link", "set", FAR_END, "up")
        _ip(*inside, "link", "set", "lo", "up")
        yield
    finally:
        _remove()


def _remove() -> None:
    for what in (("link", "del", CABLE), ("netns", "del", NAMESPACE)):
        subprocess.run(["ip", *what], stderr=subprocess.DEVNULL)


def cut(is_cut: bool) -> None:
    _ip("link", "set", CABLE, "down" if is_cut else "up")


@contextlib.contextmanager
def services(files: Path, metadata: dict[str, str]):
    """The metadata server (port 80, with the attributes of an instance), which also serves `files`, and the proxy."""

    class Server(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(files))

        def do_GET(self):
            prefix = "/computeMetadata/v1/instance/attributes/"
            if not self.path.startswith(prefix):
                return super().do_GET()
            value = metadata.get(self.path.removeprefix(prefix))
            if value is None or self.headers.get("Metadata-Flavor") != "Google":
                return self.send_error(404 if value is None else 403)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(value.encode())

        def log_message(self, *arguments):
            pass

    with contextlib.ExitStack() as stack:
        for port, handler in ((80, Server), (PROXY_PORT, _Proxy)):
            server = stack.enter_context(_ThreadingServer((HOST, port), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield


class _ThreadingServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, address):
        pass  # the machine was switched off, or the cable cut


class _Proxy(socketserver.StreamRequestHandler):
    """A tunnel for HTTPS (CONNECT); and for HTTP, one request for each connection."""

    def handle(self):
        line = self.rfile.readline().decode("latin-1").split()
        header = []
        while (text := self.rfile.readline()) not in (b"\r\n", b"\n", b""):
            if not text.lower().startswith((b"proxy-", b"connection:")):
                header.append(text)
        if len(line) != 3:
            return
        method, target, version = line
        if method == "CONNECT":
            name, _, port = target.rpartition(":")
            with socket.create_connection((name, int(port)), timeout=60) as other:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                _join(self.connection, other)
            return
        url = urlsplit(target)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        with socket.create_connection((url.hostname, url.port or 80), timeout=60) as other:
            head = [f"{method} {path} {version}\r\n".encode(), *header, b"Connection: close\r\n\r\n"]
            other.sendall(b"".join(head))
            _join(self.connection, other)


def _join(one: socket.socket, other: socket.socket) -> None:
    """Copy what each socket receives to the other, until one of them ends."""
    one.settimeout(300)
    other.settimeout(300)
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            ready = selector.select(timeout=300)
            if not ready:
                return
            for key, _ in ready:
                data = key.fileobj.recv(1 << 18)
                if not data:
                    return
                key.data.sendall(data)
