"""Evaluate checkpoints of a run, or a published model, after training; rundir/evaluations.py keeps the results."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from ladder.config import Eval, Mesh
from ladder.convert import pretrained
from ladder.errors import InputError
from ladder.evaluation.evaluator import Evaluator
from ladder.loop import compile_cache, run
from ladder.loop.step import build
from ladder.model.transformer import Hooks, functions, init_params
from ladder.parallel import sharding
from ladder.rundir import config_file, evaluations
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.files import as_path
from ladder.rundir.record import Record


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one checkpoint.

    run_id, step: the checkpoint; for a published model its name and None. hash: of tasks, tokenizer and settings.
    tokens: processed by the model, padding included. share: FLOPs of the evaluation / FLOPs of training up to `step` (a
    token costs a third of one in training); None for a published model. cut: number of requests whose answer is longer
    than the model's context. seconds: None where the rows were recorded before. rows: as in the metrics.
    """

    run_id: str
    step: int | None
    hash: str
    tokens: int
    share: float | None
    cut: int
    seconds: float | None
    rows: tuple[dict, ...]


def evaluate(
    path, tasks: Sequence[str] | None = None, *, max_docs: int | None = None, step: int | None = None, missing=False
) -> Iterator[Evaluation]:
    """Evaluate checkpoints of a run directory; each evaluation is recorded before it is yielded. Or a published model.

    path: a run directory, or a GGUF file or a Hugging Face folder, whose evaluation is not recorded.
    tasks: names or files (evaluation/tasks.py); None for the run's own tasks and validation text.
    max_docs: at most this many docs of each task. step: the checkpoint; None for the newest. missing: all checkpoints
    without this evaluation, be it from training or from an earlier call.
    Raises InputError where a checkpoint, task, tokenizer or (for validation) corpus does not exist.
    """
    path = as_path(path) if isinstance(path, str) else path
    if pretrained.is_model(path):
        if missing or step is not None:
            raise InputError(
                f"{path}: a published model has no checkpoints to choose from", "missing" if missing else "step"
            )
        yield _evaluate_model(path, tasks, max_docs)
        return
    record = Record(path)
    saved = record.saved_steps()
    if step is not None and step not in saved:
        raise InputError(f"{path}: no checkpoint of step {step}; there are {', '.join(map(str, saved)) or 'none'}")
    if not saved:
        raise InputError(f"{path}: no checkpoint to evaluate; train it first")
    compile_cache.keep(record.directory.parent / ".compiled")
    rung, program, evaluator = _open(record, tasks, max_docs)
    checkpoints = Checkpoints(record.directory / "checkpoints", jax.process_index())
    recorded = _recorded(record, evaluator.hash)
    chosen = [s for s in saved if s not in recorded] if missing else [step or saved[-1]]
    for step in chosen:
        began, rows = time.monotonic(), recorded.get(step)
        if rows is None:
            params = checkpoints.read(step, program.abstract_state)["params"]
            rows = [run.metric_row(rung, step, **row) for row in evaluator.rows(params)]
            evaluations.write(record.directory, step, evaluator.hash, rows)
        seconds = None if step in recorded else time.monotonic() - began
        share = evaluator.n_tokens / 3 / (step * rung.batch_tokens)
        yield Evaluation(
            path.name, step, evaluator.hash, evaluator.n_tokens, share, evaluator.n_cut, seconds, tuple(rows)
        )


def _open(record: Record, tasks: Sequence[str] | None, max_docs: int | None):
    """(rung, program, evaluator) of a run, to evaluate it on the largest number of devices that divides its batch.

    The corpus is opened only for validation text; otherwise its tokenizer is enough.
    """
    config, rung = config_file.read(record)
    rung = replace(rung, eval=_evaluation_config(rung.eval, tasks, max_docs), mesh=Mesh())
    devices = jax.devices()
    mesh = sharding.make_mesh(rung.mesh, devices[: math.gcd(rung.batch_sequences, len(devices))])
    program = build(rung, mesh)
    corpora = run.open_corpora(config, rung) if rung.eval.validation_tokens else None
    tokenizer = corpora[0].tokenizer if corpora else run.open_tokenizer(config, rung)
    return rung, program, run.evaluator(rung, program, tokenizer, corpora)


def _evaluation_config(default: Eval, tasks: Sequence[str] | None, max_docs: int | None) -> Eval:
    """The run's own evaluation; or, where tasks are given, these without validation text."""
    if tasks is not None:
        return Eval(tuple(tasks), max_docs=max_docs, validation_tokens=0)
    return default if max_docs is None else replace(default, max_docs=max_docs)


def _evaluate_model(path: Path, tasks: Sequence[str] | None, max_docs: int | None) -> Evaluation:
    """Evaluate a published model (convert/pretrained.py), its weights sharded over all devices."""
    if not tasks:
        raise InputError(f"{path}: no tasks to evaluate; name some, for example olmes", "tasks")
    began, mesh = time.monotonic(), sharding.make_mesh(Mesh())
    published = pretrained.open_model(path)
    model = published.model
    model_functions = functions(model, Hooks(constrain=sharding.constrain(mesh)))
    asked = Eval(tuple(tasks), max_docs=max_docs)
    evaluator = Evaluator(asked, model_functions, published.tokenizer, model.seq_len, mesh=mesh)
    params = published.params(sharding.shardings(mesh, jax.eval_shape(lambda: init_params(model, 0))))
    rows, seconds = tuple(evaluator.rows(params)), time.monotonic() - began
    name = path.stem if path.is_file() else path.absolute().name
    return Evaluation(name, None, evaluator.hash, evaluator.n_tokens, None, evaluator.n_cut, seconds, rows)


def _recorded(record: Record, evaluation_hash: str) -> dict[int, list[dict]]:
    """{step: rows} of this evaluation: from training, where a row has the same hash, and from `evaluate`.

    A run made before rows had a hash has one in DONE.json, which then holds for all its rows.
    """
    rows = [row for row in record.rows() if row["task"] != "train"]
    older = not any("evaluation" in row for row in rows)
    hash_of_all = (record.done() or {}).get("evaluation") if older else None
    rows_by_step: dict[int, list[dict]] = {}
    for row in rows:
        if row.get("evaluation", hash_of_all) == evaluation_hash:
            rows_by_step.setdefault(row["step"], []).append(row)
    return rows_by_step | evaluations.read(record.directory, evaluation_hash)
