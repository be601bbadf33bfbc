"""FLOPs of traced programs, against products counted by hand and the closed form of ladder/flops.py."""

import jax
import jax.numpy as jnp
import pytest

from configs import loader
from ladder.config import Model
from ladder.flops import matmul_flops_per_token
from ladder.model import attention, transformer
from launch.aot.program_flops import walk

X, W = jnp.ones((4, 8)), jnp.ones((8, 8))
ONE = 2 * 4 * 8 * 8


def looped(x, w):
    return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, w: x @ w, ONE),
        (lambda x, w: jnp.einsum("bsk,bkt->bst", x.reshape(2, 2, 8), jnp.stack([w, w])), ONE),
        (looped, 5 * ONE),
        (jax.grad(lambda x, w: looped(x, w).sum()), 10 * ONE),  # forward, and one product back to x
        (jax.grad(lambda x, w: jax.checkpoint(lambda x: ((x @ w) ** 2).sum())(x)), 2 * ONE + ONE),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w), 2 * ONE),
        (jax.jit(lambda x, w: x + 1), 0),
    ],
)
def test_by_hand(function, expected):
    assert walk(jax.make_jaxpr(function)(X, W).jaxpr) == expected


def test_a_loop_of_unknown_length_is_refused():
    program = jax.make_jaxpr(lambda x, w: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x))(X, W)
    with pytest.raises(ValueError, match="while loop"):
        walk(program.jaxpr)


def test_a_kernel_counts_its_grid():
    """Splash, forward: scores and values in full, as the reference computes them."""
    q, k = jnp.ones((2, 1024, 4, 128)), jnp.ones((2, 1024, 2, 128))
    counted = {f: walk(jax.make_jaxpr(f)(q, k, k).jaxpr) for f in (attention.xla, attention.splash)}
    assert counted[attention.splash] == counted[attention.xla] == 4 * 2 * 4 * 1024 * 1024 * 128


def walked(m: Model) -> float:
    """Products of the gradient of a whole sequence, per token."""
    functions, tokens = transformer.functions(m), jax.ShapeDtypeStruct((1, m.seq_len), jnp.int32)

    def total(params, tokens_BL):
        return functions.logits(params, functions.hidden(params, tokens_BL)).sum()

    params = jax.eval_shape(lambda: transformer.init_params(m, 0))
    return walk(jax.make_jaxpr(jax.grad(total))(params, tokens).jaxpr) / m.seq_len


@pytest.mark.parametrize("label", ["190M-1xC", "1B-1xC", "7B-4T", "13B-5T"])
def test_the_closed_form(label):
    rung = next(r for r in loader.load("olmo2").all if r.label == label)
    assert walked(rung.model) == matmul_flops_per_token(rung.model)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_closed_form_of_other_families(family, tied):
    m = Model(family, 32, 3, 4, 48, 64, 16, n_kv_heads=2 if family == "llama" else None, tie_embeddings=tied)
    assert walked(m) == matmul_flops_per_token(m)
