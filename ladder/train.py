"""The compact loop: train one rung, from wherever its run directory stands, to DONE."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import jax
import numpy as np
from etils import epath

from ladder import batches, corpus, processes, sharding, step
from ladder.chaos import phase
from ladder.checkpoint import Checkpoints
from ladder.config import Rung
from ladder.errors import Diverged, InputError, Preempted
from ladder.evaluate import Evaluator
from ladder.files import is_local
from ladder.lease import Lease
from ladder.optimizer import learning_rate
from ladder.overrides import from_dict
from ladder.progress import StatusLine
from ladder.record import Record
from ladder.sizes import flops_per_token

LOG_EVERY = 10  # steps between rows of the training loss
KEEP = 2  # newest checkpoints that stay, beside those a branch needs


def train(directory) -> None:
    """Train the rung of a run directory, or take it up again; returns when DONE.json is written.

    Raises Preempted after SIGTERM (everything saved), Diverged at a NaN or Inf in the loss or the gradient norm,
    InputError where the directory, its corpus or its parent is not what config.json says.
    """
    directory = epath.Path(directory)
    record = Record(directory.resolve() if is_local(directory) else directory, jax.process_index())
    if record.is_done():
        return
    config = record.read_config()
    rung = from_dict(Rung, config["rung"], where=f"{record.directory}/config.json")
    _share_compiled(record.directory.parent)
    with _leased(record.directory) as lease, processes.notice() as stops:
        run = _open(rung, config, record)
        first, state = _restore(run, config)
        _loop(run, first, state, lease, stops)


@dataclass
class Run:
    """What the loop works with."""

    rung: Rung
    record: Record
    checkpoints: Checkpoints
    program: step.Program
    data: batches.Batches
    evaluator: Evaluator
    status: StatusLine

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

    def row(self, step: int, task: str, metric: str, value: float, stderr=None, n_docs=None, **more) -> dict:
        tokens = step * self.rung.batch_tokens
        row = {"step": step, "tokens": tokens, "kind": self.rung.kind, "task": task, "metric": metric, "value": value}
        return row | {"stderr": stderr, "n_docs": n_docs} | more


def _loop(run: Run, first: int, state: dict, lease: Lease | None, stops: Callable[[int], bool]) -> None:
    """The host only schedules; but for evaluations and saves it waits for nothing but the step before."""
    rung, pending, loss, ahead = run.rung, None, math.nan, batches.prefetched(run.data, first, run.rung.steps)
    for done in range(first, rung.steps + 1):  # `done` updates are in the state
        stopping = stops(done)
        if done > first and (run.evaluates(done) or run.saves(done) or stopping):
            loss, pending = _read(run, pending), None  # nothing is saved or evaluated before its own loss was finite
            if run.evaluates(done):
                _evaluate(run, done, state["params"])
            if run.saves(done) or stopping:
                run.checkpoints.start(done, state)
                _publish(run, done)
            run.status.restart(done)
            run.record.heartbeat(done, loss, None)
        if done == rung.steps:
            break
        if stopping:
            raise Preempted(f"stopped at step {done:,} of {rung.steps:,}, saved; run it again to go on")
        _, batch = next(ahead)
        state, metrics = run.program.train_step(state, run.program.put(batch, learning_rate(rung, done)))
        if pending is not None:
            loss = _read(run, pending)
            if lease and run.status.due():  # process 0 speaks for all
                run.record.heartbeat(done, loss, run.status.show(done, loss, run.data.epoch(done)))
                lease.renew()
        pending = (done + 1, metrics)
        phase("step")
    if lease is None:
        return
    last = [row["value"] for row in run.record.rows() if (row["task"], row["metric"]) == ("train", "loss")][-1]
    run.record.finish(
        step=rung.steps,
        tokens=rung.steps * rung.batch_tokens,
        epochs=run.data.epoch(rung.steps),
        loss=last,
        evaluation=run.evaluator.hash,
    )


def _read(run: Run, pending: tuple[int, dict]) -> float:
    """Wait for a step's metrics, log them, return the loss; Diverged where one is not finite."""
    step, metrics = pending
    loss, norm = (float(metrics[name]) for name in ("loss", "grad_norm"))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        reason = f"loss {loss}, gradient norm {norm} at step {step}"
        run.record.stop("diverged", step, loss, reason)
        raise Diverged(f"{run.rung.run_id}: {reason}; lower optimizer.peak_lr or raise optimizer.warmup_tokens")
    if step % LOG_EVERY == 0 or step == run.rung.steps:
        run.record.log([run.row(step, "train", "loss", loss), run.row(step, "train", "grad_norm", norm)])
    return loss


