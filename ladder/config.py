"""What a rung is: frozen dataclasses, checked on construction, with one canonical JSON form and a run_id.

Nothing here imports jax: a ladder can be planned, listed and submitted without it.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from ladder.errors import InputError

# Bumped by hand whenever the same config would give different numbers (a change of model, optimizer, data order ...).
NUMERICS_VERSION = 1

Family = Literal["olmo2", "llama", "gpt2"]
Kind = Literal["full", "trunk", "branch"]


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise InputError(message)


@dataclass(frozen=True)
class Model:
    """A size: the shape of one decoder-only transformer.

    family: olmo2 (RMSNorm on sub-layer output, QK-norm, RoPE, SwiGLU), llama (pre-RMSNorm, grouped-query heads,
    RoPE, SwiGLU) or gpt2 (pre-LayerNorm, learned positions, GELU). `d_ff` is the hidden width of the feed-forward.
    """

    family: Family
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    vocab_size: int
    seq_len: int
    n_kv_heads: int | None = None
    tie_embeddings: bool = False
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-6
    init_std: float = 0.02
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self):
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "vocab_size", "seq_len"):
            _check(getattr(self, name) >= 1, f"model.{name} = {getattr(self, name)}: must be at least 1")
        _check(self.kv_heads >= 1, f"model.n_kv_heads = {self.n_kv_heads}: must be at least 1")
        _check(
            self.d_model % self.n_heads == 0,
            f"model.d_model = {self.d_model} is not a multiple of model.n_heads = {self.n_heads}",
        )
        _check(
            self.n_heads % self.kv_heads == 0,
            f"model.n_heads = {self.n_heads} is not a multiple of model.n_kv_heads = {self.kv_heads}",
        )
        _check(
            self.family == "gpt2" or self.head_dim % 2 == 0,
            f"model.d_model / model.n_heads = {self.head_dim}: RoPE needs an even head size",
        )
        _check(self.norm_eps > 0, "model.norm_eps must be positive")

    @property
    def kv_heads(self) -> int:
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule. Rates are per step; `decay_fraction` is the share of the run that a WSD decay takes.

    mu_dtype, nu_dtype: in which the first and second moment are kept (None: model.param_dtype); computed in float32.
    """

    peak_lr: float
    warmup_tokens: int
    schedule: Literal["cosine", "wsd"] = "cosine"
    lr_final_fraction: float = 0.1
    decay_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    z_loss: float = 1e-5
    mu_dtype: Literal["float32", "bfloat16"] | None = None
    nu_dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self):
        _check(0 < self.peak_lr < 1, f"optimizer.peak_lr = {self.peak_lr}: must lie between 0 and 1")
        _check(self.warmup_tokens >= 0, f"optimizer.warmup_tokens = {self.warmup_tokens}: must not be negative")
        _check(0 <= self.lr_final_fraction <= 1, "optimizer.lr_final_fraction must lie between 0 and 1")
        _check(0 < self.decay_fraction <= 1, "optimizer.decay_fraction must lie in (0, 1]")
        for name in ("beta1", "beta2"):
            _check(0 <= getattr(self, name) < 1, f"optimizer.{name} must lie in [0, 1)")
        for name in ("weight_decay", "z_loss"):
            _check(getattr(self, name) >= 0, f"optimizer.{name} must not be negative")
        for name in ("eps", "grad_clip"):
            _check(getattr(self, name) > 0, f"optimizer.{name} must be positive")
        _check(
            self.nu_dtype != "bfloat16" or 1 - self.beta2 > 2**-8,
            f"optimizer.beta2 = {self.beta2}: rounding to bfloat16 would keep a second moment from ever falling; "
            "set optimizer.nu_dtype=float32, or beta2 to at most 0.996",
        )


