"""`ladder data tasks`: ranked-choice tasks from the held-out text of a ladder's corpora."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from fitting.report.grid import Grid
from ladder.errors import InputError
from ladder.evaluation.held_out.kinds import KINDS
from ladder.rundir.files import write_atomic
from launch import terminal

CARD = "tasks.json"  # what the tasks were made of
NONE, TOO_FEW = "the text has none", "few: the accuracy will be uncertain"
FEW = 100  # questions; with fewer, an accuracy is known to 4 points at best


@dataclass(frozen=True)
class Flags:
    """tasks: what is asked.

    Args:
        kinds: letters, words (two swapped), brackets (one changed), indentation (moved), names (one replaced), later
            (what stands later in the document), elsewhere (what stands in another document)
        docs: questions of each kind
        choices: of each question, the true continuation among them
        context: characters before the continuation, at most
        longest: characters of a continuation, at most
        question_seed: another number asks other questions of the same text
        out: the folder to write
    """

    kinds: Annotated[tuple[str, ...], arg(metavar="KIND ...", help_behavior_hint="(default: all)")] = ()
    docs: Annotated[int | None, arg(help_behavior_hint="(default: 1000)")] = None
    choices: Annotated[int | None, arg(help_behavior_hint="(default: 4)")] = None
    context: Annotated[int | None, arg(help_behavior_hint="(default: 512)")] = None
    longest: Annotated[int | None, arg(help_behavior_hint="(default: 80)")] = None
    question_seed: Annotated[int | None, arg(help_behavior_hint="(default: 0)")] = None
    out: Annotated[Path | None, arg(metavar="DIR", aliases=["-o"], help_behavior_hint="(default: tasks/NAME)")] = None

    def given(self) -> dict:
        return {field.name: getattr(self, field.name) for field in fields(self)}


NO_FLAGS = Flags()


def settings(flags: Flags):
    """held_out.tasks.Settings of the flags. Raises InputError for a value that they cannot have."""
    from ladder.evaluation.held_out.tasks import Settings

    named = {name: value for name, value in flags.given().items() if value not in (None, ()) and name != "out"}
    if "question_seed" in named:
        named["seed"] = named.pop("question_seed")
    return Settings(**named)


def write(name: str, corpora: dict[str, Path], open_corpus: Callable, flags: Flags) -> Grid:
    """Write the tasks of each corpus, a file a kind, and CARD; returns what they hold.

    corpora: the folders, by the source's name ("" where there is one text). open_corpus(folder) -> windows.Windows.
    Raises InputError where the folder holds anything else, or a corpus gives no question of any kind.
    """
    from ladder.evaluation.held_out import documents, tasks

    chosen, out = settings(flags), folder_of(name, flags)
    if _holds_other_things(out):
        raise InputError(f"{out}: is there already, and holds other things than tasks; name another folder", "out")
    rows, card = [], {"settings": asdict(chosen), "corpora": {}}
    for source, folder in corpora.items():
        with terminal.working(f"reading the held-out text of {source or name}"):
            corpus = open_corpus(folder)
            texts = documents.documents(corpus)
        with terminal.working(f"making questions from {len(texts):,} documents"):
            made = tasks.make(texts, chosen)
        if not any(made.values()):
            raise InputError(_nothing(source or name, texts, chosen))
        out.mkdir(parents=True, exist_ok=True)
        prefix = _prefix(name, source)
        files = {}
        for kind, docs in made.items():
            path = out / f"{prefix}_{kind}.jsonl"
            if docs:
                files[kind] = {"file": path.name, "docs": len(docs), "sha256": write_file(path, docs)}
            note = "" if len(docs) >= FEW else NONE if not docs else TOO_FEW
            rows.append((path.name if docs else f"({kind})", f"{len(docs):,}", f"{1 / chosen.choices:.0%}", note))
        card["corpora"][source or name] = {"corpus": corpus.hash, "documents": len(texts), "tasks": files}
    terminal.write_json(out / CARD, card)
    return Grid(f"tasks in {out}", ("task", "#questions", "#chance", "note"), rows)


def write_file(path: Path, docs: Sequence) -> str:
    """Write questions where `eval.tasks` reads them; returns the sha256 of the file."""
    from ladder.evaluation.held_out import tasks

    content = "".join(tasks.to_lines(docs)).encode()
    write_atomic(path, content)  # a run that is still being trained may read the same questions now
    return hashlib.sha256(content).hexdigest()


def folder_of(name: str, flags: Flags) -> Path:
    return flags.out or Path("tasks") / name


def _holds_other_things(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    return any(path.name != CARD and path.suffix != ".jsonl" for path in folder.iterdir())


def _prefix(name: str, source: str) -> str:
    return re.sub(r"\W+", "_", f"{name}_{source}" if source else name).strip("_")


def _nothing(name: str, texts: list[str], chosen) -> str:
    if not texts:
        return f"{name}: no whole document is held out; hold out more (data.validation=0.1)"
    return (
        f"{name}: {len(texts):,} held-out documents give no question of the kinds {', '.join(chosen.kinds)}; choose"
        f" other kinds of {', '.join(KINDS)}, fewer choices or a larger --longest"
    )