def _evaluate(run: Run, step: int, params) -> None:
    began = time.monotonic()
    phase("eval")
    run.record.log([run.row(step, **row) for row in run.evaluator.rows(params)])
    run.record.timing(step=step, phase="evaluation", seconds=time.monotonic() - began, tokens=run.evaluator.n_tokens)


def _publish(run: Run, step: int) -> None:
    """Metrics up to the step, then its checkpoint: from now on both count."""
    began = time.monotonic()
    run.record.publish(step)
    run.checkpoints.commit(step)
    kept = {s for s in run.rung.save_at if s <= step}
    run.checkpoints.retain(kept | set(run.checkpoints.steps()[-KEEP:]))
    run.record.timing(step=step, phase="checkpoint", seconds=time.monotonic() - began)


def _open(rung: Rung, config: dict, record: Record) -> Run:
    """Everything but the state, checked against config.json."""
    text = corpus.open_corpus(config["corpus_dir"])
    if (text.hash, text.tokenizer_hash) != (rung.data.corpus, rung.data.tokenizer_hash):
        raise InputError(
            f"{config['corpus_dir']}: corpus {text.hash}, this run needs {rung.data.corpus}; build it again"
        )
    mesh = sharding.make_mesh(rung.mesh)
    program = step.build(rung, mesh)
    shards = mesh.shape["replica"] * mesh.shape["fsdp"]
    rows = shards * max(1, 8192 // (rung.model.seq_len * shards))
    tokenizer = text.tokenizer
    evaluator = Evaluator(
        rung.eval,
        program.functions,
        tokenizer,
        rung.model.seq_len,
        batches.validation(text, rung.eval.validation_tokens, rows),
        np.asarray(tokenizer.token_bytes),
        rows_multiple=shards,
        put=lambda x: sharding.put(x, sharding.replicated(mesh)),
        out_sharding=sharding.replicated(mesh),
    )
    return Run(
        rung=rung,
        record=record,
        checkpoints=Checkpoints(record.directory / "checkpoints", jax.process_index()),
        program=program,
        data=batches.Batches(text, "train", rung.batch_sequences, rung.seed, program.rows),
        evaluator=evaluator,
        status=StatusLine(rung.label, rung.steps, rung.batch_tokens, flops_per_token(rung.model), text.bytes_per_token),
    )


def _restore(run: Run, config: dict) -> tuple[int, dict]:
    """(step, state) to go on from: the newest good checkpoint, the parent's, or a fresh start."""
    found = run.checkpoints.restore(run.program.abstract_state)
    if found is not None:
        first, state = found
        run.record.rewind(first, origin=run.origin if run.rung.kind == "branch" else -1)
        return first, state
    if run.rung.kind == "branch":
        parent = run.record.directory.parent / config["derived"]["parent_run"] / "checkpoints"
        state = Checkpoints(parent, jax.process_index()).read(run.origin, run.program.abstract_state)
        run.record.rewind(run.origin, origin=run.origin)
        return run.origin, state
    run.record.rewind()
    return 0, run.program.init()


@contextmanager
def _leased(directory: epath.Path):
    """The lease, which process 0 holds for all (None in the others); where it is refused, all raise Preempted."""
    with ExitStack() as stack:
        enter = (lambda: stack.enter_context(Lease(directory))) if jax.process_index() == 0 else (lambda: None)
        holder = []
        processes.together(lambda: holder.append(enter()), (Preempted,))
        yield holder[0]


def _share_compiled(ladder_directory: epath.Path) -> None:
    """Keep compiled programs beside the runs (or in JAX_COMPILATION_CACHE_DIR): rungs of a shape compile once."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(ladder_directory / ".compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
