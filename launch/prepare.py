"""From a ladder to run directories: build its corpora, fill in their hashes, write every config.json."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from ladder.config import NUMERICS_VERSION, Data, Ladder, Rung, canonical_json, to_dict
from ladder.errors import InputError
from ladder.rundir import config_file
from ladder.rundir.files import absolute, as_path, read_json
from ladder.rundir.record import Record
from ladder.sizes import n_params
from launch import epochs

PACKAGES = ("ladder-lm", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


@dataclass(frozen=True)
class Built:
    """A ladder whose corpora are built: every rung has its corpus and tokenizer hashes, so its run_id is final.

    corpora: {corpus hash: its folder, of token files that of their index}. notes: a line for each thing that a user
    should know of the data, such as documents that were left out. tokenizers: {hash: folder} of those of token files.
    """

    ladder: Ladder
    corpora: dict[str, Path]
    notes: tuple[str, ...] = ()
    tokenizers: dict[str, Path] = field(default_factory=dict)


def check_tasks(ladder: Ladder) -> None:
    """Raise InputError where a task's requests are missing: now, not hours later at the first evaluation."""
    from ladder.evaluation import tasks

    for task in sorted({task for rung in ladder.all for task in tasks.expand(rung.eval.tasks)}):
        tasks.load_task(task)


def check_tokenizers(ladder: Ladder, named: bool) -> None:
    """Raise InputError where a tokenizer.json cannot be used, or where a tokenizer does not fit a model.

    One that does not exist (yet) is an error only where the user has `named` it.
    """
    files = {rung.data.tokenizer for rung in ladder.all if rung.data.tokenizer.endswith(".json")}
    sizes = {"bytes": 256}
    if existing := sorted(file for file in files if named or as_path(file).exists()):
        from ladder.data import tokenizer

        sizes |= {file: tokenizer.load(file).vocab_size for file in existing}
    for rung in ladder.all:
        _check_vocabulary(rung, sizes.get(rung.data.tokenizer, 0))


def build(ladder: Ladder, corpora: Path, beam=None) -> Built:
    """Build the corpora of the rungs, unless they exist; with `beam` (sharded.environment.Beam) on Apache Beam.

    Raises InputError where a tokenizer does not fit a model, or a rung would read a source more often than its
    max_epochs."""
    from ladder.data import documents
    from ladder.data import sources as data_sources
    from ladder.data.sharded import texts
    from ladder.data.storage.locations import location, real
    from ladder.data.tokens.source import TokenSource, tokenizer_folder

    check_tokenizers(ladder, named=False)
    rungs = {(rung.data, rung.model.seq_len): rung for rung in ladder.all}
    how = {"progress": sys.stderr.isatty(), "read": texts.reader(beam) if beam else documents.opened}
    built = {key: data_sources.build(*key, corpora, **how) for key in rungs}
    for key, rung in rungs.items():
        _check_vocabulary(rung, built[key][0].vocab_size)
        epochs.remember(*key, built[key], corpora)
    for rung in ladder.all:
        of_rung = built[rung.data, rung.model.seq_len]
        epochs.check(rung, epochs.uses(rung, [corpus.windows["train"] * corpus.seq_len for corpus in of_rung]))

    ladder = ladder.map(lambda rung: replace(rung, data=_with_hashes(rung.data, built[rung.data, rung.model.seq_len])))
    opened = {c.hash: c for of_rung in built.values() for c in of_rung}
    token_files = [c for c in opened.values() if isinstance(c, TokenSource)]
    indexes = {c.hash: location(real(c.directory)) for c in token_files}
    folders = {h: indexes.get(h) or _sealed(c.directory) for h, c in opened.items()}
    tokenizers = {c.tokenizer_hash: absolute(tokenizer_folder(corpora, c.tokenizer_hash)) for c in token_files}
    skipped = tuple(line for h, folder in folders.items() if h not in indexes for line in _skipped(folder))
    return Built(ladder, folders, skipped + epochs.notes(ladder), tokenizers)


def _with_hashes(data: Data, corpora: Sequence) -> Data:
    from ladder.data import sources as data_sources

    shared = {"tokenizer_hash": corpora[0].tokenizer_hash, "eos": data_sources.eos(data, corpora)}
    if not data.sources:
        return replace(data, corpus=corpora[0].hash, **shared)
    hashed = tuple(replace(source, corpus=c.hash) for source, c in zip(data.sources, corpora, strict=True))
    return replace(data, sources=hashed, **shared)


