"""The part of a rung's configuration that says which tokens are read, and in which order. Imports no jax."""

import hashlib
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from ladder.errors import check as _check

POSITIONS = 1 << 16  # after so many windows the order of a mixture's sources repeats
# Bumped by hand when the same weights would give another order (data/mixture.py).
ORDER_VERSION = 1
MOST_ID = 2**31 - 1  # of token ids: int32
INF = float("inf")
Format = Literal["text", "tokens"]


@dataclass(frozen=True)
class Source:
    """One source of a mixture.

    name: in the plan, and of its validation task, validation/NAME. text, field, max_bytes: as in Data.
    weight: the source's share of the training tokens, relative to the weights of the others.
    max_epochs: a rung that would read the source more often is refused; None: it is only marked in the plan.
    format: how the source is stored; the reader of each is chosen in data/sources.py. "tokens": `text` names token
    files that have an index (`ladder data index`), or the folder of the index, on a disk or gs://...; they are read in
    place.
    corpus: content hash, filled in when the source is built, for tokens that of the index; it and the weight enter
    run_id.
    """

    name: str
    text: tuple[str, ...]
    weight: float
    max_epochs: float | None = None
    field: str = "text"
    format: Format = "text"
    max_bytes: int | None = None
    corpus: str = ""

    def __post_init__(self):
        _check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", self.name) is not None,
            f"data.sources: name = {self.name!r}: must have at most 40 letters, digits, dashes and underscores",
        )
        where = f"data.sources.{self.name}"
        _check(
            not isinstance(self.text, str), f"{where}.text = {self.text!r}: write a tuple of paths, ({self.text!r},)"
        )
        _check(len(self.text) > 0, f'{where}.text is empty: name a file, a folder, "python" or "tfds:NAME"')
        _check(0 <= self.weight < INF, f"{where}.weight = {self.weight}: must be positive and finite")
        _check(
            self.max_epochs is None or 0 < self.max_epochs < INF,
            f"{where}.max_epochs = {self.max_epochs}: must be positive and finite, or None",
        )
        _check(self.max_bytes is None or self.max_bytes > 0, f"{where}.max_bytes = {self.max_bytes}: must be positive")
        known = get_args(Format)
        _check(self.format in known, f"{where}.format = {self.format!r}: choose one of {', '.join(known)}")
        of_text = {"field": self.field != "text", "max_bytes": self.max_bytes is not None}
        for field, given in of_text.items():
            reason = f'is for text, but {where}.format = "{self.format}"; leave it out'
            _check(self.format == "text" or not given, f"{where}.{field} {reason}")


@dataclass(frozen=True)
class Phase:
    """Other weights from some step of a run on.

    weights: of each source in order; 0 leaves a source out. start: the share of the run's steps before it; None: it
    starts where the decay of the learning rate does.
    """

    weights: tuple[float, ...]
    start: float | None = None

    def __post_init__(self):
        _check(
            all(0 <= weight < INF for weight in self.weights) and any(self.weights),
            f"data.phases: weights = {self.weights}: must not be negative, infinite or all 0",
        )
        _check(
            self.start is None or 0 < self.start < 1,
            f"data.phases: start = {self.start}: must lie between 0 and 1, or be None for the start of the decay",
        )


