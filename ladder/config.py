"""The configuration of a rung: frozen dataclasses, checked on construction, with a canonical JSON form and a run_id.

Nothing here imports jax: a ladder can be planned, listed and submitted without it.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Literal

from ladder.data_config import POSITIONS
from ladder.data_config import Data as Data
from ladder.data_config import Phase as Phase
from ladder.data_config import Source as Source
from ladder.errors import check as _check
from ladder.model_config import Model as Model
from ladder.optimizer_config import Optimizer as Optimizer
from ladder.simulated_epochs import with_subsets

# Bumped by hand whenever the same config would give different numbers (a change of model, optimizer, data order ...).
NUMERICS_VERSION = 1

INF = float("inf")
MOST_TOKENS = 2**63 - 1
Kind = Literal["full", "trunk", "branch"]


@dataclass(frozen=True)
class Eval:
    """The evaluation of a rung as it trains, every `every` steps (0: never) and always at the last step.

    max_docs: of each task; None for all. validation_tokens: about how many tokens of validation text are scored.
    """

    tasks: tuple[str, ...] = ()
    every: int = 0
    max_docs: int | None = None
    validation_tokens: int = 1 << 20

    def __post_init__(self):
        _check(self.every >= 0, f"eval.every = {self.every}: must not be negative")
        _check(self.max_docs is None or self.max_docs >= 1, f"eval.max_docs = {self.max_docs}: must be at least 1")
        _check(self.validation_tokens >= 0, f"eval.validation_tokens = {self.validation_tokens}: must not be negative")


@dataclass(frozen=True)
class Mesh:
    """How a rung is laid out on devices; a layout changes results only by rounding (the last bits).

    fsdp: -1 for the number of devices divided by the other axes. accumulation: microbatches per optimizer step.
    remat: what the backward pass recomputes: nothing, everything but the results of matmuls ("dots"), or everything.
    """

    replica: int = 1
    fsdp: int = -1
    tensor: int = 1
    sequence: int = 1
    accumulation: int = 1
    remat: Literal["none", "dots", "full"] = "none"
    attention: Literal["auto", "xla", "blockwise", "splash"] = "auto"

    def __post_init__(self):
        for name in ("replica", "tensor", "sequence", "accumulation"):
            _check(getattr(self, name) >= 1, f"mesh.{name} = {getattr(self, name)}: must be at least 1")
        _check(self.fsdp >= 1 or self.fsdp == -1, f"mesh.fsdp = {self.fsdp}: must be at least 1, or -1 for the rest")


@dataclass(frozen=True)
class Rung:
    """One training run: a size, a number of tokens and a seed.

    multiple: tokens as a multiple of 20 n_params ("2xC"); None for a trunk.
    tokens: training tokens D; a run takes ceil(tokens / batch_tokens) steps.
    kind: full (its own warm-up and decay), trunk (constant rate), branch (decays from `parent` at `parent_step`).
    parent: the identity hash of the trunk that a branch starts from.
    save_every: steps between checkpoints (0: only at the end). save_at: further steps whose checkpoints are retained.
    name: replaces the label.
    unique_tokens: read only so many tokens, the first of one order of the text, and repeat them. None: read on.
    subsets: of the training windows of each source, the share that is read; () is all of each. Filled in where
    data.simulate_epochs_of or unique_tokens is set.
    init_from: a published model whose weights the run starts from, a Hugging Face folder or a GGUF file, instead of
    random ones; a branch starts from its trunk whatever this says. init_hash: of those weights, filled in when the
    corpus is built; it enters run_id, the path does not.
    """

    size: str
    multiple: float | None
    tokens: int
    batch_tokens: int
    model: Model
    optimizer: Optimizer
    data: Data = field(default_factory=Data)
    eval: Eval = field(default_factory=Eval)
    mesh: Mesh = field(default_factory=Mesh)
    seed: int = 0
    kind: Kind = "full"
    parent: str | None = None
    parent_step: int | None = None
    save_every: int = 0
    save_at: tuple[int, ...] = ()
    name: str | None = None
    subsets: tuple[float, ...] = ()
    init_from: str | None = None
    init_hash: str = ""
    unique_tokens: int | None = None

    def __post_init__(self):
        size_is_valid = re.fullmatch(r"[A-Za-z0-9]+", self.size) is not None
        _check(size_is_valid, f"rung size = {self.size!r}: must have letters and digits only")
        where, seq_len = f"rung {self.label}", self.model.seq_len
        _check(self.tokens >= 1, f"{where}: tokens = {self.tokens}, must be at least 1")
        for name in ("tokens", "batch_tokens"):
            value = getattr(self, name)
            _check(value <= MOST_TOKENS, f"{where}: {name} = {value}, must be less than 2^63")
        self._check_batch(where)
        for name, value in (("parent", self.parent), ("parent_step", self.parent_step)):
            _check(
                (self.kind == "branch") == (value is not None),
                f"{where}: kind = {self.kind} with {name} = {value!r}; a branch has a {name}, other kinds have none",
            )
        _check(
            (self.kind == "trunk") == (self.multiple is None),
            f"{where}: kind = {self.kind} with multiple = {self.multiple}; a trunk has none, other kinds have one",
        )
        _check(
            self.multiple is None or 0 < self.multiple <= 1e9,
            f"{where}: multiple = {self.multiple}, must be positive, and at most 1e9",
        )
        for name in ("seed", "save_every"):
            _check(getattr(self, name) >= 0, f"{where}: {name} must not be negative")
        _check(self.seed < 2**63, f"{where}: seed = {self.seed}, must be less than 2^63")
        _check(all(step >= 1 for step in self.save_at), f"{where}: save_at = {self.save_at}, steps begin at 1")
        _check(
            self.parent_step is None or 0 < self.parent_step <= self.steps - self.decay_steps,
            f"{where}: parent_step = {self.parent_step} must lie between 1 and "
            f"{self.steps - self.decay_steps}, where its decay begins",
        )
        if self.data.phases and self.kind != "trunk":
            self._check_phases(where)
        _check(
            len(self.subsets) in (0, len(self.data.sources) or 1) and all(0 < subset <= 1 for subset in self.subsets),
            f"{where}: subsets = {self.subsets}: give a share of each source, between 0 and 1; or leave them out",
        )
        _check(
            self.init_from is not None or not self.init_hash,
            f"{where}: init_hash = {self.init_hash!r}: is filled in when init_from is set; leave it out",
        )
        _check(
            self.unique_tokens is None or (self.unique_tokens >= seq_len and not self.data.sources),
            f"{where}: unique_tokens = {self.unique_tokens}: must be at least model.seq_len = {seq_len}, without"
            " data.sources",
        )
        uses_wsd = self.optimizer.schedule == "wsd"
        _check(self.kind == "full" or uses_wsd, f"{where}: a {self.kind} needs optimizer.schedule=wsd")

    def _check_batch(self, where: str) -> None:
        seq_len = self.model.seq_len
        _check(
            self.batch_tokens % seq_len == 0 and self.batch_tokens >= seq_len,
            f"{where}: batch_tokens = {self.batch_tokens} is not a multiple of model.seq_len = {seq_len}; "
            f"try {seq_len * max(1, round(self.batch_tokens / seq_len))}",
        )
        _check(
            self.batch_sequences % self.mesh.accumulation == 0,
            f"{where}: a batch of {self.batch_sequences} sequences does not divide into "
            f"mesh.accumulation = {self.mesh.accumulation} microbatches; set a divisor of {self.batch_sequences}",
        )
        _check(
            self.batch_sequences % self.microbatches == 0,
            f"{where}: optimizer.noise_scale_every splits a batch in two, but one of {self.batch_sequences} sequences "
            f"is odd; set batch_tokens to a multiple of {2 * seq_len}",
        )

    def _check_phases(self, where: str) -> None:
        starts, least = [first for first, _ in self.phases[1:]], self.parent_step or 0
        _check(
            starts == sorted(starts) and starts[0] >= least,
            f"{where}: its data.phases start at steps {starts}; list them in order, the first from step {least} on",
        )
        with_decay = any(phase.start is None for phase in self.data.phases)
        _check(
            not with_decay or self.optimizer.schedule == "wsd",
            f"{where}: a phase that starts with the decay needs optimizer.schedule=wsd; or give it a start",
        )

    @property
    def label(self) -> str:
        """The short name for people: 1B-10xC, 1B-trunk, 7B-4T."""
        return f"{self.size}-{self._length}" if self.name is None else self.name

    @property
    def _length(self) -> str:
        if self.multiple is None:
            return "trunk"
        return f"{self.multiple:.0f}xC" if self.multiple >= 1000 else f"{self.multiple:.4g}xC"

    @property
    def batch_sequences(self) -> int:
        return self.batch_tokens // self.model.seq_len

    @property
    def microbatches(self) -> int:
        """The most parts of a batch whose gradients one step computes: of accumulation, or of the noise scale."""
        return max(self.mesh.accumulation, 1 if self.optimizer.noise_scale_every is None else 2)

    @property
    def steps(self) -> int:
        return -(-self.tokens // self.batch_tokens)

    @property
    def warmup_steps(self) -> int:
        return max(1, round(self.optimizer.warmup_tokens / self.batch_tokens))

    @property
    def decay_steps(self) -> int:
        """Steps of the WSD decay at the end; 0 for a trunk."""
        return 0 if self.kind == "trunk" else max(1, round(self.optimizer.decay_fraction * self.steps))

    @property
    def phases(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """(first step, shares of the sources) of each phase of the mixture; a trunk has only the first."""
        first_steps = [0]
        for phase in self.data.phases if self.kind != "trunk" else ():
            starts_with_decay = phase.start is None
            first_steps.append(self.steps - self.decay_steps if starts_with_decay else round(phase.start * self.steps))
        return tuple(zip(first_steps, self.data.shares_of_phases, strict=False))

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The share of the run's tokens that comes from each source, over all phases; to within one window."""
        if not self.data.sources:
            return (Fraction(1),)
        ends = [first for first, _ in self.phases[1:]] + [self.steps]
        shares = [Fraction(0)] * len(self.data.sources)
        for (first, parts), end in zip(self.phases, ends, strict=True):
            weight = Fraction(end - first, self.steps * POSITIONS)
            shares = [share + part * weight for share, part in zip(shares, parts, strict=True)]
        return tuple(shares)

    @property
    def content(self) -> str:
        """Data.content as far as this run reads it: a trunk has no phases."""
        trunk_with_phases = self.kind == "trunk" and self.data.phases
        return (replace(self.data, phases=()) if trunk_with_phases else self.data).content

    @property
    def identity(self) -> str:
        """8 hex digits of a hash over everything that changes the numbers, and nothing else (DESIGN, run_id)."""
        hashed = {
            "numerics_version": NUMERICS_VERSION,
            "model": asdict(self.model),
            "optimizer": self.optimizer.set_fields,
            "corpus": self.content,
            "tokenizer": self.data.tokenizer_hash,
            # A trunk can be extended later: its length does not change the numbers up to a step.
            "tokens": None if self.kind == "trunk" else self.tokens,
            "batch_tokens": self.batch_tokens,
            "seed": self.seed,
            "kind": self.kind,
            "parent": self.parent,
            "parent_step": self.parent_step,
        }
        if self.unique_tokens is not None:
            hashed["unique_tokens"] = self.unique_tokens
        elif any(subset < 1 for subset in self.subsets):
            hashed["subsets"] = self.subsets
        if self.init_from is not None and self.kind != "branch":
            hashed["init_from"] = self.init_hash
        if self.data.mask_documents:
            hashed["mask_documents"] = self.data.eos_id
        return hashlib.sha256(canonical_json(hashed).encode()).hexdigest()[:8]

    @property
    def run_id(self) -> str:
        return f"{self.size}-{self._length}-s{self.seed}-{self.identity}"


