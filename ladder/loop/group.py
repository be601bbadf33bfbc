"""Several runs of one shape trained at once by one jitted, vmapped step (`ladder train --vmap seeds=8`): a group.

Every member is an ordinary run with its own seed or learning rate, batches, run directory, metrics and checkpoints.
Only their states are stacked, on a leading axis S, and they start and stop together.
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
from ladder.loop.run import Run
from ladder.monitor.progress import StatusLine
from ladder.optim.schedule import learning_rate
from ladder.parallel import sharding

MOST = 1000  # runs of a group


def members(rung: Rung, text: str) -> tuple[Rung, ...]:
    """The rungs of a group: text is "seeds=8" (8 seeds, from the rung's own upwards) or "peak_lr=1e-3,2e-3"."""
    name, _, values = text.partition("=")
    try:
        if name == "seeds":
            if (n := int(values)) > MOST:
                raise InputError(f"group {text!r}: at most {MOST} runs train together", "vmap")
            rungs = tuple(replace(rung, seed=rung.seed + i) for i in range(n))
        elif name == "peak_lr":
            rates = [float(value) for value in values.split(",")]
            rungs = tuple(replace(rung, optimizer=replace(rung.optimizer, peak_lr=rate)) for rate in rates)
        else:
            raise ValueError
    except ValueError:
        raise InputError(f"group {text!r}: write seeds=8 or peak_lr=1e-3,2e-3,4e-3", "vmap") from None
    if len({member.run_id for member in rungs}) < max(2, len(rungs)):
        raise InputError(f"group {text!r}: needs two or more different runs", "vmap")
    if rung.kind == "branch":
        raise InputError(f"{rung.label} is a branch, which no group trains; name a trunk or a full run", "vmap")
    return rungs


def identity(run_ids: Sequence[str]) -> str:
    """8 hex digits over the members' run_ids: the last bits of a run depend on which runs it is trained with."""
    return hashlib.sha256(canonical_json(sorted(run_ids)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Program:
    """A vmapped step.Program: states and batches have a leading axis S."""

    train_step: callable
    stack: callable  # (*states of the members) -> stacked state
    take: callable  # (stacked state or parameters, i) -> those of member i
    batch_shardings: dict


def build(program: step.Program) -> Program:
    stacked = jax.tree.map(sharding.stacked, program.shardings)
    batch = jax.tree.map(sharding.stacked, step.batch_shardings(program.mesh))
    return Program(
        train_step=jax.jit(
            jax.vmap(program.step) if program.noise_scale_every is None else _one_step_number(program.step),
            in_shardings=(stacked, batch),
            out_shardings=(stacked, sharding.replicated(program.mesh)),
            donate_argnums=0,
        ),
        stack=jax.jit(lambda *states: jax.tree.map(lambda *x: jax.numpy.stack(x), *states), out_shardings=stacked),
        take=jax.jit(lambda tree, i: jax.tree.map(lambda x: x[i], tree)),
        batch_shardings=batch,
    )


def _one_step_number(train_step):
    """The vmapped train_step with one step number for all members, who start and stop together: vmap would run both
    branches of a condition on numbers that differ."""

    def train_steps(states, batches):
        step = states["step"][0]
        return jax.vmap(lambda state, batch: train_step(state | {"step": step}, batch))(states, batches)

    return train_steps


class Group:
    """The interface of a Run for all `runs` together; the status line shows their mean loss."""

    def __init__(self, runs: Sequence[Run]):
        if jax.process_count() > 1:
            raise InputError("a group is trained in a single process; start it without a coordinator", "coordinator")
        self.runs, first = runs, runs[0]
        self.program = build(first.program)
        self.waits, self.spans = first.waits, first.spans
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
        """(step, stacked state) of the newest step that all members have; later checkpoints are deleted."""
        newest = {self._newest(run) for run in self.runs}
        while len(newest) > 1:
            for run in self.runs:
                run.checkpoints.retain([step for step in run.checkpoints.steps() if step <= min(newest)])
            newest = {self._newest(run) for run in self.runs}
        restored = [run.restore() for run in self.runs]
        return restored[0][0], self.program.stack(*(state for _, state in restored))

    @staticmethod
    def _newest(run: Run) -> int:
        restored = run.checkpoints.restore(run.program.abstract_state)
        return -1 if restored is None else restored[0]

    def read(self, pending: tuple[int, dict]) -> float:
        step, metrics = pending
        metrics = jax.device_get(metrics)
        return statistics.fmean(
            run.read((step, {name: x[i] for name, x in metrics.items()})) for i, run in enumerate(self.runs)
        )

    def evaluate(self, step: int, params) -> None:
        with self.spans("evaluation"):
            for i, run in enumerate(self.runs):
                run.evaluate(step, self.program.take(params, i))

    def save(self, step: int, state: dict) -> None:
        with self.spans("checkpoint"):
            for i, run in enumerate(self.runs):
                run.save(step, self.program.take(state, i))

    def heartbeat(self, step: int, loss: float, rate: float | None) -> None:
        for run in self.runs:
            run.waits.seconds = self.waits.seconds  # the members wait together
            run.heartbeat(step, loss, rate and rate / len(self.runs))

    def finish(self) -> None:
        for run in self.runs:
            run.finish()