@dataclass(frozen=True)
class Data:
    """Where the tokens come from.

    text: what to read: "python" (the sources of the standard library and of this project's dependencies), files,
    folders, .jsonl(.gz) files (the text under `field`) or "tfds:NAME[/CONFIG][:SPLIT]".
    tokenizer: "bytes", "bpe:SIZE" (trained on the text) or the path of a tokenizer.json.
    corpus and tokenizer_hash are content hashes, filled in once the corpus is built; only they enter the run_id.
    """

    text: tuple[str, ...] = ("python",)
    tokenizer: str = "bytes"
    field: str = "text"
    validation: float = 0.02
    max_bytes: int | None = None
    corpus: str = ""
    tokenizer_hash: str = ""

    def __post_init__(self):
        _check(len(self.text) > 0, 'data.text is empty: name a file, a folder, "python" or "tfds:NAME"')
        _check(0 < self.validation < 0.5, f"data.validation = {self.validation}: must lie between 0 and 0.5")
        _check(self.max_bytes is None or self.max_bytes > 0, "data.max_bytes must be positive")
        bpe = re.fullmatch(r"bpe:(\d+)", self.tokenizer)
        known = self.tokenizer == "bytes" or bpe or self.tokenizer.endswith(".json")
        _check(known, f'data.tokenizer = {self.tokenizer!r}: write "bytes", "bpe:8000" or the path of a tokenizer.json')
        _check(not bpe or int(bpe[1]) >= 300, f"data.tokenizer = {self.tokenizer!r}: a BPE needs at least 300 tokens")


@dataclass(frozen=True)
class Eval:
    """What is measured as a rung trains: every `every` steps (0: only at the end) and always at the last step."""

    tasks: tuple[str, ...] = ()
    every: int = 0
    max_docs: int | None = None
    validation_tokens: int = 1 << 20

    def __post_init__(self):
        _check(self.every >= 0, f"eval.every = {self.every}: must not be negative")
        _check(self.max_docs is None or self.max_docs >= 1, "eval.max_docs must be at least 1")
        _check(self.validation_tokens >= 0, "eval.validation_tokens must not be negative")


