"""One run as the loop sees it: what it trains with, when it is evaluated and saved, and what it writes."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from etils import epath

from ladder.config import Rung
from ladder.data import batches, seal, sources
from ladder.data import tokenizer as tokenizers
from ladder.data.mixture import Order
from ladder.data.windows import Windows
from ladder.data_config import POSITIONS
from ladder.errors import Diverged, InputError, Preempted
from ladder.evaluation.evaluator import Evaluator, ValidationSource
from ladder.flops import flops_per_token
from ladder.loop import step
from ladder.loop.initial_state import initial_state
from ladder.monitor.data_waits import DataWaits
from ladder.monitor.progress import StatusLine
from ladder.monitor.spans import Spans
from ladder.optim import noise_scale, skip_step
from ladder.optim.schedule import learning_rate
from ladder.parallel import processes, sharding
from ladder.rundir import config_file, replays
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.kill_points import phase
from ladder.rundir.record import Record

LOG_EVERY = 10  # steps between rows of the training loss
KEEP = 2  # newest checkpoints that are retained, besides those that a branch needs


@dataclass
class Run:
    """A rung, its run directory and its compiled program; group.Group has the same interface."""

    rung: Rung
    record: Record
    checkpoints: Checkpoints
    program: step.Program
    data: batches.Batches
    evaluator: Evaluator
    status: StatusLine
    parent: Checkpoints | None  # the trunk's, for a branch
    waits: DataWaits
    spans: Spans
    skipped: int = 0  # steps (optim/skip_step.py)

    @property
    def steps(self) -> int:
        return self.rung.steps

    @property
    def origin(self) -> int:
        """The step that the run starts from."""
        return self.rung.parent_step or 0

    def evaluates(self, step: int) -> bool:
        every = self.rung.eval.every
        return step == self.rung.steps or (every > 0 and step % every == 0)

    def saves(self, step: int) -> bool:
        every = self.rung.save_every
        return step == self.rung.steps or step in self.rung.save_at or (every > 0 and step % every == 0)

    def epoch(self, step: int) -> float:
        """Passes over the source that is repeated most."""
        return max(self.data.epochs(step))

    def put(self, batch: dict, step: int) -> dict:
        return self.program.put(batch, learning_rate(self.rung, step))

    def restore(self) -> tuple[int, dict]:
        """(step, state) to resume from: the newest intact checkpoint, else the parent's, else the first."""
        restored = self.checkpoints.restore(self.program.abstract_state)
        if restored is not None:
            step, state = restored
            listing = self.checkpoints.metrics(step)
            self.record.rewind(step, origin=self.origin if self.parent else -1, listing=listing)
            return step, state
        if self.parent:
            state = self.parent.read(self.origin, self.program.abstract_state)
            self.record.rewind(self.origin, origin=self.origin, listing={})
            return self.origin, state
        self.record.rewind(listing={})
        return 0, initial_state(self.rung, self.program)

    def read(self, pending: tuple[int, dict]) -> float:
        """Wait for a step's metrics, log them, return the loss in nats per token; Diverged where one is not finite."""
        step, metrics = pending
        every = self.rung.optimizer.noise_scale_every
        measured = noise_scale.METRICS if every is not None and step % every == 0 else ()
        with jax.transfer_guard_device_to_host("allow"):  # device_get would be explicit, and takes 60 us longer
            loss, norm = (float(metrics[name]) for name in ("loss", "grad_norm"))
            skip, skipped, not_finite = (int(metrics.get(name, 0)) for name in ("skip", "skipped", "not_finite"))
            noise = [(name, float(metrics[name])) for name in measured]
        finite = math.isfinite(loss) and math.isfinite(norm)
        if not finite and not (skip and not_finite <= skip_step.MOST_NOT_FINITE):
            raise self._diverged(step, loss, norm)
        pairs = []
        if step % LOG_EVERY == 0 or step == self.rung.steps:
            pairs = [("loss", loss), ("grad_norm", norm)] if finite else []
        if "skip" in metrics and (pairs or skip or step == self.rung.steps):
            self.skipped = skipped
            pairs += [("skipped", self.skipped)]
        pairs += noise if finite and all(math.isfinite(value) for _, value in noise) else []
        self.record.log([metric_row(self.rung, step, "train", name, value) for name, value in pairs])
        if skip and jax.process_index() == 0:
            print(f"{self.rung.label}  step {step:,} skipped: loss {loss:.4f}, gradient norm {norm:.4g}")
            replays.keep(self, step, loss, norm, "skipped")
        return loss

    def _diverged(self, step: int, loss: float, norm: float) -> Diverged:
        """The error that ends the run, after STOPPED.json and the step's bundle are written."""
        reason = f"loss {loss}, gradient norm {norm} at step {step}"
        self.record.stop("diverged", step, loss, reason)
        replays.keep(self, step, loss, norm, "diverged")
        mend = "lower optimizer.peak_lr or raise optimizer.warmup_tokens"
        return Diverged(f"{self.rung.run_id}: {reason}; {mend}; to repeat it: ladder replay {self.record.directory}")

    def evaluate(self, step: int, params) -> None:
        began = time.monotonic()
        phase("eval")
        with self.spans("evaluation"):
            self.record.log([metric_row(self.rung, step, **row) for row in self.evaluator.rows(params)])
        seconds = time.monotonic() - began
        self.record.timing(step=step, phase="evaluation", seconds=seconds, tokens=self.evaluator.n_tokens)
        if jax.process_index() == 0:
            self.status.evaluated(step, self.evaluator.n_tokens, seconds)

    def save(self, step: int, state: dict) -> None:
        """Publish the metrics up to `step`, then its checkpoint. Raises Preempted if the lease is lost."""
        began = time.monotonic()
        with self.spans("checkpoint"):
            self._save(step, state)
        seconds, sitting = time.monotonic() - began, self.spans.so_far()
        self.record.timing(step=step, phase="checkpoint", seconds=seconds, data=self.waits.take(), sitting=sitting)

    def _save(self, step: int, state: dict) -> None:
        self.checkpoints.start(step, state)
        try:
            processes.together(lambda: self.record.publish(step), (Preempted, OSError))
        except (Preempted, OSError):
            self.checkpoints.abandon()
            raise
        self.checkpoints.commit(step, self.record.listing, self.record.check_lease)
        processes.together(self.record.check_lease, (Preempted,))
        for_branches = {s for s in self.rung.save_at if s <= step}
        self.checkpoints.retain(for_branches | set(self.checkpoints.steps()[-KEEP:]))

    def heartbeat(self, step: int, loss: float, rate: float | None) -> None:
        self.record.heartbeat(step, loss, rate, self.waits.seconds, self.spans.so_far(), self.skipped)

    def finish(self) -> None:
        """Write DONE.json."""
        rows = self.record.rows()
        losses = [row["value"] for row in rows if (row["task"], row["metric"]) == ("train", "loss")]
        names = [source.name for source in self.rung.data.sources]
        of_sources = {"epochs_of_sources": dict(zip(names, self.data.epochs(self.steps), strict=True))} if names else {}
        self.record.finish(
            step=self.rung.steps,
            tokens=self.rung.steps * self.rung.batch_tokens,
            epochs=self.epoch(self.rung.steps),
            loss=losses[-1] if losses else None,
            evaluation=self.evaluator.hash,
            **of_sources,
            **({"skipped": self.skipped} if self.rung.optimizer.skip_step_sigma else {}),
        )


