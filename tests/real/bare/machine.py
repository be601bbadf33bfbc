"""A machine in namespaces of its own: it boots a start-up script, and can be switched off at any moment.

Its disk is an overlay over a root file system, and outlives it. The buckets are a folder that it sees under the same
name as this process.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.real.bare import network, root

GCLOUD = Path(__file__).parents[2] / "launch/backends/gcloud.sh"
# All that a start-up script finds in its environment.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT = """set -e
mount -t overlay overlay -o lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work {disk}/merged
mount --rbind /dev {disk}/merged/dev
mount -t proc proc {disk}/merged/proc
mkdir -p {disk}/merged{buckets} && mount --bind {buckets} {disk}/merged{buckets}
exec env -i PATH={path} chroot {disk}/merged /bin/bash {buckets}/script
"""


@dataclass
class Machine:
    """lower: its image. folder: of its own, with the folder `buckets` in it. downloads: what uv may download."""

    lower: Path
    folder: Path
    downloads: dict
    _process: subprocess.Popen | None = field(default=None, init=False)

    def __post_init__(self):
        for name in ("upper", "work", "merged"):
            (self.disk / name).mkdir(parents=True)
        self.buckets.mkdir(exist_ok=True)
        gcloud = GCLOUD.read_text().replace("@BUCKETS@", str(self.buckets))
        # Without a network there is no gcloud.
        needs_network = "curl -sf --max-time 5 -o /dev/null http://metadata.google.internal/ || exit 1\n"
        root.settle(self.disk / "upper", gcloud.replace("\n", "\n" + needs_network, 1), self.downloads)

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def buckets(self) -> Path:
        return self.folder / "buckets"

    @property
    def log(self) -> str:
        path = self.disk / "upper/var/log/ladder.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def on_disk(self, path: str) -> Path:
        """A file that the machine has written."""
        return self.disk / "upper" / path.lstrip("/")

    def stopped(self, run: Path) -> str:
        path = run / "STOPPED.json"
        return json.loads(path.read_text())["reason"] if path.exists() else ""

    @contextlib.contextmanager
    def booted(self, script: str):
        """Switched on; it is switched off, as by a lost power supply, when the block ends."""
        (self.buckets / "script").write_text(script)
        boot = _BOOT.format(lower=self.lower, disk=self.disk, buckets=self.buckets, path=PATH)
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", boot]
        command = ["ip", "netns", "exec", network.NAMESPACE, *alone]
        self._process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
        try:
            yield self
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # of unshare; the kernel kills all inside
            self._process.wait()
            time.sleep(1)  # until the kernel has unmounted the disk
            self._process = None

    def wait(self, condition=None, seconds: float = 900) -> None:
        """Until the condition holds, or, without one, until the script ends. Raises AssertionError after `seconds`."""
        until = time.monotonic() + seconds
        while not (condition() if condition else self._process.poll() is not None):
            assert time.monotonic() < until, f"not after {seconds} s:\n{self.log[-3000:]}"
            assert not condition or self._process.poll() is None, f"the script has ended:\n{self.log[-3000:]}"
            time.sleep(0.2)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def times(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))
