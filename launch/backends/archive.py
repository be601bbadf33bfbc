"""The code that a machine runs: an archive of one git commit, named by the commit and checked by its hash."""

import gzip
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from ladder.errors import InputError

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Code:
    """path: of the archive. commit: the git commit in it. sha256: of the archive."""

    path: str = ""
    commit: str = ""
    sha256: str = ""


def publish(folder: str, repository: Path = CHECKOUT, dry: bool = False) -> Code:
    """Write the archive of HEAD into `folder` (any epath), unless it exists or `dry`.

    Raises InputError where the checkout has uncommitted changes: the code of a run must be found again later.
    """
    changed = _git(repository, "status", "--porcelain", "--untracked-files=no").decode().splitlines()
    if changed:
        raise InputError(f"{repository}: {len(changed)} uncommitted changes ({changed[0].strip()} ...); commit them")
    commit = _git(repository, "rev-parse", "HEAD").decode().strip()
    data = gzip.compress(_git(repository, "archive", "--format=tar", commit), mtime=0)  # the same bytes every time
    path = epath.Path(folder) / f"{commit}.tar.gz"
    if not dry and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Code(str(path), commit, hashlib.sha256(data).hexdigest())


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        command = ["git", "--no-optional-locks", *arguments]  # otherwise `git status` may rewrite the index
        return subprocess.run(command, cwd=repository, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise InputError("git is not installed; install it to archive the code for TPU machines") from None
    except subprocess.CalledProcessError as error:
        message = " ".join(error.stderr.decode(errors="replace").split())
        raise InputError(f"{repository}: git {arguments[0]}: {message}") from None
