"""The code that a machine is to run: an archive of one git commit, named by it and checked by its hash."""

import gzip
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from ladder.errors import InputError

HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Code:
    """path: where the archive is; commit and sha256: what is in it."""

    path: str = ""
    commit: str = ""
    sha256: str = ""


def publish(where: str, repository: Path = HERE, dry: bool = False) -> Code:
    """Put the archive of HEAD under `where` (any epath), unless it is there or `dry`.

    Raises InputError where the checkout has changes that no commit has: a run must be of code that can be found again.
    """
    changed = _git(repository, "status", "--porcelain", "--untracked-files=no").decode().splitlines()
    if changed:
        raise InputError(f"{repository}: {len(changed)} uncommitted changes ({changed[0].strip()} ...); commit them")
    commit = _git(repository, "rev-parse", "HEAD").decode().strip()
    data = gzip.compress(_git(repository, "archive", "--format=tar", commit), mtime=0)  # the same bytes every time
    path = epath.Path(where) / f"{commit}.tar.gz"
    if not dry and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Code(str(path), commit, hashlib.sha256(data).hexdigest())


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise InputError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode(errors="replace").split())
        raise InputError(f"{repository}: git {arguments[0]}: {said}") from None
