"""What `ladder data index` and `ladder verify` do with token files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Annotated

from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
from tyro.conf import arg

from ladder.errors import InputError
from launch import terminal

VALIDATION = 0.001


@dataclass(frozen=True)
class Indexing:
    """index: how token files are read; build has --eos too.

    Args:
        dtype: of files without a header: uint16, uint32 ...
        eos: what ends a document; index: an id; build: the name of a special token; default: that of the tokenizer
        tokenizer: the tokenizer.json that made the tokens; it is copied into the index
        validation: the fraction of the documents that is held out
        validation_files: files that are held out as they are, instead of a fraction
        index: the folder to write the index to, if not beside the files; also gs://...
        workers: files that are read at a time; default: one for each core, at most 16
    """

    dtype: str | None = None
    eos: Annotated[str | None, arg(metavar="ID|NAME")] = None
    tokenizer: str | None = None
    validation: Annotated[float | None, arg(help_behavior_hint=f"(default: {VALIDATION})")] = None
    validation_files: Annotated[tuple[str, ...], arg(metavar="PATH ...")] = ()
    index: Annotated[str | None, arg(metavar="DIR")] = None
    workers: int | None = None

    def given(self) -> dict:
        return {field.name: getattr(self, field.name) for field in fields(self)}


NO_FLAGS = Indexing()


def index(path: str | None, more: tuple[str, ...], flags: Indexing) -> None:
    """Make the index of token files and print what they hold."""
    from ladder.data.tokens import indexing

    if path is None:
        raise InputError("ladder data index: name token files, for example: ladder data index my/tokens --eos 0")
    if flags.workers is not None and flags.workers < 1:
        raise InputError(f"--workers {flags.workers}: must be at least 1")
    if flags.validation is not None and flags.validation_files:
        raise InputError("--validation and --validation-files exclude each other: choose one")
    if flags.eos is not None and not flags.eos.isdecimal():
        raise InputError(
            f"--eos {flags.eos}: token files need the id of the token that ends a document, a whole number"
        )
    with bytes_bar("indexing") as start_bar:
        made = indexing.build(
            [path, *more],
            dtype=flags.dtype,
            eos=None if flags.eos is None else int(flags.eos),
            tokenizer=flags.tokenizer,
            validation=VALIDATION if flags.validation is None else flags.validation,
            validation_files=flags.validation_files,
            folder=flags.index,
            workers=flags.workers or indexing.WORKERS,
            start_bar=start_bar,
        )
    print(f"{made.hash}  {made.folder}")
    print(f"  {len(made.entries):,} files, {terminal.size(sum(entry.size for entry in made.entries))}")
    for split in ("train", "validation"):
        print(f"  {split}: {made.total('documents', split):,} documents, {made.total('tokens', split):,} tokens")
    if made.least is not None:
        held_out = "the one document with the least hash is held out"
        print(f"  none of so few documents fall into a fraction of {made.validation:g}: {held_out}")


@contextmanager
def bytes_bar(name: str) -> Iterator[Callable[[int], Callable[[int], None]]]:
    """start_bar(bytes) -> advance(bytes): a bar with rate and time left on standard error, if that is a terminal."""
    with terminal.progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as live:

        def start_bar(total: int) -> Callable[[int], None]:
            task = live.add_task(name, total=total)
            return lambda n_bytes: live.advance(task, n_bytes)

        yield start_bar
