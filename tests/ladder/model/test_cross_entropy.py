"""Nats of tokens and their gradient: closed forms in float64, with scipy's logsumexp, for any number of chunks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from ladder.model import cross_entropy

pytestmark = pytest.mark.usefixtures("quick_compile")

D, V = 5, 7


def logits(params, x):
    return x @ params["head"]


def inputs(T, scale=1.0):
    rng = np.random.default_rng(T)
    x_TD, head = rng.normal(0, scale, (T, D)), rng.normal(0, 1, (D, V))
    weights = rng.normal(0, 1, (2, T))  # of each token's nats and log_z: swapping two tokens changes the sum
    return x_TD.astype(np.float32), head.astype(np.float32), rng.integers(0, V, T), weights.astype(np.float32)


def closed_form(x_TD, head, targets_T, weights):
    """nats, log_z, and the gradients of sum(w nats + u log_z) by x and head."""
    x, head, (w, u) = x_TD.astype(np.float64), head.astype(np.float64), weights.astype(np.float64)
    logits_TV = x @ head
    log_z = logsumexp(logits_TV, axis=1)
    p = np.exp(logits_TV - log_z[:, None])
    d_logits = (w + u)[:, None] * p - w[:, None] * np.eye(V)[targets_T]
    return log_z - logits_TV[np.arange(len(x)), targets_T], log_z, d_logits @ head.T, x.T @ d_logits


@pytest.mark.parametrize(
    ("T", "chunk_elements"),
    [(1, 1 << 25), (1, 1), (12, 1 << 25), (12, 5 * V), (12, V), (12, 2 * V), (13, 7)],
)
def test_nats_and_gradients(monkeypatch, T, chunk_elements):
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", chunk_elements)
    x_TD, head, targets_T, weights = inputs(T)

    def total(x_TD, head):
        nats_T, log_z_T = cross_entropy.token_nats(logits, {"head": head}, x_TD, targets_T)
        return (weights[0] * nats_T + weights[1] * log_z_T).sum(), (nats_T, log_z_T)

    (dx, dhead), (nats_T, log_z_T) = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(x_TD, head)
    got = nats_T, log_z_T, dx, dhead
    for value, expected in zip(got, closed_form(x_TD, head, targets_T, weights), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


def test_logits_of_a_batch_are_never_materialised(monkeypatch):
    x_TD, head, targets_T, _ = inputs(64)

    def temporary_bytes():
        def total(x_TD, head):
            return cross_entropy.token_nats(lambda p, x: x @ jnp.tile(p, 500), head, x_TD, targets_T)[0].sum()

        return jax.jit(jax.grad(total)).lower(x_TD, head).compile().memory_analysis().temp_size_in_bytes

    unchunked = temporary_bytes()
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", 8 * 500 * V)
    assert unchunked >= 64 * 500 * V * 4 > 3 * temporary_bytes()


def test_large_logits_neither_overflow_nor_lose_the_token():
    head = {"head": jnp.eye(3) * 1e4}
    nats, log_z = cross_entropy.token_nats(
        logits, head, jnp.asarray([[1.0, 0, 0], [-1.0, -1, -1]]), jnp.asarray([0, 2])
    )
    np.testing.assert_allclose(nats, [0, math.log(3)], atol=1e-3)
    np.testing.assert_allclose(log_z, [1e4, -1e4 + math.log(3)], rtol=1e-6)


@given(st.integers(1, 5000), st.integers(1, 300_000), st.integers(1, 1 << 20))
def test_chunks_are_equal_and_as_few_as_the_limit_allows(tokens, vocab, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_ELEMENTS", limit)
        chunks = cross_entropy._n_chunks(tokens, vocab)
        assert tokens % chunks == 0
        assert tokens // chunks * vocab <= limit or chunks == tokens
        fewer = [n for n in range(1, chunks) if tokens % n == 0]
        assert all(tokens // n * vocab > limit for n in fewer)
