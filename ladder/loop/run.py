"""One run as the loop sees it: what it trains with, when it is evaluated and saved, and what it writes."""

import math
import time
from dataclasses import dataclass

import jax
from etils import epath

from ladder.config import Rung
from ladder.data import batches, corpus, seal, staging
from ladder.data import tokenizer as tokenizers
from ladder.errors import Diverged, InputError, Preempted
from ladder.evaluation.evaluator import Evaluator
from ladder.flops import flops_per_token
from ladder.loop import step
from ladder.loop.progress import StatusLine
from ladder.optim.schedule import learning_rate
from ladder.parallel import processes, sharding
from ladder.rundir import config_file
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
        return self.data.epoch(step)

    def put(self, batch: dict, step: int) -> dict:
        return self.program.put(batch, learning_rate(self.rung, step))

    def restore(self) -> tuple[int, dict]:
        """(step, state) to resume from: the newest intact checkpoint, else the parent's, else the initial state."""
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
        return 0, self.program.init()

    def read(self, pending: tuple[int, dict]) -> float:
        """Wait for a step's metrics, log them, return the loss in nats per token; Diverged where one is not finite."""
        step, metrics = pending
        loss, norm = (float(metrics[name]) for name in ("loss", "grad_norm"))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            reason = f"loss {loss}, gradient norm {norm} at step {step}"
            self.record.stop("diverged", step, loss, reason)
            raise Diverged(f"{self.rung.run_id}: {reason}; lower optimizer.peak_lr or raise optimizer.warmup_tokens")
        if step % LOG_EVERY == 0 or step == self.rung.steps:
            pairs = (("loss", loss), ("grad_norm", norm))
            self.record.log([metric_row(self.rung, step, "train", name, value) for name, value in pairs])
        return loss

    def evaluate(self, step: int, params) -> None:
        began = time.monotonic()
        phase("eval")
        self.record.log([metric_row(self.rung, step, **row) for row in self.evaluator.rows(params)])
        seconds = time.monotonic() - began
        self.record.timing(step=step, phase="evaluation", seconds=seconds, tokens=self.evaluator.n_tokens)
        if jax.process_index() == 0:
            self.status.evaluated(step, self.evaluator.n_tokens, seconds)

    def save(self, step: int, state: dict) -> None:
        """Publish the metrics up to `step`, then its checkpoint. Raises Preempted if the lease is lost."""
        self.checkpoints.start(step, state)
        began = time.monotonic()
        try:
            processes.together(lambda: self.record.publish(step), (Preempted, OSError))
        except (Preempted, OSError):
            self.checkpoints.abandon()
            raise
        self.checkpoints.commit(step, self.record.listing, self.record.check_lease)
        processes.together(self.record.check_lease, (Preempted,))
        for_branches = {s for s in self.rung.save_at if s <= step}
        self.checkpoints.retain(for_branches | set(self.checkpoints.steps()[-KEEP:]))
        self.record.timing(step=step, phase="checkpoint", seconds=time.monotonic() - began)

    def heartbeat(self, step: int, loss: float, rate: float | None) -> None:
        self.record.heartbeat(step, loss, rate)

    def finish(self) -> None:
        """Write DONE.json."""
        rows = self.record.rows()
        losses = [row["value"] for row in rows if (row["task"], row["metric"]) == ("train", "loss")]
        self.record.finish(
            step=self.rung.steps,
            tokens=self.rung.steps * self.rung.batch_tokens,
            epochs=self.epoch(self.rung.steps),
            loss=losses[-1],
            evaluation=self.evaluator.hash,
        )


def open_run(record: Record, lease: int = 0) -> Run:
    """Everything that training needs except the state. lease: its number, the same in all processes.

    Raises InputError where config.json was edited, or the corpus is not the one that it names.
    """
    config, rung = config_file.read(record)
    text = open_corpus(config, rung)
    program = step.build(rung, sharding.make_mesh(rung.mesh, jax.devices()))
    parent = record.directory.parent / config["derived"]["parent_run"] if rung.kind == "branch" else None
    return Run(
        rung=rung,
        record=record,
        checkpoints=Checkpoints(record.directory / "checkpoints", jax.process_index(), lease),
        program=program,
        data=batches.Batches(text, "train", rung.batch_sequences, rung.seed, program.rows),
        evaluator=evaluator(rung, program, text.tokenizer, text),
        status=StatusLine(rung.label, rung.steps, rung.batch_tokens, flops_per_token(rung.model), text.bytes_per_token),
        parent=parent and Checkpoints(parent / "checkpoints", jax.process_index()),
    )


def open_corpus(config: dict, rung: Rung) -> corpus.Corpus:
    """The corpus of a run, copied to this machine's disk. Raises InputError where its hash is not config.json's."""
    text = corpus.open_corpus(staging.stage(config["corpus_dir"]))
    if (text.hash, text.tokenizer_hash) != (rung.data.corpus, rung.data.tokenizer_hash):
        here, needed = f"{text.hash} {text.tokenizer_hash}", f"{rung.data.corpus} {rung.data.tokenizer_hash}"
        raise InputError(
            f"{config['corpus_dir']}: corpus and tokenizer {here}, this run needs {needed}; build the corpus again"
        )
    return text


def open_tokenizer(config: dict, rung: Rung) -> tokenizers.Tokenizer:
    """The tokenizer of a run's corpus, without the corpus. Raises InputError where its hash is not config.json's."""
    directory = epath.Path(config["corpus_dir"]) / "tokenizer"
    seal.check(directory.parent, within="tokenizer/")
    tokenizer = tokenizers.load(directory)
    if tokenizer.hash != rung.data.tokenizer_hash:
        raise InputError(
            f"{directory}: tokenizer {tokenizer.hash}, this run needs {rung.data.tokenizer_hash}; build it again"
        )
    return tokenizer


def evaluator(rung: Rung, program: step.Program, tokenizer, text: corpus.Corpus | None) -> Evaluator:
    """The evaluator for rung.eval. text: the corpus; None where rung.eval has no validation text."""
    tokens = rung.eval.validation_tokens
    validation = batches.validation(text, tokens) if tokens else None
    return Evaluator(rung.eval, program.functions, tokenizer, rung.model.seq_len, validation, mesh=program.mesh)


def metric_row(rung: Rung, step: int, task: str, metric: str, value: float, stderr=None, n_docs=None, **more) -> dict:
    """A row of the metrics (rundir/record.py). more: further columns."""
    tokens = step * rung.batch_tokens
    row = {"step": step, "tokens": tokens, "kind": rung.kind, "task": task, "metric": metric, "value": value}
    return row | {"stderr": stderr, "n_docs": n_docs} | more
