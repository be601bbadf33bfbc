"""Several runs of one shape trained at once, by one jitted step vmapped over them (`ladder train --vmap seeds=8`).

Every member is an ordinary run: its own seed or learning rate, batches, run directory, metrics and checkpoints. Only
the state is stacked, on a leading axis S, and they start and stop together.
"""

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from ladder.config import Rung, canonical_json
from ladder.errors import InputError
from ladder.loop import step
from ladder.loop.progress import StatusLine
from ladder.loop.run import Run
from ladder.optim.schedule import learning_rate
from ladder.parallel import sharding


def members(rung: Rung, text: str) -> tuple[Rung, ...]:
    """The rungs that "seeds=8" (8 seeds from the rung's own on) or "peak_lr=1e-3,2e-3" makes of one."""
    name, _, values = text.partition("=")
    try:
        if name == "seeds":
            found = tuple(replace(rung, seed=rung.seed + i) for i in range(int(values)))
        elif name == "peak_lr":
            rates = [float(value) for value in values.split(",")]
            found = tuple(replace(rung, optimizer=replace(rung.optimizer, peak_lr=rate)) for rate in rates)
        else:
            raise ValueError
    except ValueError:
        raise InputError(f"--vmap {text}: write seeds=8 or peak_lr=1e-3,2e-3,4e-3") from None
    if len({one.run_id for one in found}) < max(2, len(found)):
        raise InputError(f"--vmap {text}: needs two or more different runs")
    if rung.kind == "branch":
        raise InputError(f"--vmap: {rung.label} is a branch, of one trunk; train trunks or whole runs at once")
    return found


def identity(run_ids: Sequence[str]) -> str:
    """8 hex digits over the members: in another company the last bits of a run would be others."""
    return hashlib.sha256(canonical_json(sorted(run_ids)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Program:
    """The members' program, vmapped: states and batches have a leading axis S."""

    train_step: callable
    stack: callable  # the members' states -> one
    take: callable  # (a state, or parameters, and i) -> member i's
    batch_shardings: dict


def build(one: step.Program) -> Program:
    stacked = jax.tree.map(sharding.stacked, one.shardings)
    batch = jax.tree.map(sharding.stacked, step.batch_shardings(one.mesh))
    return Program(
        train_step=jax.jit(
            jax.vmap(one.step),
            in_shardings=(stacked, batch),
            out_shardings=(stacked, sharding.replicated(one.mesh)),
            donate_argnums=0,
        ),
        stack=jax.jit(lambda *states: jax.tree.map(lambda *x: jax.numpy.stack(x), *states), out_shardings=stacked),
        take=jax.jit(lambda tree, i: jax.tree.map(lambda x: x[i], tree)),
        batch_shardings=batch,
    )


class Group:
    """What the loop asks of a Run, asked of all `runs`; the loss it shows is their mean."""

    def __init__(self, runs: Sequence[Run]):
        if jax.process_count() > 1:
            raise InputError("--vmap trains small runs: start it with one process")
        self.runs, first = runs, runs[0]
        self.program = build(first.program)
        self.steps, self.evaluates, self.saves, self.epoch = first.steps, first.evaluates, first.saves, first.epoch
        status = first.status
        self.status = StatusLine(
            f"{first.rung.label} x {len(runs)}",
            status.steps,
            status.batch_tokens * len(runs),
            status.flops_per_token,
            status.bytes_per_token,
        )

    def data(self, step: int) -> dict[str, np.ndarray]:
        return {"tokens": np.stack([run.data(step)["tokens"] for run in self.runs])}

    def put(self, batch: dict, step: int) -> dict:
        rates = np.array([learning_rate(run.rung, step) for run in self.runs], np.float32)
        return jax.device_put(batch | {"learning_rate": rates}, self.program.batch_shardings)

    def restore(self) -> tuple[int, dict]:
        """(step, state) of the newest step that all members have; what some have saved after it is dropped."""
        at = {self._newest(run) for run in self.runs}
        while len(at) > 1:
            for run in self.runs:
                run.checkpoints.retain([step for step in run.checkpoints.steps() if step <= min(at)])
            at = {self._newest(run) for run in self.runs}
        restored = [run.restore() for run in self.runs]
        return restored[0][0], self.program.stack(*(state for _, state in restored))

    @staticmethod
    def _newest(run: Run) -> int:
        found = run.checkpoints.restore(run.program.abstract_state)
        return -1 if found is None else found[0]

    def read(self, pending: tuple[int, dict]) -> float:
        step, metrics = pending
        metrics = jax.device_get(metrics)
        of_each = [{name: x[i] for name, x in metrics.items()} for i in range(len(self.runs))]
        return statistics.fmean(run.read((step, one)) for run, one in zip(self.runs, of_each, strict=True))

    def evaluate(self, step: int, params) -> None:
        for i, run in enumerate(self.runs):
            run.evaluate(step, self.program.take(params, i))

    def save(self, step: int, state: dict) -> None:
        for i, run in enumerate(self.runs):
            run.save(step, self.program.take(state, i))

    def heartbeat(self, step: int, loss: float, rate: float | None) -> None:
        for run in self.runs:
            run.heartbeat(step, loss, rate and rate / len(self.runs))

    def finish(self) -> None:
        for run in self.runs:
            run.finish()
