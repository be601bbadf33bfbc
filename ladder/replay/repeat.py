"""Repeat one step of a run, from the newest checkpoint before it, and look at it. Nothing is written into the run."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ladder.config import Rung
from ladder.errors import InputError
from ladder.loop import run, step
from ladder.optim.schedule import learning_rate
from ladder.parallel import sharding
from ladder.rundir import config_file, replays
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.files import as_path
from ladder.rundir.record import Record

SHOWN = 5  # rows of the batch, those with the largest loss
CHARACTERS = 200  # of the text of a row


@dataclass(frozen=True)
class Row:
    """A row of the step's batch. loss: nats per token before the step. text: how it begins."""

    row: int
    source: str
    window: int
    loss: float
    text: str


@dataclass(frozen=True)
class Part:
    """A layer, or the parameters beside the layers, before the step. not_finite: its tensors whose gradient, or which
    themselves, hold NaN or Inf."""

    name: str
    grad_norm: float
    param_norm: float
    not_finite: tuple[str, ...]


@dataclass(frozen=True)
class Replay:
    """Step `step` of a run, repeated from the state after `starts_from` steps.

    loss (nats per token), grad_norm, skipped: of the repeated step. recorded: what the run kept of it, {} if nothing.
    same: whether loss and gradient norm have the recorded bits; None where none are recorded. differs: what else is
    not as it was in the run: rows, devices, versions. rows: those with the largest loss. parts: from the embedding up.
    """

    run_id: str
    step: int
    starts_from: int
    loss: float
    grad_norm: float
    skipped: bool
    recorded: dict
    same: bool | None
    differs: tuple[str, ...]
    rows: tuple[Row, ...]
    parts: tuple[Part, ...]


def replay(directory, at: int | None = None) -> Replay:
    """Repeat step `at` of a run directory; None for the last one that diverged or was skipped.

    It takes the devices of this process, laid out as config.json says. Raises InputError where there is no such step,
    or no checkpoint before it is intact.
    """
    record = Record(as_path(directory) if isinstance(directory, str) else directory)
    config, rung = config_file.read(record)
    at = _chosen(record, rung, at)
    program = step.build(rung, sharding.make_mesh(rung.mesh))
    corpora = run.open_corpora(config, rung)
    batches = run.training_batches(rung, corpora, program.rows)
    starts_from, state = _state_before(record, config, rung, program, at)

    def put(number: int) -> dict:
        return program.put(batches(number), learning_rate(rung, number))

    for number in range(starts_from, at - 1):
        state, _ = program.train_step(state, put(number))
    tokens_BL, batch = batches(at - 1)["tokens"], put(at - 1)
    nats_B, parts = _look(program, state["params"], batch["tokens"])
    _, metrics = program.train_step(state, batch)
    loss, grad_norm = float(metrics["loss"]), float(metrics["grad_norm"])
    recorded = _recorded(record, at)
    now = {"loss": replays.bits(loss), "grad_norm": replays.bits(grad_norm)}
    return Replay(
        run_id=rung.run_id,
        step=at,
        starts_from=starts_from,
        loss=loss,
        grad_norm=grad_norm,
        skipped=bool(metrics.get("skip", False)),
        recorded=recorded,
        same=all(recorded[name]["bits"] == now[name]["bits"] for name in now) if recorded else None,
        differs=tuple(_differences(recorded, tokens_BL)),
        rows=tuple(_rows(rung, batches.windows(at - 1), tokens_BL, nats_B, corpora[0].tokenizer)),
        parts=tuple(parts),
    )


def _chosen(record: Record, rung: Rung, at: int | None) -> int:
    kept, first = replays.steps(record.directory), (rung.parent_step or 0) + 1
    if at is None and not kept:
        raise InputError(f"{record.directory}: no step of this run diverged or was skipped; name one", "step")
    at = kept[-1] if at is None else at
    if not first <= at <= rung.steps:
        raise InputError(f"{record.directory}: has no step {at}; its steps are {first} to {rung.steps}", "step")
    return at