def sources(corpus: Path) -> list[dict]:
    """What each source of a corpus held when it was built: {"source", "documents", "bytes", "null_texts"}; nothing of
    the index of token files."""
    from ladder.data.seal import CARD

    if not (corpus / CARD).exists():
        return []
    # Corpora of earlier versions name no sources, or do not count the documents whose text is null.
    return [{"null_texts": 0} | counts for counts in read_json(corpus / CARD).get("sources", [])]


def _skipped(corpus: Path) -> list[str]:
    """A line for each source some of whose documents were skipped because their text is null."""
    rows = [row for row in sources(corpus) if row["null_texts"]]
    return [f"{row['source']}: {row['null_texts']:,} documents without a text (null) skipped" for row in rows]


def _sealed(directory) -> Path:
    """Seal a corpus that was built before corpora were sealed; returns the corpus's absolute folder."""
    from ladder.data import seal

    seal.write(directory)
    return absolute(directory)


def write(built: Built, rungs: tuple[Rung, ...], root: Path) -> list[Path]:
    """Write the run directory and config.json of each of `rungs`, in order; everything else in it is kept.

    The config.json of a finished run is not rewritten: its run_id already says that its numbers are those asked for.
    """
    return [_write(built, rung, root / built.ladder.name / rung.run_id) for rung in rungs]


def write_group(built: Built, rungs: tuple[Rung, ...], root: Path) -> Path:
    """Run directories of rungs that are trained together (loop/group.py); returns the first: training it trains all.

    Raises InputError where one of them was begun alone or in another group.
    """
    from ladder.loop.group import identity

    run_ids = [rung.run_id for rung in rungs]
    group = {"id": identity(run_ids), "members": run_ids}
    folder = root / built.ladder.name
    for run_id in run_ids:
        begun = (folder / run_id / "metrics").exists()
        if begun and Record(folder / run_id).read_config().get("group") != group:
            raise InputError(f"{folder / run_id}: was begun alone or in another group; leave it out, or delete it")
    directories = [_write(built, rung, folder / rung.run_id, group) for rung in rungs]
    return directories[0]


def write_fit(built: Built, rungs: tuple[Rung, ...], root: Path) -> Path | None:
    """The directory of the fit of these runs, named by a hash of their run_ids; None where there is no target."""
    if not built.ladder.targets:
        return None
    runs = [rung.run_id for rung in rungs if rung not in built.ladder.targets]
    run_id = f"fit-{hashlib.sha256(canonical_json(sorted(runs)).encode()).hexdigest()[:8]}"
    directory = root / built.ladder.name / "fit" / run_id
    targets = [
        {"name": t.label, "n_params": float(n_params(t.model)), "tokens": float(t.steps * t.batch_tokens)}
        for t in built.ladder.targets
    ]
    config = {"run_id": run_id, "ladder": built.ladder.name, "runs": runs, "targets": targets, "resamples": 200}
    Record(directory).write_config(config | {"derived": {"steps": 0}})
    return directory


def _write(built: Built, rung: Rung, directory: Path, group: dict | None = None) -> Path:
    record = Record(directory)
    existing = record.read_config() if (directory / "config.json").exists() else {}
    if existing and record.is_done() and existing["derived"]["steps"] >= rung.steps:
        return directory
    parent = built.ladder.parent_of(rung)
    config = {
        "run_id": rung.run_id,
        "numerics_version": NUMERICS_VERSION,
        "ladder": built.ladder.name,
        "split": "target" if rung in built.ladder.targets else "train",
        "rung": to_dict(rung),
        "derived": config_file.derived(rung, parent and parent.run_id),
        **_folders(built, rung.data),
        "packages": existing.get("packages") or packages(),  # of the first attempt
    }
    if group := group or existing.get("group"):  # a run begun in a group continues in that group
        config["group"] = group
    record.write_config(config)
    return directory


def _folders(built: Built, data: Data) -> dict:
    """Where the run finds its corpora."""
    if data.sources:
        folders = {"corpus_dirs": [str(built.corpora[source.corpus]) for source in data.sources]}
        if any(source.format == "tokens" for source in data.sources):
            folders["tokenizer_dir"] = str(built.tokenizers[data.tokenizer_hash])
        return folders
    return {"corpus_dir": str(built.corpora[data.corpus])}


def packages() -> dict[str, str]:
    """Versions of the packages that affect the numbers."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _check_vocabulary(rung: Rung, vocab_size: int) -> None:
    if vocab_size > rung.model.vocab_size:
        raise InputError(
            f"rung {rung.label}: data.tokenizer = {rung.data.tokenizer!r} has {vocab_size} tokens, model.vocab_size is "
            f"only {rung.model.vocab_size}; set model.vocab_size={-(-vocab_size // 128) * 128}"
        )
