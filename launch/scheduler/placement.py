"""Whether the machines of a backend can reach the data of a ladder, and how: copied, mounted, or read where it lies."""

import re
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from ladder.config import Rung, Source
from ladder.data_config import Data
from ladder.errors import InputError
from ladder.rundir.files import entries_under, is_local
from launch import terminal
from launch.backends.bucket_mount import Placement
from launch.prepare import Built
from launch.settings import Gke, Settings, Tpu

GIB = 1 << 30
Stage = Literal["auto", "always", "never"]
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]*)(/.*)?")


def place(
    built: Built, rungs: Sequence[Rung], root, backend: str, settings: Settings, stage: Stage = "auto", dry=False
) -> tuple[Placement, list[str]]:
    """How the runs of `rungs` read the corpora that lie in buckets, and a line for each thing a user should know.

    stage: "auto" copies them where those of every run fit into scratch_gib, and else mounts their buckets. Token files
    are not counted: they are read by range. Raises InputError where they do not fit and stage is "always", where a
    corpus that is to be mounted was built before records had hashes, where the backend needs a setting for it, and
    where something lies on this machine only (if dry, a line instead).
    """
    limits = {"gke": settings.gke, "tpu": settings.tpu}.get(backend)
    if limits is None:  # local and slurm read what their disks hold, and copy a corpus in a bucket when a run starts
        return Placement(), []
    notes = _not_visible(built, rungs, root, backend)
    if notes and not dry:
        raise InputError(notes[0])
    folders = {rung.label: _corpora(built, rung) for rung in rungs}
    sizes = {folder: _size(folder) for folder in dict.fromkeys(chain.from_iterable(folders.values()))}
    totals = {label: sum(sizes[folder] for folder in of_rung) for label, of_rung in folders.items()}
    label = max(totals, key=totals.get, default="")
    if not (most := totals.get(label, 0)):
        return Placement(), notes
    fits = most + GIB <= limits.scratch_gib * GIB  # a GiB for what else is written there
    if fits and stage != "never":
        return Placement(copied_gib=-(-most // GIB) + 1), notes
    too_large = f"the corpora of {label} have {terminal.size(most)}, too much to copy to each machine"
    too_large += f" ({backend}.scratch_gib = {limits.scratch_gib})"
    if stage == "always":
        raise InputError(f"--stage always: {too_large}; raise it in ladder.toml, or leave --stage out to mount them")
    mounted = _mounted(sizes, limits)
    if not fits:
        names = ", ".join(f"gs://{bucket}" for bucket in mounted)
        notes += [f"{too_large}; mounted read-only instead: {names}; to copy them, raise it in ladder.toml"]
    return Placement(mounted), notes


def _size(folder) -> int:
    return sum(entry.size for entry in entries_under(folder).values())


def _corpora(built: Built, rung: Rung) -> list:
    """The folders in buckets of the corpora that were built from text."""
    folders = [built.corpora[corpus] for text_format, corpus in _sources(rung.data) if text_format == "text"]
    return [folder for folder in dict.fromkeys(folders) if not is_local(folder)]


def _sources(data: Data) -> list[tuple[str, str]]:
    """(format, hash) of each source."""
    return [(source.format, source.corpus) for source in data.sources] or [("text", data.corpus)]


def buckets(folders, limits: Gke | Tpu) -> tuple[str, ...]:
    """The names of the buckets of these folders. Raises InputError where one cannot be mounted."""
    if isinstance(limits, Gke) and not limits.service_account:
        reason = "its rights are those with which gcsfuse mounts a bucket"
        raise InputError(f"gke.service_account is not set: {reason}; name it in ladder.toml, or --stage always")
    names = set()
    for folder in folders:
        match = _BUCKET.fullmatch(str(folder))
        if match is None:
            raise InputError(f"{folder}: only buckets of Google Cloud (gs://...) can be mounted; use --stage always")
        names.add(match[1])
    return tuple(sorted(names))


def _mounted(folders, limits: Gke | Tpu) -> tuple[str, ...]:
    """The buckets of these corpora. Raises InputError where one cannot be read through a mount."""
    from ladder.data import seal

    names = buckets(folders, limits)
    for folder in folders:
        if not seal.checks_records(folder):
            raise InputError(
                f"{folder}: built before records had hashes, so every machine would read all of it before the first "
                "step of a run; delete it and build it again, or copy it (--stage always)"
            )
    return names


def _not_visible(built: Built, rungs: Sequence[Rung], root, backend: str) -> list[str]:
    """A line for each thing that lies on this machine only, where the machines of `backend` cannot see it."""
    sources = {source.corpus: source for rung in rungs for source in rung.data.sources if source.format == "tokens"}
    lines = [_token_files(source, built.corpora[corpus], root) for corpus, source in sources.items()]
    folders = [*built.tokenizers.values()]
    folders += [folder for corpus, folder in built.corpora.items() if corpus not in sources]
    if local := sorted({str(folder) for folder in folders if is_local(folder)}):
        lines.append(not_visible(local, "--corpora", backend))
    return [line for line in lines if line]


def check_root(root, backend: str) -> None:
    """Raise InputError where the machines of `backend` cannot write run directories in `root`."""
    if backend in ("local", "slurm"):
        if not is_local(root):
            raise InputError(f"--root {root}: {backend} needs a folder on a disk that all its machines share")
    elif is_local(root):
        raise InputError(not_visible([f"--root {root}"], "--root", backend))


def not_visible(folders: Sequence[str], flag: str, backend: str) -> str:
    machines = {"gke": "the pods of GKE", "tpu": "TPU machines"}[backend]
    return f"{', '.join(folders)}: not visible to {machines}; set {flag} to gs://..."


def _token_files(source: Source, folder, root) -> str | None:
    """What to do about a source whose index, in `folder`, lies on this machine."""
    if not is_local(folder):
        return None
    from ladder.data.tokens import index

    contents, folder = index.read(folder), Path(folder).resolve()
    where = f"data.sources.{source.name}.text"
    if not is_local(contents.root):
        reason = f"its token files are in a bucket, but their index lies on this machine only ({folder})"
        return f"{where}: {reason}; copy it: {_copy([folder], root, source)}, and set {_new([folder], root, source)}"
    n_bytes, files = terminal.size(sum(entry.size for entry in contents.entries)), Path(contents.root).resolve()
    reason = f"its token files lie on this machine only ({n_bytes} in {files})"
    named = [Path(path).resolve() for path in source.text]
    if folder in named:  # files and index lie apart
        mend = f"then run `ladder data index` on the copy ({_folder(root, source)}/{files.name}), and set {where} to it"
        return f"{where}: {reason}; copy them: {_copy([files], root, source)}, {mend}"
    copied = list(named)
    if not any(folder.is_relative_to(path) for path in named):
        copied += [pair for path in named if (pair := path.with_suffix(".idx")).is_file()] + [folder]
    return f"{where}: {reason}; copy them: {_copy(copied, root, source)}, and set {_new(named, root, source)}"


def _folder(root, source: Source) -> str:
    """Where to copy the files of a source: into the bucket of --root, if it is in one."""
    match = _BUCKET.fullmatch(str(root))
    return f"gs://{match[1] if match else 'BUCKET'}/tokens/{source.name}"


def _copy(paths: Sequence, root, source: Source) -> str:
    return f"`{shlex.join(['gcloud', 'storage', 'cp', '-r', *map(str, paths), _folder(root, source) + '/'])}`"


def _new(paths: Sequence[Path], root, source: Source) -> str:
    copies = tuple(f"{_folder(root, source)}/{path.name}" for path in paths)
    return f"data.sources.{source.name}.text={copies}"
