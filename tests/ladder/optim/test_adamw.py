"""Learning rates against optax's schedules and the published figures; AdamW, clipping and masks against NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import loader
from ladder.config import Model, Optimizer, Rung
from ladder.optim.adamw import build
from ladder.optim.schedule import learning_rate

pytestmark = pytest.mark.usefixtures("quick_compile")

PEAK = 0.01
MODEL = Model("olmo2", d_model=4, n_layers=1, n_heads=1, d_ff=8, vocab_size=8, seq_len=8)


def rung(steps=100, warmup=10, batch=16, **optimizer) -> Rung:
    o = Optimizer(**{"peak_lr": PEAK, "warmup_tokens": warmup * batch} | optimizer)
    return Rung(size="x", multiple=1, tokens=steps * batch, batch_tokens=batch, model=MODEL, optimizer=o)


def rates(r: Rung, first=0, last=None):
    return np.array([learning_rate(r, step) for step in range(first, r.steps if last is None else last)])


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (57, 13), (20, 1)])
def test_cosine_equals_optax(steps, warmup, final):
    """optax counts from a first update at rate 0; ours is one ahead until the peak, so that no update is lost."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, PEAK, warmup, steps, final * PEAK)
    expected = [schedule(step + 1 if step < warmup else step) for step in range(steps + 1)]
    np.testing.assert_allclose(
        rates(rung(steps, warmup, lr_final_fraction=final), last=steps + 1), expected, rtol=2e-6, atol=1e-9
    )


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_warm_up_is_linear_and_ends_at_the_peak(schedule):
    np.testing.assert_allclose(rates(rung(schedule=schedule), last=10), PEAK * np.arange(1, 11) / 10, rtol=1e-12)


def test_cosine_passes_its_middle_and_falls_to_a_tenth():
    r = rung(steps=110, warmup=10)
    assert learning_rate(r, 60) == pytest.approx(PEAK * (1 + 0.1) / 2)
    assert learning_rate(r, 110) == pytest.approx(PEAK * 0.1)
    assert (np.diff(rates(r, first=10)) < 0).all()


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_wsd_is_flat_and_then_linear(final):
    r = rung(steps=100, schedule="wsd", decay_fraction=0.2, lr_final_fraction=final)
    np.testing.assert_allclose(
        rates(r, last=101), PEAK * np.interp(np.arange(101), [-1, 9, 80, 100], [0, 1, 1, final]), atol=1e-12
    )
    assert learning_rate(r, 80) == pytest.approx(PEAK)
    assert learning_rate(r, 81) < PEAK
    assert learning_rate(r, 99) > final * PEAK  # the last update still changes the parameters


@st.composite
def branches(draw):
    """A whole WSD run, the trunk of it (of any greater length) and the branch that ends it."""
    whole = rung(
        steps=draw(st.integers(10, 300)),
        warmup=draw(st.integers(0, 50)),
        schedule="wsd",
        decay_fraction=draw(st.floats(0.01, 0.9)),
        lr_final_fraction=draw(st.floats(0, 1)),
    )
    start = draw(st.integers(1, whole.steps - whole.decay_steps))
    trunk_tokens = draw(st.integers(start, 400)) * whole.batch_tokens
    trunk = replace(whole, kind="trunk", multiple=None, tokens=trunk_tokens, save_at=(start,))
    return whole, trunk, replace(whole, kind="branch", parent=trunk.identity, parent_step=start)


@given(branches())
def test_trunk_and_branch_are_the_whole_run_at_every_step(case):
    whole, trunk, branch = case
    start = branch.parent_step
    np.testing.assert_array_equal(np.append(rates(trunk, last=start), rates(branch, first=start)), rates(whole))
    after = rates(trunk, first=trunk.warmup_steps)
    np.testing.assert_array_equal(after, np.full_like(after, PEAK))


def test_190m_1xc_as_published():
    """Bhagia et al. 2024: 9.727285e-4 where the warm-up of one token a parameter ends, a tenth of it at the end."""
    r = next(r for r in loader.load("olmo2").all if r.label == "190M-1xC")
    warmup = round(190_354_176 / 524_288)
    assert r.warmup_steps == warmup == 363
    all_rates = rates(r)
    assert all_rates.argmax() == warmup - 1
    assert all_rates[warmup - 1] == pytest.approx(9.727285e-04, rel=1e-6)
    assert all_rates[0] == pytest.approx(9.727285e-04 / warmup, rel=1e-6)
    assert all_rates[-1] == pytest.approx(9.727285e-05, rel=2e-6)
    assert len(all_rates) == pytest.approx(7272, rel=0.002)


