"""From a ladder to run directories: build its corpora, fill in their hashes, write every config.json."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from ladder.config import NUMERICS_VERSION, Data, Ladder, Model, Rung, canonical_json, to_dict
from ladder.errors import InputError
from ladder.parallel import layout
from ladder.rundir import config_file
from ladder.rundir.files import absolute, as_path, read_json
from ladder.rundir.record import Record
from ladder.sizes import n_params
from ladder.topologies import Slice
from launch import epochs

PACKAGES = ("ladder-lm", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


@dataclass(frozen=True)
class Built:
    """A ladder whose corpora are built: every rung has its corpus and tokenizer hashes, so its run_id is final.

    corpora: {corpus hash: its folder, of token files that of their index}. notes: a line for each thing that a user
    should know of the data, such as documents that were left out. tokenizers: {hash: folder} of those of token files.
    windows: {corpus hash: of its training split}. published: the shape of each model that a rung starts from, by its
    path (Rung.init_from).
    """

    ladder: Ladder
    corpora: dict[str, Path]
    notes: tuple[str, ...] = ()
    tokenizers: dict[str, Path] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    published: dict[str, Model] = field(default_factory=dict)


def check_tasks(ladder: Ladder) -> None:
    """Raise InputError where a task's requests are missing: now, not hours later at the first evaluation."""
    from ladder.evaluation import tasks

    for task in sorted({task for rung in ladder.all for task in tasks.expand(rung.eval.tasks)}):
        check_task(task)


def check_task(name: str) -> None:
    """Raise InputError where a task cannot be read, or has no questions."""
    from ladder.evaluation import tasks

    if not tasks.load_task(name).docs:
        raise InputError(f"eval.tasks: {name} has no questions; name another file, or leave it out")


def check_layouts(rungs: Sequence[Rung], slice_of: Callable[[str], Slice], slices: int) -> None:
    """Raise InputError where the layout of a rung does not fit its devices. slice_of: the slice of a size."""
    for rung in rungs:
        tpu = slice_of(rung.size)
        try:
            replica, fsdp, tensor, _ = layout.shape(rung.mesh, tpu.devices * slices, slices)
        except InputError as error:
            raise InputError(f"rung {rung.label} on {slices} x {tpu.kind}:{tpu.topology}: {error}") from None
        layout.check_batch(rung, replica * fsdp, tensor)


def check_data(rung: Rung, corpora: Sequence) -> None:
    """Raise InputError where a tokenizer does not fit the model, or a source is read more often than its max_epochs.

    corpora: of the sources of the rung in order; None where one is not built yet.
    """
    for vocab_size in {corpus.vocab_size for corpus in corpora if corpus}:
        _check_vocabulary(rung, vocab_size)
    unique_tokens = [corpus and corpus.windows["train"] * rung.model.seq_len for corpus in corpora]
    epochs.check(rung, epochs.uses(rung, unique_tokens))


