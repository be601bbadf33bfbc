"""Verbs about training data, and the demo, which begins with text."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from configs import loader
from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import display, epochs, terminal
from launch.cli.options import CORPORA, RUNS, Corpora, Overrides, Root, refuse
from launch.data import held_out_tasks, token_index


def demo(
    *,
    quick: bool = False,
    full: bool = False,
    forecast: bool = False,
    seed: int = 0,
    text: Annotated[tuple[Path, ...], arg(metavar="PATH ...")] = (),
    at_once: int | None = None,
    root: Root = RUNS,
    corpora: Corpora = CORPORA,
) -> None:
    """From text to a prediction on this machine: train a small ladder, predict a larger model, then train that too.

    Example: ladder demo --text my/notes

    Args:
        quick: takes two to four minutes; the numbers mean little
        full: takes about an hour
        forecast: forecast a hundred times the compute of the largest rung (docs/forecast.md); an hour
        seed: of initialisation and data order
        text: your own text: files, folders, .jsonl(.gz); default: the Python sources of this environment
        at_once: how many rungs to train at a time; default: one, or with JAX_PLATFORMS=cpu one per core (at most 4)
    """
    from configs.demo import QUESTIONS
    from configs.forecast import FLOOR
    from launch.backends import local
    from launch.demo import flow

    if at_once is not None and at_once < 1:
        raise InputError(f"--at-once {at_once}: must be at least 1")
    if quick + full + forecast > 1:
        raise InputError("--quick, --full and --forecast exclude each other: choose one")
    name = "demo-quick" if quick else "demo-full" if full else "forecast" if forecast else "demo"
    ladder = flow.ladder_of(name, seed, tuple(map(str, text)))
    at_once = at_once or local.runs_at_once()
    how = {"asked": QUESTIONS.get(name, ())}
    if forecast:
        how |= {"against_compute": True, "floor": FLOOR}
    flow.run(ladder, as_path(root), as_path(corpora), terminal.console(), at_once, **how)


def data(
    what: Annotated[
        Positional[Literal["build", "tasks", "index", "olmes", "paper"]],
        arg(
            help="build a ladder's corpora, make tasks from their held-out text, index token files, or fetch the OLMES"
            " requests or the paper's runs"
        ),
    ],
    name: Annotated[
        Positional[str | None],
        arg(metavar="[NAME]", help="build, tasks: the ladder; index: a token file or a folder of them, also gs://..."),
    ] = None,
    overrides: Overrides = (),
    /,
    *,
    corpora: Corpora = CORPORA,
    runner: Annotated[str | None, arg(metavar="RUNNER")] = None,
    runner_option: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")] = (),
    tasks: Annotated[held_out_tasks.Flags, arg(name="")] = held_out_tasks.NO_FLAGS,
    indexing: Annotated[token_index.Indexing, arg(name="")] = token_index.NO_FLAGS,
) -> None:
    """Build the corpora of a ladder, unless they exist, and count what each source holds; make ranked-choice tasks from
    the text that they hold out; index token files, so that they can be trained on where they lie; or fetch public data.

    Example: ladder data build demo data.text=my/notes,more.jsonl.gz
    Example: ladder data build demo data.tokenizer=my/tokenizer.json --eos "<|end|>"
    Example: ladder data build demo --runner direct --runner-option direct_num_workers=4
    Example: ladder data tasks demo --choices 8 -o my-tasks
    Example: ladder data index my/tokens --dtype uint16 --tokenizer my/tokenizer.json

    Args:
        runner: build: on Apache Beam, by many processes or machines: direct (this machine), dataflow, flink or spark
        runner_option: options of the runner, as Beam names them
    """
    builds = what in ("build", "tasks")
    flags = {
        "tasks": tasks.given(),
        "index": indexing.given() | ({"eos": None} if builds else {}),
        "build": {"runner": runner, "runner_option": runner_option},
    }
    for other in flags:
        if other != what:
            refuse(f"with ladder data {what}", flags[other])
    if not builds:
        refuse(f"with ladder data {what}", {"corpora": corpora != CORPORA})
    if what == "index":
        token_index.index(name, overrides, indexing)
    elif what in ("olmes", "paper"):
        _fetch(what, name)
    elif name is None:
        raise InputError(f"ladder data {what}: name a ladder, for example: ladder data {what} demo")
    else:
        beam = _beam(runner, runner_option)
        named = () if indexing.eos is None else (f"data.eos={indexing.eos}",)
        ladder = loader.overridden(loader.load(name), overrides + named)
        _make_tasks(ladder, as_path(corpora), tasks) if what == "tasks" else _build(ladder, as_path(corpora), beam)


def _fetch(what: str, name: str | None) -> None:
    from launch.fetch import olmes, paper_runs

    if name is not None:
        raise InputError(f"ladder data {what} takes no {name!r}; leave it out")
    print(olmes.install() if what == "olmes" else paper_runs.install())


def _build(ladder, corpora: Path, beam) -> None:
    from launch import prepare

    built = prepare.build(ladder, corpora, beam)
    for corpus_hash, directory in built.corpora.items():
        print(f"{corpus_hash}  {directory}")
        for counts in prepare.sources(directory):
            without = f"; {counts['null_texts']:,} without a text (null) skipped" if counts["null_texts"] else ""
            print(f"  {counts['source']}: {counts['documents']:,} documents, {counts['bytes']:,} bytes{without}")
    display.flags(epochs.notes(built.ladder))
    if beam:
        print(
            "set the corpus to its hash (data.corpus=HASH, or corpus=HASH of a Source): then other commands open it and"
        )
        print("do not read the text again in one process")


def _make_tasks(ladder, corpora: Path, flags: held_out_tasks.Flags) -> None:
    from ladder.data import sources
    from launch import prepare

    held_out_tasks.settings(flags)  # before the corpora are built
    built = prepare.build(ladder, corpora)
    rung = built.ladder.rungs[0]
    named = {s.name: (s.format, s.corpus) for s in rung.data.sources} or {"": ("text", rung.data.corpus)}
    formats = {built.corpora[corpus]: source_format for source_format, corpus in named.values()}

    def opened(folder):
        tokenizer = built.tokenizers.get(rung.data.tokenizer_hash)
        return sources.open_source(formats[folder], folder, rung.model.seq_len, tokenizer)

    folders = {name: built.corpora[corpus] for name, (_, corpus) in named.items()}
    display.tables([held_out_tasks.write(ladder.name, folders, opened, flags)], terminal.console())
    out = held_out_tasks.folder_of(ladder.name, flags)
    print(
        f"{out / held_out_tasks.CARD} holds settings and hashes; to score a run: ladder eval RUN --tasks {out}/*.jsonl"
    )


def _beam(runner: str | None, options: tuple[str, ...]):
    """The Beam that is asked for; None where corpora are built by this process."""
    from ladder.data.sharded.environment import Beam

    if runner is None:
        refuse("without --runner", {"runner_option": options})
        return None
    return Beam(runner, options)
