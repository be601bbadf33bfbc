"""What is kept of a step that diverged or was skipped, for `ladder replay` (replay.py) to repeat it."""

import hashlib
import logging
from importlib import metadata

import jax
import numpy as np

from ladder.optim.schedule import learning_rate
from ladder.rundir import replays

MOST_SKIPPED = 100  # skipped steps of a run that are kept
_log = logging.getLogger(__name__)


def keep(run, step: int, loss: float, grad_norm: float, outcome: str) -> None:
    """Write the bundle of a step of a Run. outcome: "diverged" or "skipped". A disk that is full is only a warning."""
    directory = run.record.directory
    if jax.process_index() != 0:
        return
    try:
        if outcome == "diverged" or len(replays.steps(directory)) < MOST_SKIPPED:
            replays.write(directory, step, _bundle(run, step, loss, grad_norm, outcome))
    except OSError as error:
        _log.warning("%s: no bundle of step %s for ladder replay: %s", directory, step, error)


def _bundle(run, step: int, loss: float, grad_norm: float, outcome: str) -> dict:
    """Plain JSON. The step's batch is number step - 1; starts_from: the checkpoint to repeat the step from, None if
    that is the initial state (or a branch's parent)."""
    rung, batches = run.rung, run.data.whole()
    names = [source.name for source in rung.data.sources] or [""]
    tokens_BL = batches(step - 1)["tokens"]
    rows = zip(batches.windows(step - 1), tokens_BL, strict=True)
    return {
        "outcome": outcome,
        "loss": bits(loss),
        "grad_norm": bits(grad_norm),
        "learning_rate": learning_rate(rung, step - 1),
        "seed": rung.seed,
        "identity": rung.identity,
        "starts_from": max((saved for saved in run.record.saved_steps() if saved < step), default=None),
        "batch": step - 1,
        "tokens_sha256": sha256(tokens_BL),
        "rows": [{"source": names[i], "window": window, "sha256": sha256(row_L)[:16]} for (i, window), row_L in rows],
        "group": (run.record.read_config().get("group") or {}).get("members", []),
        **machine(),
    }


def machine() -> dict:
    """What the last bits of a step may depend on."""
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "optax")}
    return {"processes": jax.process_count(), "devices": devices, "versions": versions}


def bits(value: float) -> dict:
    """A float32 as text for people, and its four bytes in hexadecimal digits."""
    return {"value": f"{value:.9g}", "bits": np.float32(value).tobytes()[::-1].hex()}


def sha256(tokens: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(tokens, np.int32).tobytes()).hexdigest()