def check_batch(rung: Rung, built: Built) -> None:
    """Raise InputError where a batch takes more windows of a source than there are."""
    seq_len = rung.model.seq_len
    windows = [built.windows.get(source.corpus) for source in rung.data.sources or [rung.data]]
    for use in epochs.uses(rung, [n and n * seq_len for n in windows]):
        taken = int(use.share * rung.batch_sequences)
        if use.unique_tokens is not None and taken > (least := use.unique_tokens // seq_len):
            source = "the text" if use.name == "text" else f"source {use.name}"
            raise InputError(
                f"rung {rung.label}: each batch takes {taken:,} windows of {seq_len:,} tokens from {source}, which has "
                f"only {least:,}, so it would hold some twice; add text, or set batch_tokens lower"
            )


def check_tokenizers(ladder: Ladder, named: bool) -> None:
    """Raise InputError where a tokenizer.json cannot be used, or where a tokenizer does not fit a model.

    One that does not exist (yet) is an error only where the user has `named` it.
    """
    files = {rung.data.tokenizer: rung.data.eos for rung in ladder.all if rung.data.tokenizer.endswith(".json")}
    sizes = {"bytes": 256}
    if existing := sorted(file for file in files if named or as_path(file).exists()):
        from ladder.data import tokenizer

        sizes |= {file: tokenizer.load(file, files[file]).vocab_size for file in existing}
    for rung in ladder.all:
        _check_vocabulary(rung, sizes.get(rung.data.tokenizer, 0))


def build(ladder: Ladder, corpora: Path, beam=None) -> Built:
    """Build the corpora of the rungs, unless they exist; with `beam` (sharded.environment.Beam) on Apache Beam.

    Raises InputError where `check_data` finds something.
    """
    from ladder.data import documents
    from ladder.data import sources as data_sources
    from ladder.data.sharded import texts
    from ladder.data.storage.locations import location, real
    from ladder.data.tokens.source import TokenSource, tokenizer_folder

    check_tokenizers(ladder, named=False)
    rungs = dict.fromkeys((rung.data, rung.model.seq_len) for rung in ladder.all)
    how = {"progress": sys.stderr.isatty(), "read": texts.reader(beam) if beam else documents.opened}
    built = {key: data_sources.build(*key, corpora, **how) for key in rungs}
    for key in rungs:
        epochs.remember(*key, built[key], corpora)
    for rung in ladder.all:
        check_data(rung, built[rung.data, rung.model.seq_len])
    ladder, published = with_published(ladder)
    for rung in [rung for rung in ladder.all if rung.init_from]:
        _check_tokenizer(rung, published[rung.init_from], built[rung.data, rung.model.seq_len][0].tokenizer)
    ladder = ladder.map(lambda rung: _with_corpora(rung, built[rung.data, rung.model.seq_len]))
    opened = {c.hash: c for of_rung in built.values() for c in of_rung}
    token_files = [c for c in opened.values() if isinstance(c, TokenSource)]
    indexes = {c.hash: location(real(c.directory)) for c in token_files}
    folders = {h: indexes.get(h) or _sealed(c.directory) for h, c in opened.items()}
    tokenizers = {c.tokenizer_hash: absolute(tokenizer_folder(corpora, c.tokenizer_hash)) for c in token_files}
    skipped = tuple(line for h, folder in folders.items() if h not in indexes for line in _skipped(folder))
    windows = {h: c.windows["train"] for h, c in opened.items()}
    return Built(
        ladder,
        folders,
        skipped + epochs.notes(ladder),
        tokenizers,
        windows,
        {path: of.model for path, of in published.items()},
    )


def with_published(ladder: Ladder) -> tuple[Ladder, dict]:
    """The ladder with the hash of the weights that each rung starts from (Rung.init_from), and those models by path.

    Raises InputError where a model cannot be read.
    """
    paths = {rung.init_from: str(absolute(rung.init_from)) for rung in ladder.all if rung.init_from}
    if not paths:
        return ladder, {}
    from ladder.convert import pretrained

    models = {path: pretrained.open_model(path) for path in paths.values()}
    hashes = {path: pretrained.content_hash(path) for path in models}

    def started(rung: Rung) -> Rung:
        path = paths.get(rung.init_from)
        return rung if path is None else replace(rung, init_from=path, init_hash=hashes[path])

    return ladder.map(started), models


def _check_tokenizer(rung: Rung, published, own) -> None:
    """Raise InputError where the model that a rung starts from has another tokenizer than its corpora, `own`."""
    from ladder.data import tokenizer

    if not tokenizer.same_ids(published.tokenizer, own):
        folder = Path(rung.init_from)
        name = folder / tokenizer.FILE if folder.is_dir() else "the tokenizer.json of that model"
        reason = f"init_from = {rung.init_from!r} has another tokenizer than data.tokenizer = {rung.data.tokenizer!r}"
        raise InputError(f"rung {rung.label}: {reason}; set data.tokenizer={name}")


def _with_corpora(rung: Rung, corpora: Sequence) -> Rung:
    """The rung with the hashes of its corpora, and the share of the text that its unique_tokens are.

    Raises InputError where the text has fewer tokens.
    """
    subsets = rung.subsets
    if rung.unique_tokens is not None:
        seq_len, windows = rung.model.seq_len, corpora[0].windows["train"]
        if (wanted := rung.unique_tokens // seq_len) > windows:
            raise InputError(
                f"rung {rung.label}: unique_tokens = {rung.unique_tokens:,}, but its text has {windows * seq_len:,}"
                " tokens for training; add text, or set fewer"
            )
        subsets = (wanted / windows,)
    return replace(rung, data=with_hashes(rung.data, corpora), subsets=subsets)


def with_hashes(data: Data, corpora: Sequence) -> Data:
    """`data` with the hashes of its corpora and of their tokenizer. corpora: of each source; None: not built yet."""
    from ladder.data import sources as data_sources

    hashes = [corpus.hash if corpus else "" for corpus in corpora]
    shared = {"tokenizer_hash": next((corpus.tokenizer_hash for corpus in corpora if corpus), "")}
    if None not in corpora:
        shared["eos_id"] = data_sources.eos(data, corpora)
    if not data.sources:
        return replace(data, corpus=hashes[0], **shared)
    hashed = tuple(replace(source, corpus=h) for source, h in zip(data.sources, hashes, strict=True))
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
    """The directory of the fit of these runs, named by `fit_id`; None where there is no target."""
    run_id = fit_id(built.ladder, rungs)
    if run_id is None:
        return None
    runs = [rung.run_id for rung in rungs if rung not in built.ladder.targets]
    directory = root / built.ladder.name / "fit" / run_id
    targets = [
        {"name": t.label, "n_params": float(n_params(t.model)), "tokens": float(t.steps * t.batch_tokens)}
        for t in built.ladder.targets
    ]
    config = {"run_id": run_id, "ladder": built.ladder.name, "runs": runs, "targets": targets, "resamples": 200}
    Record(directory).write_config(config | {"derived": {"steps": 0}})
    return directory


def fit_id(ladder: Ladder, rungs: tuple[Rung, ...]) -> str | None:
    """The run_id of the fit of these runs, a hash of theirs; None where there is no target."""
    if not ladder.targets:
        return None
    runs = sorted(rung.run_id for rung in rungs if rung not in ladder.targets)
    return f"fit-{hashlib.sha256(canonical_json(runs).encode()).hexdigest()[:8]}"


def run_config(ladder: Ladder, rung: Rung) -> dict:
    """What config.json says of a rung, without the folders of its corpora and the packages."""
    parent = ladder.parent_of(rung)
    return {
        "run_id": rung.run_id,
        "numerics_version": NUMERICS_VERSION,
        "ladder": ladder.name,
        "split": "target" if rung in ladder.targets else "train",
        "rung": to_dict(rung),
        "derived": config_file.derived(rung, parent and parent.run_id),
    }


def _write(built: Built, rung: Rung, directory: Path, group: dict | None = None) -> Path:
    if rung.init_from and rung.kind != "branch":
        from ladder.convert import pretrained

        pretrained.check_shape(built.published[rung.init_from], rung)
    record = Record(directory)
    existing = record.read_config() if (directory / "config.json").exists() else {}
    if existing and record.is_done() and existing["derived"]["steps"] >= rung.steps:
        return directory
    config = run_config(built.ladder, rung) | _folders(built, rung.data)
    config["packages"] = existing.get("packages") or packages()  # of the first attempt
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
