"""Names of files: on a disk a Path, in an object store a Url. Nothing here reads or asks for anything."""

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import InputError
from ladder.rundir.files import is_local


@dataclass(frozen=True)
class Url:
    """A file or folder in an object store (gs://bucket/folder/file), with those methods of a Path that are pure."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name) -> "Url":
        """`name` may hold "/" and ".."."""
        scheme, _, path = self.text.partition("://")
        return Url(f"{scheme}://{posixpath.normpath(posixpath.join(path, str(name)))}")

    @property
    def parent(self) -> "Url":
        return self / ".."

    @property
    def name(self) -> str:
        return posixpath.basename(self.text)

    @property
    def is_bucket(self) -> bool:
        return "/" not in self.text.partition("://")[2]

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    def with_name(self, name: str) -> "Url":
        return self.parent / name

    def with_suffix(self, suffix: str) -> "Url":
        return self.with_name(posixpath.splitext(self.name)[0] + suffix)


def location(name) -> Path | Url:
    """What `name` is: a Url where it holds "://"."""
    if isinstance(name, Url):
        return name
    return Path(name) if is_local(name) else Url(str(name).rstrip("/"))


def absolute(path: Path | Url) -> str:
    """Without ".." or links to folders resolved; links to files stay."""
    return os.path.abspath(path) if isinstance(path, Path) else str(path)


def real(path) -> str:
    """The same for two names of one file."""
    path = location(path)
    return os.path.realpath(path) if isinstance(path, Path) else str(path)


def parts(path: Path | Url) -> list[str]:
    """For sorting."""
    return absolute(path).split("/" if isinstance(path, Url) else os.sep)


def relative(path: Path | Url, folder: Path | Url) -> str:
    """`path` as seen from `folder`, both on a disk or both in one bucket."""
    return os.path.relpath(absolute(path), absolute(folder)) if isinstance(path, Path) else _relative(path, folder)


def _relative(path: Url, folder: Url) -> str:
    return posixpath.relpath("/" + path.text.partition("://")[2], "/" + folder.text.partition("://")[2])


def disk_or_bucket(path: Path | Url) -> str:
    """ "" for a disk, "gs://bucket" for a bucket: what a path relative to another cannot leave."""
    if isinstance(path, Path):
        return ""
    scheme, _, rest = path.text.partition("://")
    return f"{scheme}://{rest.split('/')[0]}"


def common_folder(files: Iterable[Path | Url]) -> Path | Url:
    """The deepest folder that holds all files. Raises InputError where they are on a disk and in buckets."""
    files = list(files)
    places = sorted({disk_or_bucket(file) for file in files})
    if len(places) > 1:
        shown = " and ".join(place or "a disk" for place in places)
        raise InputError(f"{files[0]}: the files are in {shown}; make an index for each, and name them as two sources")
    if not places[0]:
        return Path(os.path.commonpath([os.path.dirname(absolute(file)) for file in files]))
    scheme = places[0].partition("://")[0]
    return Url(f"{scheme}://{posixpath.commonpath([file.parent.text.partition('://')[2] for file in files])}")