def _state_before(record: Record, config: dict, rung: Rung, program: step.Program, at: int) -> tuple[int, dict]:
    """(step, state) of the newest checkpoint before step `at`, else the parent's, else the initial state."""
    saved = [saved for saved in record.saved_steps() if saved < at]
    if saved:
        return saved[-1], Checkpoints(record.directory / "checkpoints").read(saved[-1], program.abstract_state)
    if rung.kind == "branch":
        parent = Checkpoints(record.directory.parent / config["derived"]["parent_run"] / "checkpoints")
        return rung.parent_step, parent.read(rung.parent_step, program.abstract_state)
    return 0, program.init()


def _recorded(record: Record, at: int) -> dict:
    """The bundle of the step; else the loss and the gradient norm in the metrics, if the step was logged."""
    if bundle := replays.read(record.directory, at):
        return bundle
    rows = [row for row in record.rows() if (row["step"], row["task"]) == (at, "train")]
    logged = {row["metric"]: replays.bits(row["value"]) for row in rows if row["metric"] in ("loss", "grad_norm")}
    return logged if len(logged) == 2 else {}


def _differences(recorded: dict, tokens_BL: np.ndarray):
    """What was not as it is here when the run trained the step: any of it may change the last bits."""
    if recorded.get("tokens_sha256", replays.sha256(tokens_BL)) != replays.sha256(tokens_BL):
        now = [replays.sha256(row)[:16] for row in tokens_BL]
        other = [i for i, row in enumerate(recorded["rows"]) if row["sha256"] != now[i]]
        yield f"rows {', '.join(map(str, other[:SHOWN]))} of the batch have other tokens"
    here = replays.machine()
    for name in here.keys() & recorded.keys():
        if recorded[name] != here[name]:
            yield f"{name}: {recorded[name]} in the run, {here[name]} here"
    if recorded.get("group"):
        yield f"it was trained in a group of {len(recorded['group'])} runs, and is repeated alone"


def _look(program: step.Program, params: dict, tokens) -> tuple[np.ndarray, list[Part]]:
    """(nats per token of each row, the Parts)."""

    @jax.jit
    def look(params, tokens):
        grads, _ = program.gradient(params, tokens)
        grads = jax.tree.map(lambda g: g / (tokens.shape[0] * (tokens.shape[1] - 1)), grads)
        return program.nats(params, tokens).mean(axis=1), _norms(grads), _norms(params)

    nats_B, grads, norms = jax.device_get(look(params, tokens))
    parts = []
    for name in norms:
        not_finite = [leaf for leaf in norms[name] if not np.isfinite([norms[name][leaf], grads[name][leaf]]).all()]
        total, param_total = (float(np.sqrt(sum(x[name].values()))) for x in (grads, norms))
        parts.append(Part(name, total, param_total, tuple(not_finite)))
    return np.asarray(nats_B), parts


def _norms(params: dict) -> dict[str, dict]:
    """{part: {tensor: the sum of its squares}}; each layer is a part."""
    parts: dict[str, dict] = {}
    for name, tree in params.items():
        leaves = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path({name: tree})}
        for leaf, x in leaves.items():
            squares = jnp.square(x.astype(jnp.float32))
            if name != "blocks":
                parts.setdefault(name, {})[leaf] = squares.sum()
                continue
            for layer in range(x.shape[0]):
                parts.setdefault(f"layer {layer}", {})[leaf] = squares[layer].sum()
    return parts


def _rows(rung: Rung, windows, tokens_BL, nats_B, tokenizer):
    names = [source.name for source in rung.data.sources] or [""]
    order = np.argsort(-np.where(np.isfinite(nats_B), nats_B, np.inf), kind="stable")
    for row in order[:SHOWN].tolist():
        text = tokenizer.decode(tokens_BL[row].tolist())[:CHARACTERS]
        yield Row(row, names[windows[row][0]], windows[row][1], float(nats_B[row]), text)
