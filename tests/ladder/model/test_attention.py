"""Both implementations against a NumPy float64 loop over heads and positions, and its gradient in closed form."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ladder.errors import InputError
from ladder.model import attention

pytestmark = pytest.mark.usefixtures("quick_compile")

IMPLEMENTATIONS = {"xla": attention.xla, "blockwise": attention.blockwise}
# block, B, L, H, G, K, scale of the inputs
CASES = {
    "one position": (8, 2, 1, 4, 2, 3, 1),
    "less than a block": (8, 2, 7, 4, 4, 5, 1),
    "exactly a block": (8, 1, 8, 4, 1, 4, 1),
    "two blocks": (8, 3, 16, 2, 2, 4, 1),
    "a block and one more": (8, 2, 9, 6, 2, 3, 1),
    "does not divide": (8, 2, 21, 6, 3, 2, 1),
    "large scores": (8, 2, 19, 4, 2, 4, 4),
    "as built": (attention.BLOCK, 1, 2 * attention.BLOCK + 3, 2, 1, 4, 1),
}


def inputs(B, L, H, G, K, scale=1.0):
    rng = np.random.default_rng(L)
    return tuple((rng.normal(0, scale, (B, L, n, K))).astype(np.float32) for n in (H, G, G)) + (
        rng.normal(0, 1, (B, L, H, K)).astype(np.float32),
    )


def documents_of(B: int, L: int):
    """document_BL: documents of one token and of many."""
    return np.stack([np.cumsum(np.random.default_rng(b).random(L) < 0.1) for b in range(B)]).astype(np.int32)


def oracle(q, k, v, do, document_BL=None):
    """(o, dq, dk, dv), where do is the gradient by o: P = softmax(q k' / sqrt K), dS = P (dP - sum(dP P))."""
    q, k, v, do = (x.astype(np.float64) for x in (q, k, v, do))
    o, dq, dk, dv = np.zeros_like(q), np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    B, L, H, K = q.shape
    for b, h, t in np.ndindex(B, H, L):
        g, past = h * k.shape[2] // H, slice(0, t + 1)
        if document_BL is not None:
            past = np.flatnonzero(document_BL[b, : t + 1] == document_BL[b, t])
        s = k[b, past, g] @ q[b, t, h] / math.sqrt(K)
        p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        o[b, t, h] = p @ v[b, past, g]
        dp = v[b, past, g] @ do[b, t, h]
        ds = p * (dp - dp @ p) / math.sqrt(K)
        dq[b, t, h] = ds @ k[b, past, g]
        dk[b, past, g] += np.outer(ds, q[b, t, h])
        dv[b, past, g] += np.outer(p, do[b, t, h])
    return o, dq, dk, dv


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_attention_and_its_gradient(monkeypatch, name, case):
    block, *shape = CASES[case]
    monkeypatch.setattr(attention, "BLOCK", block)
    *qkv, do = inputs(*shape)

    def forward_backward(q, k, v, do):
        o, pull = jax.vjp(IMPLEMENTATIONS[name], q, k, v)
        return o, *pull(do)

    for got, expected in zip(jax.jit(forward_backward)(*qkv, do), oracle(*qkv, do), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_attention_and_its_gradient_within_documents(monkeypatch, name):
    monkeypatch.setattr(attention, "BLOCK", 8)
    *qkv, do = inputs(2, 45, 4, 2, 3)
    document_BL = documents_of(2, 45)
    assert document_BL.max(axis=1).min() >= 2

    def forward_backward(q, k, v, document_BL, do):
        o, pull = jax.vjp(lambda *qkv: IMPLEMENTATIONS[name](*qkv, document_BL), q, k, v)
        return o, *pull(do)

    got = jax.jit(forward_backward)(*qkv, document_BL, do)
    for result, expected in zip(got, oracle(*qkv, do, document_BL), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("H", "G", "K", "documents"), [(2, 2, 128, None), (4, 2, 24, documents_of(1, 256))])
def test_splash_in_interpret_mode(H, G, K, documents):
    """The TPU kernel, run as ordinary operations: two blocks, shared key-value heads, a padded head, documents."""
    *qkv, do = inputs(1, 256, H, G, K)

    def forward_backward(q, k, v, do):
        kernel = attention.splash_kernel(256, H, interpret=True)
        o, pull = jax.vjp(partial(attention.splash, document_BL=documents, kernel=kernel), q, k, v)
        return o, *pull(do)

    for got, expected in zip(jax.jit(forward_backward)(*qkv, do), oracle(*qkv, do, documents), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_gradient_by_finite_differences(monkeypatch, name):
    monkeypatch.setattr(attention, "BLOCK", 2)
    q, k, v, _ = inputs(1, 5, 2, 1, 2)
    check_grads(jax.jit(IMPLEMENTATIONS[name]), (q, k, v), order=1, modes=("rev",), atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_bfloat16_normalises_in_float32(monkeypatch, name):
    """Thousands of equal weights add up to one: in bfloat16 a sum of ones stops at 256."""
    monkeypatch.setattr(attention, "BLOCK", 512)
    L = 1024
    q, k = jnp.zeros((1, L, 1, 2), jnp.bfloat16), jnp.zeros((1, L, 1, 2), jnp.bfloat16)
    o = jax.jit(IMPLEMENTATIONS[name])(q, k, jnp.ones((1, L, 1, 2), jnp.bfloat16))
    assert o.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(o, np.float32), 1, atol=0.01)


def test_blockwise_never_builds_all_the_scores():
    q, k, v, _ = inputs(1, 256, 1, 1, 2)

    def largest(jaxpr):
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # closed or not
        inner = [largest(e.params["jaxpr"]) for e in jaxpr.eqns if "jaxpr" in e.params]
        return max([math.prod(v.aval.shape) for e in jaxpr.eqns for v in e.outvars] + inner)

    whole, blocks = (jax.make_jaxpr(IMPLEMENTATIONS[name])(q, k, v) for name in ("xla", "blockwise"))
    assert largest(whole) == 256 * 256
    assert largest(blocks) == attention.BLOCK * 256


@pytest.mark.parametrize(
    ("name", "seq_len", "chosen"),
    [
        ("auto", attention.BLOCK, attention.xla),
        ("auto", attention.BLOCK + 1, attention.blockwise),
        ("xla", 4096, attention.xla),
        ("blockwise", 8, attention.blockwise),
    ],
)
def test_choice(name, seq_len, chosen):
    assert attention.choose(name, seq_len) is chosen


@pytest.mark.parametrize(
    ("seq_len", "sequence", "tensor", "chosen"),
    [
        (4096, 1, 1, attention.splash),
        (4000, 1, 1, attention.blockwise),
        (4096, 2, 2, attention.splash),
        (384, 2, 1, attention.blockwise),  # a part would be no multiple of 128
        (4096, 1, 4, attention.blockwise),  # two key-value heads are not split over four devices, their queries are
    ],
)
def test_choice_on_a_tpu(seq_len, sequence, tensor, chosen):
    assert attention.choose("auto", seq_len, "tpu", sequence, 2, tensor) is chosen


def test_an_unknown_or_impossible_attention_is_refused():
    with pytest.raises(InputError, match=r"mesh\.attention = 'flash'.*auto, xla, blockwise, splash"):
        attention.choose("flash", 128)
    with pytest.raises(
        InputError, match=r"'splash' needs a TPU.*here cpu, 128, 128 x 1, 1, 1.*write mesh\.attention=auto"
    ):
        attention.choose("splash", 128)