def tree(rng, scale=1.0):
    draw = lambda *shape: rng.normal(0, scale, shape).astype(np.float32)  # noqa: E731
    return {
        "embedding": draw(5, 3),
        "positions": draw(4, 3),
        "head": draw(3, 5),
        "blocks": {"query": draw(2, 3, 3), "query_bias": draw(2, 3), "attention_norm": {"scale": draw(2, 3)}},
        "final_norm": {"scale": draw(3)},
    }


def adamw(grads, params, m, v, t, o: Optimizer):
    """Loshchilov and Hutter 2019 on flat dicts in float64, but for the rate; the gradient clipped to a global norm."""
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
    update = {}
    for name, g in grads.items():
        g = g.astype(np.float64) * min(1.0, o.grad_clip / norm)
        m[name] = o.beta1 * m.get(name, 0) + (1 - o.beta1) * g
        v[name] = o.beta2 * v.get(name, 0) + (1 - o.beta2) * g**2
        m_hat, v_hat = m[name] / (1 - o.beta1**t), v[name] / (1 - o.beta2**t)
        decay = 0.0 if name in ("['embedding']", "['positions']") else o.weight_decay
        update[name] = m_hat / (np.sqrt(v_hat) + o.eps) + decay * params[name]
    return update


def flat(tree) -> dict:
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("clip", [1.0, 1e9])
def test_adamw_with_clipping_and_masks(clip):
    """Gradients of very different sizes, so that clipping changes some steps and not others."""
    r = rung(grad_clip=clip, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3)
    transform, rng = build(r), np.random.default_rng(0)
    params = tree(rng)
    update, state, m, v = jax.jit(transform.update), transform.init(params), {}, {}
    for t, scale in enumerate([3.0, 0.01, 1.0, 30.0], start=1):
        grads = tree(rng, scale)
        updates, state = update(grads, state, params)
        expected = adamw(flat(grads), flat(params), m, v, t, r.optimizer)
        for name, u in flat(updates).items():
            np.testing.assert_allclose(u, expected[name], rtol=2e-5, atol=1e-6, err_msg=f"{name}, step {t}")
        params = jax.tree.map(lambda p, u: p - np.float32(0.1) * np.asarray(u), params, updates)


@pytest.mark.parametrize(
    ("mu", "nu", "param_dtype"),
    [("bfloat16", None, "float32"), ("bfloat16", "bfloat16", "float32"), ("float32", "float32", "bfloat16")],
)
def test_moments_are_kept_in_their_types(mu, nu, param_dtype):
    """Between steps rounded to the type, within one as NumPy computes it."""
    r = replace(
        rung(mu_dtype=mu, nu_dtype=nu, eps=1e-3, weight_decay=0.0), model=replace(MODEL, param_dtype=param_dtype)
    )
    mu, nu = jnp.dtype(mu or param_dtype), jnp.dtype(nu or param_dtype)
    transform, rng = build(r), np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(p, param_dtype), tree(rng))
    update, state, m, v = jax.jit(transform.update), transform.init(params), {}, {}
    for t in range(1, 5):
        grads = tree(rng)
        updates, state = update(grads, state, params)
        values = {name: p.astype(np.float32) for name, p in flat(params).items()}
        expected = adamw(flat(grads), values, m, v, t, r.optimizer)
        assert {x.dtype for x in jax.tree.leaves(state[1].mu)} == {mu}
        assert {x.dtype for x in jax.tree.leaves(state[1].nu)} == {nu}
        for name, u in flat(updates).items():
            np.testing.assert_allclose(u, expected[name], rtol=2e-5, atol=1e-5, err_msg=f"{name}, step {t}")
        m, v = ({name: x.astype(np.float32) for name, x in flat(kept).items()} for kept in (state[1].mu, state[1].nu))


def test_moments_have_the_type_of_the_parameters_by_default():
    for dtype in ("float32", "bfloat16"):
        r = replace(rung(), model=replace(MODEL, param_dtype=dtype))
        state = build(r).init({"head": jnp.zeros(3, dtype)})
        assert state[1].mu["head"].dtype == state[1].nu["head"].dtype == dtype


def test_everything_but_the_embeddings_decays():
    """Bhagia et al. 2024: norms and biases too."""
    params = tree(np.random.default_rng(1))
    transform = build(rung(weight_decay=0.5))
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = jax.jit(transform.update)(zeros, transform.init(params), params)
    for name, u in flat(updates).items():
        decays = name not in ("['embedding']", "['positions']")
        np.testing.assert_allclose(u, 0.5 * flat(params)[name] if decays else 0, atol=1e-7)
