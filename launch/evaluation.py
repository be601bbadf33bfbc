"""Evaluating what is trained already, from its checkpoints.

RUN_DIR/evaluations/<step>-<hash>.jsonl holds one evaluation, a row a line as in the metrics; the hash is of what was
asked and how (evaluate.py). A file is there whole or not at all: an evaluation that was cut off is made anew.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.table import Table

from ladder.config import Eval, Mesh, Rung, canonical_json
from ladder.errors import InputError
from ladder.overrides import from_dict
from ladder.rundir.files import read_json, write_atomic
from ladder.rundir.record import Record
from launch import terminal

SHOWN = ("bpb", "ce_loss", "acc", "len_norm", "soft", "soft_log", "loss")


@dataclass(frozen=True)
class Evaluation:
    """seconds: None where it was recorded before. share: of the compute that trained the run up to the step (a token
    costs a forward pass here, three times that in training). step and share: None of a model from a file."""

    run_id: str
    step: int | None
    hash: str
    tokens: int
    share: float | None
    cut: int
    seconds: float | None
    rows: tuple[dict, ...]


@dataclass(frozen=True)
class Wanted:
    """tasks and max_docs: None for the run's own. step: None for the newest checkpoint. missing: all checkpoints that
    have no such evaluation yet, whether from training or from here."""

    tasks: tuple[str, ...] | None = None
    max_docs: int | None = None
    step: int | None = None
    missing: bool = False


def evaluate(directory: Path, wanted: Wanted) -> Iterator[Evaluation]:
    """The evaluations of one run that are wanted, each recorded before it is handed out; or that of a .gguf file.

    Raises InputError where there is no such checkpoint, task or corpus.
    """
    from ladder.loop.run import open_run
    from ladder.loop.train import share_compiled

    if directory.suffix == ".gguf":
        yield evaluate_file(directory, wanted)
        return
    record = Record(directory)
    saved = record.saved_steps()
    if wanted.step is not None and wanted.step not in saved:
        raise InputError(f"{directory}: no checkpoint of step {wanted.step}; there are {_listed(saved)}")
    if not saved:
        raise InputError(f"{directory}: no checkpoint to evaluate; train it first")
    share_compiled(record.directory.parent)
    run = open_run(record, asked(record, wanted))
    there = _recorded(record, run.evaluator.hash)
    steps = [wanted.step or saved[-1]] if not wanted.missing else [step for step in saved if step not in there]
    for step in steps:
        began, rows = time.monotonic(), there.get(step)
        if rows is None:
            params = run.checkpoints.read(step, run.program.abstract_state)["params"]
            rows = run.scores(step, params)
            text = "".join(canonical_json(row) + "\n" for row in rows)
            write_atomic(_path(record, step, run.evaluator.hash), text, reached="evaluation-written")
        seconds = None if step in there else time.monotonic() - began
        tokens, cut = run.evaluator.n_tokens, run.evaluator.n_cut
        share = tokens / 3 / (step * run.rung.batch_tokens)
        yield Evaluation(directory.name, step, run.evaluator.hash, tokens, share, cut, seconds, tuple(rows))


def evaluate_file(path: Path, wanted: Wanted) -> Evaluation:
    """The wanted tasks of a published model (ladder/convert/gguf.py), over all devices; recorded nowhere.

    Raises InputError where the file cannot be read, or tasks are not named.
    """
    import jax

    from ladder.convert import gguf
    from ladder.evaluation.evaluator import Evaluator
    from ladder.model.transformer import Hooks, functions
    from ladder.parallel import sharding

    if not wanted.tasks:
        raise InputError(f"{path}: say what to ask of it, as in --tasks olmes --max-docs 100")
    if wanted.missing or wanted.step is not None:
        raise InputError(f"{path}: it is one model, without checkpoints; leave out --step and --missing")
    began, mesh = time.monotonic(), sharding.make_mesh(Mesh())
    model, weights, tokenizer = gguf.read(path)
    params = jax.tree.map(sharding.put, weights, sharding.shardings(mesh, weights))
    computed = functions(model, Hooks(constrain=sharding.constrain(mesh)))
    asks = Eval(wanted.tasks, max_docs=wanted.max_docs)
    evaluator = Evaluator(asks, computed, tokenizer, model.seq_len, mesh=mesh)
    rows, seconds = tuple(evaluator.rows(params)), time.monotonic() - began
    return Evaluation(path.stem, None, evaluator.hash, evaluator.n_tokens, None, evaluator.n_cut, seconds, rows)


def asked(record: Record, wanted: Wanted) -> Eval:
    """What is asked of a run: its own evaluation, or the wanted tasks without the validation text."""
    own = from_dict(Rung, record.read_config()["rung"], where=f"{record.directory}/config.json").eval
    if wanted.tasks is not None:
        return Eval(wanted.tasks, max_docs=wanted.max_docs, validation_tokens=0)
    return own if wanted.max_docs is None else replace(own, max_docs=wanted.max_docs)


def _path(record: Record, step: int, evaluation: str):
    folder = record.directory / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{step:09d}-{evaluation}.jsonl"


def _recorded(record: Record, evaluation: str) -> dict[int, list[dict]]:
    """{step: rows} of this evaluation: made during training, where DONE.json says that it was this one, or since."""
    found, done = {}, record.directory / "DONE.json"
    if done.exists() and read_json(done).get("evaluation") == evaluation:
        for row in record.rows():
            if row["task"] != "train":
                found.setdefault(row["step"], []).append(row)
    for path in (record.directory / "evaluations").glob(f"*-{evaluation}.jsonl"):
        found[int(path.name.partition("-")[0])] = [json.loads(line) for line in path.read_text().splitlines()]
    return found


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "none"


def table(evaluation: Evaluation) -> Table:
    """For people: a line a task."""
    at = "" if evaluation.step is None else f" at step {evaluation.step:,}"
    grid = Table(title=f"{evaluation.run_id}{at}", title_justify="left")
    by_task: dict[str, dict] = {}
    for row in evaluation.rows:
        by_task.setdefault(row["task"], {})[row["metric"]] = row
    metrics = [metric for metric in SHOWN if any(metric in rows for rows in by_task.values())]
    for name in ("task", "docs", *metrics, "chance", "majority"):
        grid.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for task, rows in by_task.items():
        guessed = rows.get("acc", {})
        docs = next(iter(rows.values()))["n_docs"]
        cells = [_cell(rows.get(metric)) for metric in metrics]
        rates = [f"{guessed[name]:.3f}" if name in guessed else "" for name in ("chance", "majority")]
        grid.add_row(task, "" if docs is None else f"{docs:,}", *cells, *rates)
    return grid


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.4f}" + ("" if row["stderr"] is None else f" ± {row['stderr']:.4f}")


def cost(evaluation: Evaluation) -> str:
    """One line under the table."""
    if evaluation.seconds is None:
        return "recorded before; nothing was computed"
    said = f"{evaluation.tokens:,} tokens in {terminal.duration(evaluation.seconds)}"
    said += "" if evaluation.share is None else f", {evaluation.share:.2%} of the compute of its training"
    return said + (f"; {evaluation.cut} answers are longer than the model" if evaluation.cut else "")


def to_json(evaluations: Iterable[Evaluation]) -> dict:
    return {"evaluations": [asdict(evaluation) for evaluation in evaluations]}