@dataclass(frozen=True)
class Mesh:
    """How a rung is laid out on devices; never changes what is computed beyond the last bits.

    fsdp = -1 takes the devices that the other axes leave. accumulation: microbatches per optimizer step.
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
    save_every: steps between checkpoints (0: only at the end). save_at: further steps at which one is kept.
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

    def __post_init__(self):
        _check(
            re.fullmatch(r"[A-Za-z0-9]+", self.size) is not None, f"rung size {self.size!r}: letters and digits only"
        )
        _check(self.tokens >= 1, f"rung {self.label}: tokens = {self.tokens}, must be at least 1")
        _check(
            self.batch_tokens % self.model.seq_len == 0 and self.batch_tokens >= self.model.seq_len,
            f"rung {self.label}: batch_tokens = {self.batch_tokens} is not a multiple of "
            f"model.seq_len = {self.model.seq_len}; try {self._nearest_batch()}",
        )
        _check(
            self.batch_sequences % self.mesh.accumulation == 0,
            f"rung {self.label}: a batch of {self.batch_sequences} sequences does not divide into "
            f"mesh.accumulation = {self.mesh.accumulation} microbatches",
        )
        _check(
            (self.kind == "branch") == (self.parent is not None),
            f"rung {self.label}: a branch, and only it, has a parent",
        )
        _check(
            (self.kind == "branch") == (self.parent_step is not None), f"rung {self.label}: a branch has a parent_step"
        )
        _check(
            (self.kind == "trunk") == (self.multiple is None),
            f"rung {self.label}: a trunk, and only it, has no multiple",
        )
        _check(self.seed >= 0, f"rung {self.label}: seed must not be negative")
        _check(self.multiple is None or self.multiple > 0, f"rung {self.label}: multiple must be positive")
        _check(self.save_every >= 0, f"rung {self.label}: save_every must not be negative")
        _check(
            self.parent_step is None or 0 < self.parent_step <= self.steps - self.decay_steps,
            f"rung {self.label}: parent_step = {self.parent_step} must lie between 1 and "
            f"{self.steps - self.decay_steps}, where its decay begins",
        )
        _check(
            self.kind == "full" or self.optimizer.schedule == "wsd",
            f"rung {self.label}: trunks and branches need optimizer.schedule = wsd",
        )

    def _nearest_batch(self) -> int:
        return self.model.seq_len * max(1, round(self.batch_tokens / self.model.seq_len))

    @property
    def label(self) -> str:
        """What people call it: 1B-10xC, 1B-trunk, 7B-4T."""
        if self.name is not None:
            return self.name
        return f"{self.size}-{self._span}"

    @property
    def _span(self) -> str:
        if self.multiple is None:
            return "trunk"
        return f"{self.multiple:.0f}xC" if self.multiple >= 1000 else f"{self.multiple:.4g}xC"

    @property
    def batch_sequences(self) -> int:
        return self.batch_tokens // self.model.seq_len

    @property
    def steps(self) -> int:
        return -(-self.tokens // self.batch_tokens)

    @property
    def warmup_steps(self) -> int:
        return max(1, round(self.optimizer.warmup_tokens / self.batch_tokens))

    @property
    def decay_steps(self) -> int:
        """Steps of a WSD decay at the end; none for a trunk."""
        return 0 if self.kind == "trunk" else max(1, round(self.optimizer.decay_fraction * self.steps))

    @property
    def identity(self) -> str:
        """8 hex digits over everything that changes the numbers, and nothing else (DESIGN, run_id)."""
        # What came later counts only where it is set: runs of before keep their names.
        later = [name for name in ("mu_dtype", "nu_dtype") if getattr(self.optimizer, name) is None]
        numbers = {
            "numerics_version": NUMERICS_VERSION,
            "model": asdict(self.model),
            "optimizer": {name: value for name, value in asdict(self.optimizer).items() if name not in later},
            "corpus": self.data.corpus,
            "tokenizer": self.data.tokenizer_hash,
            # A trunk can be made longer later: its length changes none of its numbers.
            "tokens": None if self.kind == "trunk" else self.tokens,
            "batch_tokens": self.batch_tokens,
            "seed": self.seed,
            "kind": self.kind,
            "parent": self.parent,
            "parent_step": self.parent_step,
        }
        return hashlib.sha256(canonical_json(numbers).encode()).hexdigest()[:8]

    @property
    def run_id(self) -> str:
        return f"{self.size}-{self._span}-s{self.seed}-{self.identity}"


@dataclass(frozen=True)
class Ladder:
    """The rungs and the targets they predict. A branch stands after its trunk."""

    name: str
    rungs: tuple[Rung, ...]
    targets: tuple[Rung, ...] = ()

    def __post_init__(self):
        _check(
            re.fullmatch(r"[a-z][a-z0-9-]{0,19}", self.name) is not None,
            f"ladder name {self.name!r}: lower-case letters, digits and dashes, at most 20, starting with a letter",
        )
        _check(len(self.rungs) > 0, f"ladder {self.name} has no rungs")
        ids = [rung.run_id for rung in self.all]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        _check(not twice, f"ladder {self.name}: {', '.join(twice)} stands in it twice")
        seen: dict[str, Rung] = {}
        for rung in self.all:
            if rung.parent is not None:
                self._check_branch(rung, seen.get(rung.parent))
            seen[rung.identity] = rung

    def _check_branch(self, branch: Rung, trunk: Rung | None) -> None:
        where = f"ladder {self.name}: branch {branch.label}"
        _check(trunk is not None and trunk.kind == "trunk", f"{where} has no trunk before it")
        for name in ("model", "batch_tokens", "seed"):
            _check(getattr(branch, name) == getattr(trunk, name), f"{where} and its trunk differ in {name}")
        _check(
            branch.parent_step in trunk.save_at and branch.parent_step <= trunk.steps,
            f"{where}: its trunk must reach step {branch.parent_step} and have it in save_at",
        )

    @property
    def all(self) -> tuple[Rung, ...]:
        return self.rungs + self.targets

    def parent_of(self, rung: Rung) -> Rung | None:
        return next((r for r in self.all if r.identity == rung.parent), None)

    def map(self, change) -> "Ladder":
        """The ladder with `change(rung)` for every rung; branches follow their trunk's new identity."""
        renamed: dict[str | None, str | None] = {None: None}

        def changed(rung: Rung) -> Rung:
            new = change(rung)
            # Looked up before the rung's own new identity is known: a trunk stands before its branches.
            if rung.parent is not None:
                new = replace(new, parent=renamed[rung.parent])
            renamed[rung.identity] = new.identity
            return new

        rungs = tuple(changed(r) for r in self.rungs)
        return replace(self, rungs=rungs, targets=tuple(changed(r) for r in self.targets))


def job_name(ladder: str, run_id: str) -> str:
    """The name that schedulers see: DNS-1035 and at most 50 characters, so that suffixes still fit in 63."""
    text = re.sub(r"[^a-z0-9]+", "-", run_id.lower().replace(".", "p")).strip("-")
    *front, identity = f"l-{ladder}-{text}".split("-")
    return f"{'-'.join(front)[:41].rstrip('-')}-{identity}"


def canonical_json(value) -> str:
    """One form for one value: sorted keys, no spaces, shortest floats, whole floats as they are, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_dict(config) -> dict:
    """A config as plain JSON types (tuples become lists)."""
    return json.loads(canonical_json(asdict(config)))
