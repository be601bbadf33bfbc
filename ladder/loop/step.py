"""One optimizer step as a pure, jitted, donated function of (state, batch)."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ladder.config import Rung
from ladder.errors import InputError
from ladder.model import attention, transformer
from ladder.model.cross_entropy import token_nats
from ladder.optim import adamw, noise_scale, skip_step
from ladder.parallel import layout, sharding

UNROLL_LAYERS = 8  # most layers that are unrolled on a CPU


def init_state(rung: Rung, seed: int | None = None) -> dict:
    """{"step", "params", "optimizer"} before the first step, and "skips" of a rung that skips steps (skip_step.py).

    seed: None for the rung's own.
    """
    return start(rung, transformer.init_params(rung.model, rung.seed if seed is None else seed))


def start(rung: Rung, params: dict) -> dict:
    """The state before the first step that has these parameters."""
    state = {"step": jnp.zeros((), jnp.int32), "params": params, "optimizer": adamw.build(rung).init(params)}
    skips = skip_step.init(rung.optimizer)
    return state | ({"skips": skips} if skips else {})


@dataclass(frozen=True)
class Program:
    """A rung's functions on a mesh, and the shardings of its state; `build` makes it."""

    mesh: jax.sharding.Mesh
    functions: transformer.Functions
    shardings: dict  # of the state
    init: callable
    start: callable  # params, donated -> state
    step: callable  # train_step before jit
    train_step: callable
    abstract_state: dict  # shapes, dtypes and shardings
    batch_sequences: int
    noise_scale_every: int | None
    gradient: callable  # (params, tokens[B, L + 1]) -> (gradient of nats + z-loss, nats), summed over target tokens
    nats: callable  # (params, tokens[B, L + 1]) -> nats[B, L] of the target tokens

    @cached_property
    def rows(self) -> list[int]:
        """The rows of the global batch that this process's devices hold."""
        return sharding.local_rows(batch_shardings(self.mesh)["tokens"], self.batch_sequences)

    def put(self, batch: dict, learning_rate: float) -> dict:
        """The batch that train_step takes: a global array from this process's rows, and the learning rate."""
        tokens, shardings = batch["tokens"], batch_shardings(self.mesh)
        shape = (self.batch_sequences, *tokens.shape[1:])

        def device_rows(index):
            start, stop, _ = index[0].indices(self.batch_sequences)
            first = bisect_left(self.rows, start)
            return tokens[first : first + stop - start]

        # To the transfer guard, make_array_from_callback is an implicit transfer.
        with jax.transfer_guard_host_to_device("allow"):
            return {
                "tokens": jax.make_array_from_callback(shape, shardings["tokens"], device_rows),
                "learning_rate": sharding.put(np.float32(learning_rate), shardings["learning_rate"]),
            }


def batch_shardings(mesh: jax.sharding.Mesh) -> dict:
    return {"tokens": sharding.batch_sharding(mesh), "learning_rate": sharding.replicated(mesh)}


def build(rung: Rung, mesh: jax.sharding.Mesh) -> Program:
    """The jitted functions of a rung on a mesh.

    train_step(state, batch) -> (state, {"loss", "grad_norm"}): loss in nats per token (without the z-loss),
    grad_norm before clipping; the state is donated. Of a rung that skips steps also "skip", whether it skipped this
    one, and "skipped" and "not_finite" (skip_step.py). Of a rung that measures the noise scale also the METRICS of
    noise_scale.py, zeros at the steps in between. Raises InputError where a microbatch does not divide over the
    devices, or the layout does not fit the model.
    """
    data_shards = sharding.data_shards(mesh)
    layout.check_batch(rung, data_shards, mesh.shape["tensor"])
    if rung.data.mask_documents and rung.data.eos_id is None:
        raise InputError(f"rung {rung.label}: data.mask_documents needs a corpus that is built; `ladder data build`")
    model, platform = rung.model, mesh.devices.flat[0].platform
    attend = attention.choose(
        rung.mesh.attention, model.seq_len, platform, mesh.shape["sequence"], model.kv_heads, mesh.shape["tensor"]
    )
    if attend is attention.splash:
        attend = sharding.on_each_device(mesh, attend, attention.splash_kernel)
    hooks = transformer.Hooks(
        constrain=sharding.constrain(mesh) if mesh.size > 1 else lambda x, axes: x,
        attend=attend,
        remat=rung.mesh.remat,
        unroll=platform == "cpu" and model.n_layers <= UNROLL_LAYERS,
        eos=rung.data.eos_id,
    )
    functions = transformer.functions(model, hooks)
    state = jax.eval_shape(lambda: init_state(rung))
    shardings = sharding.shardings(mesh, state)
    sharding.refuse_replication(mesh, state, shardings)
    scalar = sharding.replicated(mesh)
    nats = sharding.on_own_tokens(mesh, _nats) if mesh.size > 1 else _nats
    of_microbatch = _gradient(rung, functions, nats)
    gradient = _summed_gradient(rung, of_microbatch)
    train_step = _train_step(rung, _measured_gradient(rung, gradient, of_microbatch))
    return Program(
        mesh=mesh,
        functions=functions,
        shardings=shardings,
        # The seed is an input, so that all seeds share one compiled program.
        init=partial(jax.jit(partial(init_state, rung), out_shardings=shardings), rung.seed),
        start=jax.jit(partial(start, rung), out_shardings=shardings, donate_argnums=0),
        step=train_step,
        train_step=jax.jit(
            train_step,
            in_shardings=(shardings, batch_shardings(mesh)),
            out_shardings=(shardings, scalar),
            donate_argnums=0,
        ),
        abstract_state=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings),
        batch_sequences=rung.batch_sequences,
        noise_scale_every=rung.optimizer.noise_scale_every,
        gradient=gradient,
        nats=lambda params, tokens: nats(
            functions.head(params), functions.hidden(params, tokens[:, :-1]), tokens[:, 1:]
        )[0],
    )


