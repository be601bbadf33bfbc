"""How often each run reads each of its sources, from the sizes of the corpora that were built for them.

Which corpus was built for a source stands in CORPORA/built/, so that a plan knows it without reading the text again. If
the text has changed since, the plan shows the earlier size until the corpus is built again.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ladder.config import Data, Ladder, Rung, canonical_json
from ladder.data_config import Source, windows_of_subset
from ladder.errors import InputError
from ladder.rundir.files import read_json, write_atomic

FOLDER = "built"
# Up to here repeated tokens are worth nearly as much as new ones (Muennighoff et al. 2023, section 6).
FEW_EPOCHS = 4


@dataclass(frozen=True)
class SourceUse:
    """What a run reads of a source. name: "text" where the config names no sources. share: of the run's tokens. tokens:
    the run's that come from it, to within one window. unique_tokens: of its training split, or of the subset of it that
    the run reads; None: not built yet. repeats_subset: whether the run was told how much of it to repeat (its
    unique_tokens)."""

    name: str
    share: float
    tokens: int
    unique_tokens: int | None
    max_epochs: float | None
    repeats_subset: bool = False

    @property
    def epochs(self) -> float | None:
        return None if self.unique_tokens is None else self.tokens / self.unique_tokens

    @property
    def is_refused(self) -> bool:
        return self.epochs is not None and self.max_epochs is not None and self.epochs > self.max_epochs

    @property
    def is_flagged(self) -> bool:
        """Where neither a limit nor repetition is asked for: whether it is read so often that repeated tokens are worth
        less than new ones."""
        is_free = self.max_epochs is None and not self.repeats_subset
        return self.epochs is not None and is_free and self.epochs > FEW_EPOCHS


def uses(rung: Rung, unique_tokens: Sequence[int | None]) -> tuple[SourceUse, ...]:
    """unique_tokens: of the training split of each source in order; None where it is not built yet."""
    tokens, sources = rung.steps * rung.batch_tokens, rung.data.sources
    names = [(source.name, source.max_epochs) for source in sources] or [("text", None)]
    read = [_read_of(unique, rung, i) for i, unique in enumerate(unique_tokens)]
    return tuple(
        SourceUse(name, float(share), int(share * tokens), unique, most, rung.unique_tokens is not None)
        for (name, most), share, unique in zip(names, rung.shares, read, strict=True)
    )


def _read_of(unique_tokens: int | None, rung: Rung, i: int) -> int | None:
    """How many of the unique tokens of source i the run reads: all, or those of its subset."""
    seq_len = rung.model.seq_len
    if rung.unique_tokens is not None:
        return rung.unique_tokens // seq_len * seq_len
    if unique_tokens is None or not rung.subsets:
        return unique_tokens
    return windows_of_subset(unique_tokens // seq_len, rung.subsets[i]) * seq_len


def check(rung: Rung, rung_uses: Iterable[SourceUse]) -> None:
    """Raise InputError where a run would read a source more often than its max_epochs."""
    for use in rung_uses:
        if use.is_refused:
            where = f"data.sources.{use.name}"
            raise InputError(
                f"rung {rung.label}: reads source {use.name} {use.epochs:.3g} times, more than "
                f"{where}.max_epochs = {use.max_epochs:g}; set {_weight_that_fits(rung, use)}{where}.max_epochs="
                f"{use.epochs:.3g} (rounded up), or add text"
            )


def _weight_that_fits(rung: Rung, use: SourceUse) -> str:
    """Of its weight, where one weight decides."""
    share = use.share * use.max_epochs / use.epochs
    if rung.data.phases:
        return ""
    others = sum(source.weight for source in rung.data.sources if source.name != use.name)
    return f"data.sources.{use.name}.weight={others * share / (1 - share):.3g} or " if others else ""


def remember(data: Data, seq_len: int, corpora: Sequence, root: Path) -> None:
    """Write down which corpora were built for the sources of `data`."""
    for source, key, corpus in zip(data.sources or [data], _keys(data, seq_len), corpora, strict=True):
        if _is_tokens(source):
            continue  # their index says it
        path = root / FOLDER / f"{key}.json"
        if _read(path) != (value := {"corpus": corpus.hash}):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, canonical_json(value))


def built(data: Data, seq_len: int, root: Path) -> list[str | None]:
    """The hash of the corpus that was built for each source of `data`; None where none is known. Token files have none
    there."""
    named = zip(data.sources or [data], _keys(data, seq_len), strict=True)
    return [None if _is_tokens(source) else _built(key, root) for source, key in named]


def planned(ladder: Ladder, root: Path | None) -> dict[str, tuple[SourceUse, ...]]:
    """{run_id: what the run reads of its sources}, as far as their corpora are built in `root` (None: they are not)."""
    sizes: dict[tuple[Data, int], list[int | None]] = {}
    for rung in ladder.all:
        key = rung.data, rung.model.seq_len
        if key not in sizes:
            named = zip(rung.data.sources or [rung.data], _keys(*key), strict=True)
            sizes[key] = [_unique_tokens(source, name, rung.model.seq_len, root) for source, name in named]
    return {rung.run_id: uses(rung, sizes[rung.data, rung.model.seq_len]) for rung in ladder.all}


def notes(ladder: Ladder) -> tuple[str, ...]:
    """What a user should know of the token files of a ladder, a line each."""
    lines: dict[str, None] = {}
    for rung in ladder.all:
        for source in filter(_is_tokens, rung.data.sources):
            from ladder.data.tokens import source as token_source

            lines |= dict.fromkeys(token_source.notes(source, rung.model.seq_len, rung.data.tokenizer))
    return tuple(lines)


def _is_tokens(source: Source | Data) -> bool:
    return getattr(source, "format", "text") == "tokens"


def _unique_tokens(source: Source | Data, key: str, seq_len: int, root: Path | None) -> int | None:
    if _is_tokens(source):
        from ladder.data.tokens import source as token_source

        return token_source.train_tokens(source, seq_len)
    if root is None:
        return None
    corpus = _built(key, root)
    windows = _read(root / corpus / "card.json").get("windows") if corpus else None
    return windows["train"] * seq_len if windows else None


def _built(key: str, root: Path) -> str | None:
    return _read(root / FOLDER / f"{key}.json").get("corpus")


def _keys(data: Data, seq_len: int) -> list[str]:
    """For each source a hash of all that its tokens are made from."""
    sources = data.sources or [data]
    texts = [_text(source) for source in sources]
    shared = [data.tokenizer, data.validation, seq_len] + ([data.eos] if data.eos else [])
    if data.sources and data.tokenizer.startswith("bpe:"):  # trained on all texts, by weight
        shared += [texts, data.shares]
    return [hashlib.sha256(canonical_json([text, shared]).encode()).hexdigest()[:16] for text in texts]


def _text(source: Source | Data) -> list:
    return [source.text, source.field, source.max_bytes, getattr(source, "format", "text")]


def _read(path: Path) -> dict:
    """The content of a JSON file; empty where it is absent or damaged."""
    try:
        return read_json(path)
    except (InputError, OSError):
        return {}