@dataclass(frozen=True)
class Ladder:
    """The rungs and the targets they predict. A branch is listed after its trunk."""

    name: str
    rungs: tuple[Rung, ...]
    targets: tuple[Rung, ...] = ()

    def __post_init__(self):
        _check(
            re.fullmatch(r"[a-z][a-z0-9-]{0,19}", self.name) is not None,
            f"ladder name = {self.name!r}: must have at most 20 lower-case letters, digits and dashes, a letter first",
        )
        _check(len(self.rungs) > 0, f"ladder {self.name} has no rungs; list at least one")
        object.__setattr__(self, "rungs", tuple(with_subsets(rung, self.targets) for rung in self.rungs))
        run_ids = [rung.run_id for rung in self.all]
        duplicates = sorted({run_id for run_id in run_ids if run_ids.count(run_id) > 1})
        _check(not duplicates, f"ladder {self.name}: {', '.join(duplicates)} is listed twice; remove one")
        earlier: dict[str, Rung] = {}
        for rung in self.all:
            if rung.parent is not None:
                self._check_branch(rung, earlier.get(rung.parent))
            earlier[rung.identity] = rung

    def _check_branch(self, branch: Rung, trunk: Rung | None) -> None:
        where = f"ladder {self.name}: branch {branch.label}"
        _check(trunk is not None and trunk.kind == "trunk", f"{where} has no trunk before it; list its trunk first")
        for name in ("model", "batch_tokens", "seed", "unique_tokens"):
            same = getattr(branch, name) == getattr(trunk, name)
            _check(same, f"{where} and its trunk differ in {name}; make them equal")
        for name in ("skip_step_sigma", "skip_step_window"):  # their series are part of the checkpoint
            same = getattr(branch.optimizer, name) == getattr(trunk.optimizer, name)
            _check(same, f"{where} and its trunk differ in optimizer.{name}; make them equal")
        _check(
            branch.parent_step in trunk.save_at and branch.parent_step <= trunk.steps,
            f"{where}: its trunk must train to step {branch.parent_step} and list it in save_at",
        )

    @property
    def all(self) -> tuple[Rung, ...]:
        return self.rungs + self.targets

    def parent_of(self, rung: Rung) -> Rung | None:
        return next((r for r in self.all if r.identity == rung.parent), None)

    def map(self, change) -> "Ladder":
        """The ladder with `change(rung)` for every rung; the parent of a branch becomes its trunk's new identity."""
        new_identity: dict[str, str] = {}

        def changed(rung: Rung) -> Rung:
            new = change(rung)
            if rung.parent is not None:  # its trunk is listed before it, so it is changed already
                new = replace(new, parent=new_identity[rung.parent])
            new_identity[rung.identity] = new.identity
            return new

        rungs = tuple(changed(r) for r in self.rungs)
        return replace(self, rungs=rungs, targets=tuple(changed(r) for r in self.targets))


def job_name(ladder: str, run_id: str) -> str:
    """The name that schedulers see: a DNS-1035 label of at most 50 characters, so that suffixes still fit in 63."""
    slug = re.sub(r"[^a-z0-9]+", "-", run_id.lower().replace(".", "p")).strip("-")
    *front, identity = f"l-{ladder}-{slug}".split("-")
    return f"{'-'.join(front)[:41].rstrip('-')}-{identity}"


def canonical_json(value) -> str:
    """The canonical JSON text of a value: sorted keys, no spaces, shortest floats (1.0 keeps its ".0"), no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_dict(config) -> dict:
    """A config as plain JSON types (tuples become lists)."""
    return json.loads(canonical_json(asdict(config)))