def _nats(head_DV, x_BLD, targets_BL):
    """(nats_BL, log_z_BL): cross_entropy.token_nats of rows."""
    nats_T, log_z_T = token_nats(
        transformer.project, head_DV, x_BLD.reshape(-1, x_BLD.shape[-1]), targets_BL.reshape(-1)
    )
    return nats_T.reshape(targets_BL.shape), log_z_T.reshape(targets_BL.shape)


def _gradient(rung: Rung, functions: transformer.Functions, nats):
    def summed_loss(params, tokens):
        """(nats + z-loss, nats), summed over the target tokens of a microbatch."""
        x_BLD = functions.hidden(params, tokens[:, :-1])
        nats_BL, log_z_BL = nats(functions.head(params), x_BLD, tokens[:, 1:])
        total_nats = nats_BL.sum()
        return total_nats + rung.optimizer.z_loss * jnp.square(log_z_BL).sum(), total_nats

    return jax.grad(summed_loss, has_aux=True)


def _summed_gradient(rung: Rung, gradient):
    accumulation = rung.mesh.accumulation

    def summed_gradient(params, tokens_B):
        """(gradient, nats), summed over the tokens of all microbatches; the caller divides once."""
        if accumulation == 1:
            return gradient(params, tokens_B)
        # Microbatch a takes rows a, a + A, a + 2A, ..., so that every device keeps its own rows.
        tokens_AB = jnp.swapaxes(tokens_B.reshape(-1, accumulation, tokens_B.shape[1]), 0, 1)
        zero = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params), jnp.zeros(())

        def add(carry, tokens):
            return jax.tree.map(jnp.add, carry, gradient(params, tokens)), None

        return jax.lax.scan(add, zero, tokens_AB)[0]

    return summed_gradient


def _measured_gradient(rung: Rung, gradient, of_microbatch):
    """(params, tokens, steps before) -> ((gradient, nats), noise_scale.METRICS, or {} if the rung measures none).

    A step that is not measured takes `gradient` of its batch, and its METRICS are zeros.
    """
    every = rung.optimizer.noise_scale_every
    if every is None:
        return lambda params, tokens, step: (gradient(params, tokens), {})

    def plain(params, tokens):
        return gradient(params, tokens), dict.fromkeys(noise_scale.METRICS, jnp.zeros(()))

    def measured(params, tokens):
        types = jax.eval_shape(plain, params, tokens)
        values = noise_scale.accumulated(of_microbatch, params, tokens, rung.microbatches)
        return jax.tree.map(lambda x, like: x.astype(like.dtype), values, types)

    return lambda params, tokens, step: jax.lax.cond((step + 1) % every == 0, measured, plain, params, tokens)


def _train_step(rung: Rung, gradient):
    transform = adamw.build(rung)

    def train_step(state, batch):
        tokens = batch["tokens"]
        n_targets = tokens.shape[0] * (tokens.shape[1] - 1)
        (grads, total_nats), noise = gradient(state["params"], tokens, state["step"])
        grads = jax.tree.map(lambda g: g / n_targets, grads)
        updates, opt_state = transform.update(grads, state["optimizer"], state["params"])
        params = jax.tree.map(lambda p, u: p - (batch["learning_rate"] * u).astype(p.dtype), state["params"], updates)
        metrics = {"loss": total_nats / n_targets, "grad_norm": optax.tree.norm(grads)} | noise
        new = {"params": params, "optimizer": opt_state}
        if "skips" in state:
            skip, skips = skip_step.update(rung.optimizer, state["skips"], metrics["loss"], metrics["grad_norm"])
            new = {name: jax.tree.map(partial(jnp.where, skip), state[name], tree) for name, tree in new.items()}
            new["skips"] = skips
            metrics |= {"skip": skip, "skipped": skips["skipped"], "not_finite": skips["not_finite"]}
        return {"step": state["step"] + 1} | new, metrics

    return train_step
