"""Steps to repeat: RUN_DIR/replay/<step>.json, what is known of a step that diverged or was skipped.

Each file is written atomically and holds its own hash. It is small: rows are named, not copied. ladder/replay/repeat.py
repeats the step.
"""

import hashlib
import logging
from importlib import metadata

import jax
import numpy as np

from ladder.errors import DamagedError
from ladder.optim.schedule import learning_rate
from ladder.rundir.files import read_sealed, sealed, write_atomic

MOST_SKIPPED = 100  # skipped steps of a run that are kept
_log = logging.getLogger(__name__)


def keep(run, step: int, loss: float, grad_norm: float, outcome: str) -> None:
    """Write the bundle of a step of a Run. outcome: "diverged" or "skipped". A disk that is full is only a warning."""
    directory = run.record.directory
    if jax.process_index() != 0:
        return
    try:
        if outcome == "diverged" or len(steps(directory)) < MOST_SKIPPED:
            _write(directory, step, _bundle(run, step, loss, grad_norm, outcome))
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


def _write(directory, step: int, bundle: dict) -> None:
    folder = directory / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{step}.json", sealed({"run_id": directory.name, "step": step} | bundle))


def steps(directory) -> list[int]:
    """The steps of the kept bundles, ascending."""
    folder = directory / "replay"
    names = [path.name.removesuffix(".json") for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def read(directory, step: int) -> dict | None:
    """The bundle of a step, None if there is none. Raises DamagedError if it is damaged or another run's."""
    path = directory / "replay" / f"{step}.json"
    try:
        bundle = read_sealed(path)
    except FileNotFoundError:
        return None
    if (bundle.get("run_id"), bundle.get("step")) != (directory.name, step):
        raise DamagedError(f"{path}: belongs to step {bundle.get('step')} of {bundle.get('run_id')}; delete it")
    return bundle


def bits(value: float) -> dict:
    """A float32 as text for people, and its four bytes in hexadecimal digits."""
    return {"value": f"{value:.9g}", "bits": np.float32(value).tobytes()[::-1].hex()}


def sha256(tokens: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(tokens, np.int32).tobytes()).hexdigest()
