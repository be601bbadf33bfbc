"""Attention and positions within documents: what a packed window computes of a document is what it computes alone."""

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder.config import Model
from ladder.model import attention
from ladder.model.cross_entropy import token_nats
from ladder.model.transformer import Hooks, functions
from tests.ladder.model.test_transformer import named, random_params, relative_error

pytestmark = pytest.mark.usefixtures("quick_compile")

EOS = 7
# Length of each document, eos included; the last one of a row is cut by the row's end and so has none.
PACKED = ((5, 1, 9, 5), (20,), (1, 1, 1, 17), (12, 8), (19, 1))
L = 20
SHAPE = dict(d_model=24, n_heads=4, vocab_size=41, seq_len=L, compute_dtype="float32")
MODELS = {
    "olmo2": Model("olmo2", n_layers=2, d_ff=55, **SHAPE),
    "llama": Model("llama", n_layers=2, d_ff=30, n_kv_heads=2, rope_theta=10_000.0, **SHAPE),
    "olmo2, wide": Model("olmo2", n_layers=1, d_ff=70, **SHAPE | {"d_model": 60, "n_heads": 6}),
    "gpt2": Model("gpt2", n_layers=1, d_ff=40, tie_embeddings=True, **SHAPE),
}


def packed_rows(scale: int = 1) -> np.ndarray:
    """tokens[B, L + 1] of the documents PACKED, each `scale` times as long; the last column is a target only."""
    ids = np.random.default_rng(3).integers(8, 41, (len(PACKED), scale * L + 1)).astype(np.int32)
    for row, lengths in zip(ids, PACKED, strict=True):
        row[scale * np.cumsum(lengths[:-1], dtype=int) - 1] = EOS
    return ids


def spans(scale: int = 1) -> list[tuple[int, int, int]]:
    """(row, first token, last token + 1) of each document."""
    ends = [(scale * np.cumsum([0, *lengths])).tolist() for lengths in PACKED]
    return [(row, first, stop) for row in range(len(PACKED)) for first, stop in itertools.pairwise(ends[row])]


def alone(ids: np.ndarray, scale: int = 1) -> np.ndarray:
    """[documents, L + 1]: each document with the token after it, at the start of a row, zeros after it."""
    rows = np.zeros((len(spans()), scale * L + 1), np.int32)
    for i, (row, first, stop) in enumerate(spans(scale)):
        rows[i, : stop - first + 1] = ids[row, first : stop + 1]
    return rows


def test_documents_and_positions_of_a_row():
    ids = jnp.array([[1, EOS, EOS, 2, 3], [EOS, 4, 5, EOS, 6], [1, 2, 3, 4, EOS], [1, 2, 3, 4, 5]])
    document_BL, position_BL = attention.documents(ids, EOS)
    assert document_BL.tolist() == [[0, 0, 1, 2, 2], [0, 1, 1, 1, 2], [0] * 5, [0] * 5]
    assert position_BL.tolist() == [[0, 1, 0, 0, 1], [0, 0, 1, 2, 0], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


@functools.cache
def logits(c: Model, eos: int | None, attend=attention.xla):
    f = functions(c, Hooks(eos=eos, attend=attend))
    return jax.jit(lambda params, tokens_BL: f.logits(params, f.hidden(params, tokens_BL)))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("olmo2, wide", "gpt2")]


@pytest.mark.parametrize("name", ["olmo2", "llama", *SLOW])
def test_logits_of_a_packed_document_are_those_of_it_alone(monkeypatch, name):
    """The first, the middle and the cut documents of rows, without a mask in the rows where they are alone."""
    monkeypatch.setattr(attention, "BLOCK", 6)
    assert_same_as_alone(MODELS[name], std=0.2, scale=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["olmo2", "llama", "gpt2"])
def test_logits_of_longer_documents_in_wider_models(name):
    wider = replace(MODELS[name], d_model=240, d_ff=500, n_layers=4, n_heads=4, seq_len=13 * L)
    assert_same_as_alone(wider, std=0.02, scale=13)


def assert_same_as_alone(c: Model, std: float, scale: int):
    params, ids = random_params(c, std), packed_rows(scale)
    masked = np.asarray(logits(c, EOS, attention.blockwise)(params, ids[:, :-1]))
    by_itself = np.asarray(logits(c, None)(params, alone(ids, scale)[:, :-1]))
    mixed = np.asarray(logits(c, None)(params, ids[:, :-1]))
    for i, (row, first, stop) in enumerate(spans(scale)):
        document = by_itself[i, : stop - first]
        np.testing.assert_allclose(masked[row, first:stop], document, rtol=0, atol=1e-5)
        if (ids[row, :first] != EOS).any():  # and they are others without the mask
            assert np.abs(mixed[row, first:stop] - document).max() > 1e-3


def test_the_gradient_is_the_sum_of_those_of_the_documents_alone():
    """A document's last target is the first token of the next one, as without the mask."""
    c, ids = replace(MODELS["llama"], n_layers=1), packed_rows()
    params = random_params(c)

    def gradient(eos, tokens, counted):
        f = functions(c, Hooks(eos=eos))

        def loss(params):
            x_BLD = f.hidden(params, tokens[:, :-1])
            nats_T, _ = token_nats(f.logits, params, x_BLD.reshape(-1, c.d_model), tokens[:, 1:].reshape(-1))
            return (nats_T * counted.reshape(-1)).sum()

        return jax.jit(jax.value_and_grad(loss))(params)

    lengths = np.array([stop - first for _, first, stop in spans()])
    loss, packed = gradient(EOS, ids, np.ones((len(ids), L)))
    loss_alone, apart = gradient(None, alone(ids), np.arange(L) < lengths[:, None])
    assert float(loss) == pytest.approx(float(loss_alone), rel=1e-6)
    for path, g in named(packed).items():
        assert relative_error(g, np.asarray(named(apart)[path])) < 2e-5, path


def test_nothing_crosses_from_one_document_to_another():
    """A changed token changes what follows in its document, and no bit elsewhere."""
    c, ids = MODELS["olmo2"], packed_rows()[:1, :-1]
    params = random_params(c)
    before = np.asarray(logits(c, EOS, attention.blockwise)(params, ids))
    for row, first, stop in spans()[: len(PACKED[0])]:
        changed = ids.copy()
        changed[row, first] = 40 if ids[row, first] != 40 else 39
        if ids[row, first] == EOS:
            continue  # another token there would join two documents
        differs = (np.asarray(logits(c, EOS, attention.blockwise)(params, changed)) != before).any(axis=-1)
        assert differs[row, first:stop].all() and differs.sum() == stop - first
