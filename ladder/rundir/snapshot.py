"""All run directories of a ladder at one moment: the names and sizes of their files, and the content of small ones.

In a bucket this costs one request for each 1,000 files, and one for each file that is read, many at the same time. Run
by run, with every file asked for on its own, a ladder of 1,000 runs costs 20,000 requests, one after the other.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from etils import epath

from ladder.rundir.files import Entry, entries_under, published_steps, read_many

NO_RUNS: Mapping = {}


@dataclass(frozen=True)
class RunFiles:
    """The files of one run directory. contents: {relative name: bytes} of those that were read."""

    directory: epath.Path
    entries: dict[str, Entry]
    contents: dict[str, bytes]

    @property
    def saved_steps(self) -> list[int]:
        """The steps of the published checkpoints, ascending."""
        folder = "checkpoints/"
        return published_steps({n.removeprefix(folder): e for n, e in self.entries.items() if n.startswith(folder)})


def is_run(names: Collection[str]) -> bool:
    """Whether files of these relative names make a run directory; one whose config.json was lost is known by others."""
    return any(name in ("config.json", "DONE.json") or name.startswith("metrics/") for name in names)


def take(
    folder,
    wanted: Callable[[Collection[str]], Iterable[str]],
    earlier: Mapping[str, RunFiles] = NO_RUNS,
) -> dict[str, RunFiles]:
    """{name of the run directory: its files} of every run directory in `folder`, sorted by name.

    wanted: from the names of the files in a run directory to those whose content is needed. earlier: the snapshot
    before this one; in a bucket, what has not been written since is not read again.
    """
    by_run: dict[str, dict[str, Entry]] = {}
    for name, entry in entries_under(folder).items():
        run, _, inner = name.partition("/")
        by_run.setdefault(run, {})[inner] = entry
    by_run = {run: entries for run, entries in by_run.items() if is_run(entries)}
    contents: dict[str, dict[str, bytes]] = {}
    to_read = {}
    for run, entries in by_run.items():
        before, contents[run] = earlier.get(run), {}
        for name in wanted(entries.keys()):
            entry = entries[name]
            if before and name in before.contents and entry.version == before.entries[name].version is not None:
                contents[run][name] = before.contents[name]
            else:
                to_read[entry.path] = run, name
    for path, content in read_many(to_read).items():
        run, name = to_read[path]
        contents[run][name] = content
    return {run: RunFiles(epath.Path(folder) / run, by_run[run], contents[run]) for run in sorted(by_run)}
