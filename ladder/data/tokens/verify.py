"""Every block of token files compared with its hash."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ladder.data.storage.ranges import Storages
from ladder.data.tokens import index
from ladder.data.tokens.blocks import BLOCK
from ladder.data.tokens.index import Index
from ladder.errors import DamagedError

MOST_GROUPS = 5  # of damaged blocks that are named of a file


def verify(contents: Index, advance: Callable[[int], None] = lambda n_bytes: None, workers: int = 4) -> list[str]:
    """Read every block of the files of an index; a line for each file that is missing or not as it was indexed. Raises
    Preempted where a store stays down."""
    storages = Storages(index.MEND)
    checked_files = contents.checked_files(storages)
    tasks = [
        (entry, start)
        for entry in contents.entries
        for start in range(0, entry.blocks, 1 << 14)  # a GiB: a large file is shared out, too
    ]
    sources = {entry.name: file for entry, file in zip(contents.entries, checked_files, strict=True)}
    damaged: dict[str, list[int]] = {entry.name: [] for entry in contents.entries}
    problems: dict[str, str] = {}

    def check(task) -> None:
        entry, first = task
        last = min(first + (1 << 14), entry.blocks)
        try:
            for start in range(first, last, 64):
                if entry.name in problems:
                    return
                stop = min(start + 64, last)
                damaged[entry.name] += sources[entry.name].damaged_blocks(start, stop)
                advance((stop - start) * BLOCK)
        except DamagedError as error:
            problems[entry.name] = str(error)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(check, tasks))
    for entry, held_out in zip(contents.entries, contents.held_out(storages), strict=True):
        if damaged[entry.name] and entry.name not in problems:
            problems[entry.name] = _damage(contents.path(entry), sorted(damaged[entry.name]), entry.size)
        if isinstance(held_out, DamagedError):
            problems.setdefault(entry.name, str(held_out))
    return [problems[entry.name] for entry in contents.entries if entry.name in problems]


def _damage(path, blocks: list[int], size: int) -> str:
    """A line that names the damaged bytes, neighbouring blocks as one range."""
    groups: list[list[int]] = []
    for block in blocks:
        if groups and groups[-1][1] == block:
            groups[-1][1] = block + 1
        else:
            groups.append([block, block + 1])
    shown = [f"{first * BLOCK:,} to {min(stop * BLOCK, size):,}" for first, stop in groups[:MOST_GROUPS]]
    more = f" and {len(groups) - MOST_GROUPS} more places" if len(groups) > MOST_GROUPS else ""
    return f"{path}: bytes {', '.join(shown)}{more}: not the bytes that were indexed; {index.MEND}"