@dataclass(frozen=True)
class Data:
    """Where the tokens come from: the text of one source, or a mixture of several.

    text: sources: "python" (the sources of the standard library and of this project's dependencies), folders, files
    (plain text, JSON lines or Parquet with the text in `field`, also by gzip or zstd) or "tfds:NAME[/CONFIG][:SPLIT]".
    tokenizer: "bytes", "bpe:SIZE" (trained on the text) or the path of a tokenizer.json.
    validation: fraction of the text (of each source) that is held out. max_bytes: read at most this much text.
    corpus, tokenizer_hash: content hashes, filled in when the corpus is built; of this class only they (and of
    `sources` the corpora and the weights) enter run_id.
    sources: a mixture, instead of text, field, max_bytes and corpus. All sources share the tokenizer; a BPE is trained
    on a sample of them by weight.
    phases: of the mixture, after the one with the sources' own weights. A trunk has none; its branches do.
    simulate_epochs_of: the label of a target. Each rung then repeats each source as often as that target will, by
    reading a subset of it (simulated_epochs.py). None: every run reads from the whole of each source.
    mask_documents: attention and positions stay within a document, in training and in the validation text; enters
    run_id where it is set. eos_id: the id that ends a document, filled in for it when the corpus is built.
    eos: the name of the token that ends a document, such as "<|end|>": one of the special tokens of the tokenizer.json.
    None: the first of tokenizer.SEPARATORS that it has. The tokenizer's hash depends on it.
    """

    text: tuple[str, ...] = ("python",)
    tokenizer: str = "bytes"
    field: str = "text"
    validation: float = 0.02
    max_bytes: int | None = None
    corpus: str = ""
    tokenizer_hash: str = ""
    sources: tuple[Source, ...] = ()
    phases: tuple[Phase, ...] = ()
    simulate_epochs_of: str | None = None
    mask_documents: bool = False
    eos_id: int | None = None
    eos: str | None = None

    def __post_init__(self):
        _check(
            self.eos_id is None or (self.mask_documents and 0 <= self.eos_id <= MOST_ID),
            f"data.eos_id = {self.eos_id}: is filled in when data.mask_documents is set; leave it out",
        )
        if self.eos is not None:
            self._check_eos()
        if self.sources:
            self._check_sources()
            object.__setattr__(self, "text", ())
        else:
            _check(not self.phases, "data.phases: only a mixture has phases; set data.sources, or leave them out")
        _check(
            len(self.text) > 0 or len(self.sources) > 0,
            'data.text is empty: name a file, a folder, "python" or "tfds:NAME"',
        )
        _check(0 < self.validation < 0.5, f"data.validation = {self.validation}: must lie between 0 and 0.5")
        _check(self.max_bytes is None or self.max_bytes > 0, f"data.max_bytes = {self.max_bytes}: must be positive")
        bpe = re.fullmatch(r"bpe:(\d+)", self.tokenizer)
        valid = self.tokenizer == "bytes" or bpe or self.tokenizer.endswith(".json")
        _check(valid, f'data.tokenizer = {self.tokenizer!r}: write "bytes", "bpe:8000" or the path of a tokenizer.json')
        _check(not bpe or int(bpe[1]) >= 300, f"data.tokenizer = {self.tokenizer!r}: a BPE needs at least 300 tokens")
        _check(
            not bpe or int(bpe[1]) <= MOST_ID, f"data.tokenizer = {self.tokenizer!r}: must be at most 2^31 - 1 tokens"
        )

    def _check_eos(self) -> None:
        _check(
            self.tokenizer.endswith(".json"),
            f"data.eos = {self.eos!r}: only a tokenizer.json has other tokens to end a document; set data.tokenizer to "
            "its path, or leave data.eos out",
        )
        for source in self.sources:
            _check(
                source.format == "text",
                f"data.eos = {self.eos!r}: source {source.name} is tokens already, whose index says which id ends a "
                "document; leave data.eos out",
            )

    def _check_sources(self) -> None:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        _check(not twice, f"data.sources: {', '.join(twice)} is named twice; rename one")
        unused = {"text": self.text not in ((), ("python",)), "field": self.field != "text"}
        unused |= {"max_bytes": self.max_bytes is not None, "corpus": self.corpus != ""}
        for field, given in unused.items():
            _check(not given, f"data.{field} and data.sources exclude each other; set it on a source, or leave it out")
        for phase in self.phases:
            _check(
                len(phase.weights) == len(names),
                f"data.phases: weights = {phase.weights}: give {len(names)} weights, of {', '.join(names)}",
            )
        for source in self.sources:
            _check(
                source.format != "tokens" or not self.tokenizer.startswith("bpe:"),
                f"data.tokenizer = {self.tokenizer!r}: source {source.name} is tokens already; set data.tokenizer to "
                "the tokenizer.json that made them",
            )
        starts = [phase.start for phase in self.phases if phase.start is not None]
        _check(starts == sorted(set(starts)), f"data.phases: they start at {starts}; list them in order, none twice")
        for i, source in enumerate(self.sources):
            later = [phase.weights[i] for phase in self.phases]
            _check(
                source.weight > 0 or any(later),
                f"data.sources.{source.name}.weight = {source.weight}: must be positive (0 where a phase of"
                " data.phases reads the source)",
            )
        _check(any(source.weight for source in self.sources), "data.sources: all weights are 0; raise one")
        for weights in self._weights_of_phases:
            for source, weight, share in zip(self.sources, weights, _normalised(weights), strict=True):
                _check(
                    weight == 0 or share * POSITIONS >= 1,
                    f"data.sources.{source.name}.weight = {weight}: {float(share):.2g} of the tokens, fewer than "
                    f"one window in {POSITIONS:,}; raise the weight, or leave the source out",
                )

    @property
    def _weights_of_phases(self) -> list[tuple[float, ...]]:
        return [tuple(source.weight for source in self.sources), *(phase.weights for phase in self.phases)]

    @property
    def shares(self) -> tuple[int, ...]:
        """How many windows of every POSITIONS come from each source, before any phase: the weights, rounded."""
        return self.shares_of_phases[0]

    @property
    def shares_of_phases(self) -> tuple[tuple[int, ...], ...]:
        """`shares`, and the same of each of `phases`."""
        return tuple(_rounded(weights) for weights in self._weights_of_phases)

    @property
    def content(self) -> str:
        """Identifies the training tokens and their order, once all corpora are built: the hash of the corpus, for a
        mixture one of its corpora, shares and order. A mixture of one source is that source."""
        if len(self.sources) < 2:
            return self.sources[0].corpus if self.sources else self.corpus
        pairs = [[source.corpus, share] for source, share in zip(self.sources, self.shares, strict=True)]
        hashed: dict = {"order": ORDER_VERSION, "sources": pairs}
        if self.phases:
            starts = [phase.start for phase in self.phases]
            hashed["phases"] = [*map(list, zip(starts, self.shares_of_phases[1:], strict=True))]
        content = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def windows_of_subset(windows: int, subset: float) -> int:
    """How many windows a run reads of a split that has `windows`, if it reads the share `subset` of it."""
    return max(1, round(subset * windows))


def _normalised(weights: tuple[float, ...]) -> list[Fraction]:
    """The weights as exact shares of one, so that no share depends on the order of a sum."""
    exact = [Fraction(weight) for weight in weights]
    return [weight / sum(exact) for weight in exact]


def _rounded(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Whole numbers of POSITIONS by the largest remainder; 0 stays 0."""
    exact = [share * POSITIONS for share in _normalised(weights)]
    shares = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: POSITIONS - sum(shares)]:
        shares[i] += 1
    return tuple(shares)