def open_run(record: Record, lease: int = 0, spans: Spans | None = None) -> Run:
    """Everything that training needs except the state. lease: its number, the same in all processes. spans: of the
    sitting, which the members of a group share.

    Raises InputError where config.json was edited, or a corpus is not the one that it names.
    """
    config, rung = config_file.read(record)
    corpora = open_corpora(config, rung)
    program = step.build(rung, sharding.make_mesh(rung.mesh, jax.devices()))
    parent = record.directory.parent / config["derived"]["parent_run"] if rung.kind == "branch" else None
    bytes_per_token = _bytes_per_token(rung, corpora)
    return Run(
        rung=rung,
        record=record,
        checkpoints=Checkpoints(record.directory / "checkpoints", jax.process_index(), lease),
        program=program,
        data=training_batches(rung, corpora, program.rows),
        evaluator=evaluator(rung, program, corpora[0].tokenizer, corpora),
        status=StatusLine(rung.label, rung.steps, rung.batch_tokens, flops_per_token(rung.model), bytes_per_token),
        parent=parent and Checkpoints(parent / "checkpoints", jax.process_index()),
        waits=DataWaits(before=(record.beat() or {}).get("data_seconds") or 0.0),
        spans=spans or Spans(),
    )


def training_batches(rung: Rung, corpora: Sequence[Windows], rows: Sequence[int]) -> batches.Batches:
    """The batches of a run; rows: of each batch that are read."""
    phases = [(first * rung.batch_sequences, shares) for first, shares in rung.phases] if rung.data.sources else None
    order = phases and Order(phases)
    return batches.Batches(corpora, "train", rung.batch_sequences, rung.seed, rows, order, rung.subsets)


