"""One optimizer step against a loss and an AdamW written in this file; accumulation, donation, one program per size."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ladder.config import Mesh, Model, Optimizer, Rung
from ladder.loop import step
from ladder.model import cross_entropy
from ladder.parallel import sharding

pytestmark = pytest.mark.usefixtures("quick_compile")

MODEL = Model("gpt2", 12, 1, 3, 16, 29, 10, tie_embeddings=False, init_std=0.2, compute_dtype="float32")
# A large z-loss, a small clipping norm and a large eps, so that an error in any of them shows in one step.
OPTIMIZER = Optimizer(0.01, 0, eps=1e-3, weight_decay=0.3, grad_clip=0.1, z_loss=0.2, beta1=0.8, beta2=0.9)
RUNG = Rung("x", 1, 8000, 80, MODEL, OPTIMIZER)
RATE = 0.01


def tokens(seed=0) -> dict:
    return {"tokens": np.random.default_rng(seed).integers(0, 29, (8, 11), dtype=np.int32)}


def build(rung: Rung) -> step.Program:
    return step.build(rung, sharding.make_mesh(Mesh(), jax.devices()[:1]))


def flat(tree) -> dict:
    return {jax.tree_util.keystr(path): np.array(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def program(quick_compile):
    return build(RUNG)


@pytest.fixture(scope="module")
def stepped(program):
    """(state before, state after, metrics, which old buffers are deleted)."""
    state = program.init()
    before = jax.tree.map(np.array, state)
    after, metrics = program.train_step(state, program.put(tokens(), RATE))
    deleted = [leaf.is_deleted() for leaf in jax.tree.leaves(state)]
    return before, jax.tree.map(np.array, after), {k: float(v) for k, v in metrics.items()}, deleted


def test_the_state_is_donated(stepped):
    assert all(stepped[3])


def test_a_step_by_hand(program, stepped):
    """Loss, gradient (z-loss included), clipping, AdamW from its first step, decay mask, rate."""
    before, after, metrics, _ = stepped
    inputs, targets = tokens()["tokens"][:, :-1], tokens()["tokens"][:, 1:]

    def mean_loss(params, z_loss):
        logits = program.functions.logits(params, program.functions.hidden(params, inputs))
        log_p = jax.nn.log_softmax(logits)
        z = jnp.log(jnp.exp(logits).sum(-1))
        return -jnp.take_along_axis(log_p, targets[..., None], -1).mean() + z_loss * (z**2).mean()

    value_and_grad = jax.jit(jax.value_and_grad(mean_loss))
    grads = value_and_grad(before["params"], 0.2)[1]
    assert metrics["loss"] == pytest.approx(float(value_and_grad(before["params"], 0.0)[0]), rel=1e-6)
    g = {name: x.astype(np.float64) for name, x in flat(grads).items()}
    norm = np.sqrt(sum((x**2).sum() for x in g.values()))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert norm > 2 * OPTIMIZER.grad_clip
    params, new = flat(before["params"]), flat(after["params"])
    for name, p in params.items():
        clipped = g[name] * OPTIMIZER.grad_clip / norm
        decay = 0.0 if name in ("['embedding']", "['positions']") else 0.3
        expected = p - RATE * (clipped / (np.abs(clipped) + 1e-3) + decay * p)  # m_hat = g, v_hat = g^2 at step 1
        np.testing.assert_allclose(new[name], expected, rtol=2e-6, atol=1e-7, err_msg=name)
    assert (before["step"], after["step"]) == (0, 1)


def test_the_gradient_of_the_head_in_closed_form(program):
    """Without jax.grad: x' (p - onehot + 2 z log Z p) / T, in float64; the clipped first moment is 0.2 of it."""
    state = program.init()
    batch = tokens(1)
    x_TD = program.functions.hidden(state["params"], batch["tokens"][:, :-1]).reshape(-1, 12)
    x_TD, head = np.asarray(x_TD, np.float64), np.asarray(state["params"]["head"], np.float64)
    log_z = logsumexp(x_TD @ head, axis=1, keepdims=True)
    p = np.exp(x_TD @ head - log_z)
    g = x_TD.T @ (p - np.eye(29)[batch["tokens"][:, 1:].ravel()] + 2 * 0.2 * log_z * p) / len(x_TD)
    after, metrics = program.train_step(state, program.put(batch, RATE))
    first_moment = np.asarray(after["optimizer"][1].mu["head"])
    np.testing.assert_allclose(first_moment, 0.2 * g * 0.1 / float(metrics["grad_norm"]), rtol=1e-4, atol=1e-8)


def test_accumulation_equals_the_large_batch(monkeypatch):
    """Four microbatches, the logits of each in four chunks; default clipping, eps and betas.

    Not GPT-2: the gradient of its key bias is zero up to rounding (softmax ignores an addend that all keys share),
    and Adam turns that rounding into full-size updates.
    """
    rung = replace(RUNG, model=replace(MODEL, family="olmo2", n_heads=2), optimizer=Optimizer(RATE, 0))
    start, results = jax.tree.map(np.array, build(rung).init()), []
    for accumulation in (1, 4):
        program = build(replace(rung, mesh=Mesh(accumulation=accumulation)))
        state, metrics = program.train_step(jax.device_put(start, program.shardings), program.put(tokens(), RATE))
        results.append((metrics, flat(state["params"])))
        monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", 5 * 29)
    (metrics, params), (small_metrics, small_params) = results
    for name in ("loss", "grad_norm"):
        assert float(small_metrics[name]) == pytest.approx(float(metrics[name]), rel=1e-6)
    for name, p in params.items():
        np.testing.assert_allclose(small_params[name], p, rtol=1e-6, atol=1e-6, err_msg=name)


def test_rungs_of_a_size_share_one_program():
    """The learning rate is an input: another length, peak, warm-up or schedule lowers to the same text."""

    def text(rung):
        program = build(rung)
        batch = {"tokens": jax.ShapeDtypeStruct((8, 11), jnp.int32), "learning_rate": jnp.float32(0)}
        return program.train_step.lower(program.abstract_state, batch).as_text()

    other = replace(OPTIMIZER, peak_lr=0.5, warmup_tokens=4000, schedule="wsd", decay_fraction=0.5)
    assert text(RUNG) == text(replace(RUNG, multiple=3, tokens=24_000, optimizer=other))
    assert text(RUNG) != text(replace(RUNG, optimizer=replace(OPTIMIZER, z_loss=0.3)))


def test_a_run_starts_from_its_seed(program):
    def first(rung):
        return np.asarray(build(rung).init()["params"]["embedding"])

    np.testing.assert_array_equal(first(RUNG), program.init()["params"]["embedding"])
    assert (first(RUNG) != first(replace(RUNG, seed=1))).mean() > 0.9


def test_it_memorises_a_batch(program):
    state, losses = program.init(), []
    batch = program.put(tokens(), 0.1)
    for _ in range(60):
        state, metrics = program.train_step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(29), abs=0.3)
    assert losses[-1] < 0.3 * losses[0]
