"""One run as the loop sees it: what it is trained with, when it is evaluated and saved, and what is written then."""

import math
import time
from dataclasses import dataclass, replace

import jax

from ladder.config import Eval, Mesh, Rung
from ladder.data import batches, corpus, staging
from ladder.errors import Diverged, InputError
from ladder.evaluation.evaluator import Evaluator
from ladder.loop import step
from ladder.loop.progress import StatusLine
from ladder.optim.schedule import learning_rate
from ladder.overrides import from_dict
from ladder.parallel import sharding
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.kill_points import phase
from ladder.rundir.record import Record
from ladder.sizes import flops_per_token

LOG_EVERY = 10  # steps between rows of the training loss
KEEP = 2  # newest checkpoints that stay, beside those a branch needs


@dataclass
class Run:
    """A rung, its run directory and its compiled program; group.Group answers to the same names."""

    rung: Rung
    record: Record
    checkpoints: Checkpoints
    program: step.Program
    data: batches.Batches
    evaluator: Evaluator
    status: StatusLine
    parent: Checkpoints | None  # of the trunk that a branch starts from

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
        """(step, state) to go on from: the newest good checkpoint, the parent's, or a fresh start."""
        found = self.checkpoints.restore(self.program.abstract_state)
        if found is not None:
            first, state = found
            self.record.rewind(first, origin=self.origin if self.parent else -1)
            return first, state
        if self.parent:
            state = self.parent.read(self.origin, self.program.abstract_state)
            self.record.rewind(self.origin, origin=self.origin)
            return self.origin, state
        self.record.rewind()
        return 0, self.program.init()

    def read(self, pending: tuple[int, dict]) -> float:
        """Wait for a step's metrics, log them, return the loss; Diverged where one is not finite."""
        step, metrics = pending
        loss, norm = (float(metrics[name]) for name in ("loss", "grad_norm"))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            reason = f"loss {loss}, gradient norm {norm} at step {step}"
            self.record.stop("diverged", step, loss, reason)
            raise Diverged(f"{self.rung.run_id}: {reason}; lower optimizer.peak_lr or raise optimizer.warmup_tokens")
        if step % LOG_EVERY == 0 or step == self.rung.steps:
            self.record.log([self._row(step, "train", "loss", loss), self._row(step, "train", "grad_norm", norm)])
        return loss

    def evaluate(self, step: int, params) -> None:
        began = time.monotonic()
        phase("eval")
        self.record.log(self.scores(step, params))
        seconds = time.monotonic() - began
        self.record.timing(step=step, phase="evaluation", seconds=seconds, tokens=self.evaluator.n_tokens)
        if jax.process_index() == 0:
            self.status.evaluated(step, self.evaluator.n_tokens, seconds)

    def scores(self, step: int, params) -> list[dict]:
        return [self._row(step, **row) for row in self.evaluator.rows(params)]

    def save(self, step: int, state: dict) -> None:
        """Metrics up to the step, then its checkpoint: from now on both count."""
        self.checkpoints.start(step, state)
        began = time.monotonic()
        self.record.publish(step)
        self.checkpoints.commit(step)
        kept = {s for s in self.rung.save_at if s <= step}
        self.checkpoints.retain(kept | set(self.checkpoints.steps()[-KEEP:]))
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

    def _row(self, step: int, task: str, metric: str, value: float, stderr=None, n_docs=None, **more) -> dict:
        tokens = step * self.rung.batch_tokens
        row = {"step": step, "tokens": tokens, "kind": self.rung.kind, "task": task, "metric": metric, "value": value}
        return row | {"stderr": stderr, "n_docs": n_docs} | more


def open_run(record: Record, evaluation: Eval | None = None) -> Run:
    """Everything but the state, checked against config.json. Raises InputError where the corpus is another one.

    evaluation: instead of the run's own, and not to train it: any devices will do.
    """
    config, devices = record.read_config(), jax.devices()
    rung = from_dict(Rung, config["rung"], where=f"{record.directory}/config.json")
    if evaluation:
        rung = replace(rung, eval=evaluation, mesh=Mesh())
        devices = devices[: math.gcd(rung.batch_sequences, len(devices))]
    text = corpus.open_corpus(staging.stage(config["corpus_dir"]))
    if (text.hash, text.tokenizer_hash) != (rung.data.corpus, rung.data.tokenizer_hash):
        raise InputError(
            f"{config['corpus_dir']}: corpus {text.hash}, this run needs {rung.data.corpus}; build it again"
        )
    mesh = sharding.make_mesh(rung.mesh, devices)
    program = step.build(rung, mesh)
    shards = sharding.data_shards(mesh)
    rows = shards * max(1, 8192 // (rung.model.seq_len * shards))
    tokens, seq_len = rung.eval.validation_tokens, rung.model.seq_len
    validation = batches.validation(text, tokens, rows) if tokens else None
    evaluator = Evaluator(rung.eval, program.functions, text.tokenizer, seq_len, validation, mesh=mesh)
    parent = record.directory.parent / config["derived"]["parent_run"] if rung.kind == "branch" else None
    return Run(
        rung=rung,
        record=record,
        checkpoints=Checkpoints(record.directory / "checkpoints", jax.process_index()),
        program=program,
        data=batches.Batches(text, "train", rung.batch_sequences, rung.seed, program.rows),
        evaluator=evaluator,
        status=StatusLine(rung.label, rung.steps, rung.batch_tokens, flops_per_token(rung.model), text.bytes_per_token),
        parent=parent and Checkpoints(parent / "checkpoints", jax.process_index()),
    )