def open_corpora(config: dict, rung: Rung) -> list[Windows]:
    """The corpora of a run, copied to this machine's disk: one, or one for each source of its mixture. Token files stay
    where they are.

    Raises InputError where a corpus or tokenizer is not the one that config.json names.
    """
    data, corpora = rung.data, []
    named = [(source.format, source.corpus) for source in data.sources] or [("text", data.corpus)]
    for (source_format, needed_hash), folder in zip(named, config_file.corpus_dirs(config), strict=True):
        tokenizer_dir = config_file.tokenizer_dir(config)
        opened = sources.open_source(source_format, folder, rung.model.seq_len, tokenizer_dir)
        if (opened.hash, opened.tokenizer_hash) != (needed_hash, data.tokenizer_hash):
            here, needed = f"{opened.hash} {opened.tokenizer_hash}", f"{needed_hash} {data.tokenizer_hash}"
            mend = "build the corpus again" if source_format == "text" else "restore the token files and their index"
            raise InputError(f"{folder}: corpus and tokenizer {here}, this run needs {needed}; {mend}")
        corpora.append(opened)
    return corpora


def open_tokenizer(config: dict, rung: Rung) -> tokenizers.Tokenizer:
    """The tokenizer of a run's corpora, without these. Raises InputError where its hash is not config.json's."""
    if directory := config_file.tokenizer_dir(config):
        directory = epath.Path(directory)
    else:
        directory = epath.Path(config_file.corpus_dirs(config)[0]) / "tokenizer"
        seal.check(directory.parent, within="tokenizer/")
    tokenizer = tokenizers.load(directory)
    if tokenizer.hash != rung.data.tokenizer_hash:
        raise InputError(
            f"{directory}: tokenizer {tokenizer.hash}, this run needs {rung.data.tokenizer_hash}; build it again"
        )
    return tokenizer


def evaluator(rung: Rung, program: step.Program, tokenizer, corpora: Sequence[Windows] | None) -> Evaluator:
    """The evaluator for rung.eval. corpora: of the run; None where rung.eval has no validation text.

    Of a mixture, each source has the same part of rung.eval.validation_tokens, except those that hold nothing out.
    """
    tokens, mixed, validation = rung.eval.validation_tokens, rung.data.sources, None
    if tokens and mixed:
        all_sources = zip(mixed, rung.data.shares, corpora, strict=True)
        held_out = [of_source for of_source in all_sources if of_source[2].windows["validation"]]
        total = sum(share for _, share, _ in held_out)
        validation = [
            ValidationSource(source.name, share / total, batches.validation(opened, tokens // len(held_out)))
            for source, share, opened in held_out
        ]
    elif tokens:
        validation = batches.validation(corpora[0], tokens)
    shared = rung.eval, program.functions, tokenizer, rung.model.seq_len, validation
    return Evaluator(*shared, mesh=program.mesh, eos=rung.data.eos_id)


def _bytes_per_token(rung: Rung, corpora: Sequence[Windows]) -> float:
    """Of the training text; a mixture's sources count by their shares."""
    shares = rung.data.shares if rung.data.sources else [POSITIONS]
    return sum(share * opened.bytes_per_token for share, opened in zip(shares, corpora, strict=True)) / POSITIONS


def metric_row(rung: Rung, step: int, task: str, metric: str, value: float, stderr=None, n_docs=None, **more) -> dict:
    """A row of the metrics (rundir/record.py). more: further columns."""
    tokens = step * rung.batch_tokens
    row = {"step": step, "tokens": tokens, "kind": rung.kind, "task": task, "metric": metric, "value": value}
    return row | {"stderr": stderr, "n_docs": n_docs} | more
