"""The validation text: against hand-computed cases and a plain NumPy scorer."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ladder.config import Eval, Mesh
from ladder.evaluation import score
from ladder.evaluation.evaluator import Evaluator, ValidationSource
from ladder.parallel import sharding
from tests.ladder.evaluation.asked import byte_tokenizer
from tests.ladder.evaluation.toy import TOY, by_metric, log_p, toy_params, unigram

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_validation_by_hand():
    """p(a) = 1/2, p(b) = 1/8, p(separator) = 1/16, "c" has two bytes: separators cost nats, but count in no bpb."""
    functions = unigram(a=1 / 2, b=1 / 8, c=1 / 8, d=1 / 16)
    sizes = np.ones(256, np.int32)
    sizes[ord("c")], sizes[ord("d")] = 2, 0
    ids = lambda text: [ord(letter) for letter in text]  # noqa: E731
    windows_WL1 = np.array([ids("xaab"), ids("dadb"), ids("xccd"), ids("aaaa")], np.int32)
    tokenizer = SimpleNamespace(**vars(byte_tokenizer()) | {"token_bytes": sizes})
    evaluator = Evaluator(Eval(), functions, tokenizer, 3, windows_WL1)
    rows = by_metric(evaluator.rows(toy_params()))
    bits_of_text = (1 + 1 + 3) + (1 + 3) + (3 + 3) + (1 + 1 + 1)  # targets aab, a(d)b, cc(d), aaa
    assert rows["validation", "bpb"]["value"] == pytest.approx(bits_of_text / (3 + 2 + 4 + 3), rel=1e-6)
    assert rows["validation", "loss"]["value"] == pytest.approx((bits_of_text + 2 * 4) * math.log(2) / 12, rel=1e-6)
    assert rows["validation", "bpb"]["stderr"] is None and rows["validation", "bpb"]["n_docs"] is None
    assert evaluator.n_tokens == 12


@pytest.mark.parametrize("bos", ["y", None])
def test_the_space_that_a_tokenizer_puts_before_a_text_is_no_byte_of_it(bos):
    """y begins a document, z ends it, "_" is the space: "_" and "_a" after y (or z) have a byte less of the text."""
    functions = unigram(a=1 / 2, _=1 / 8)
    sizes = np.ones(256, np.int32)
    sizes[ord("y")], sizes[ord("z")] = 0, 0
    ids = [ord(letter) for letter in ("y_aa_azy_z" if bos else "z_aa_az_z")]
    ends = {"bos": bos and ord(bos), "eos": ord("z"), "space_before": True, "token_bytes": sizes}
    evaluator = Evaluator(
        Eval(), functions, SimpleNamespace(**vars(byte_tokenizer()) | ends), len(ids) - 1, np.array([ids], np.int32)
    )
    rows = by_metric(evaluator.rows(toy_params()))
    bits, n_bytes = (3 + 1 + 1 + 3 + 1) + 3, len("aa a")  # of the documents "aa a" and ""
    assert rows["validation", "bpb"]["value"] == pytest.approx(bits / n_bytes, rel=1e-6)


@pytest.mark.parametrize(
    ("n_windows", "batch_tokens", "shards", "batches"),
    [(6, 64, 1, (3, 2)), (7, 64, 1, (4, 2)), (7, 96, 2, (4, 2)), (7, 1 << 13, 1, (1, 7)), (7, 1 << 13, 512, (1, 512))],
)
def test_validation_against_the_naive_scorer(n_windows, batch_tokens, shards, batches, monkeypatch):
    """Whole batches and padded ones; padding counts for nothing, even where the model gives nan for it."""
    monkeypatch.setattr(score, "CPU_BATCH_TOKENS", batch_tokens)
    params, tokenizer = toy_params(3), byte_tokenizer()
    params["embedding"][0] = np.nan
    windows_WL1 = np.random.default_rng(4).integers(1, 256, (n_windows, 33)).astype(np.int32)
    windows_WL1[::2, 7] = 255
    monkeypatch.setattr(sharding, "data_shards", lambda mesh: shards)
    evaluator = Evaluator(Eval(), TOY, tokenizer, 32, windows_WL1, mesh=sharding.make_mesh(Mesh()))
    assert evaluator._data[1][0].shape == (*batches, 33) and evaluator.n_tokens == math.prod(batches) * 32
    assert evaluator.hash == Evaluator(Eval(), TOY, tokenizer, 32, windows_WL1).hash
    rows = by_metric(evaluator.rows(params))
    nats = np.array([-np.array(log_p(params, row)) for row in windows_WL1])
    text = windows_WL1[:, 1:] != 255
    assert rows["validation", "loss"]["value"] == pytest.approx(nats.mean(), rel=2e-6)
    assert rows["validation", "bpb"]["value"] == pytest.approx(nats[text].sum() / text.sum() / math.log(2), rel=2e-6)


def test_validation_of_a_mixture_is_that_of_each_source_and_their_mean_by_share(monkeypatch):
    monkeypatch.setattr(score, "CPU_BATCH_TOKENS", 64)  # 4 batches of 2 windows, and 2 whose second one is padding
    params, tokenizer, draw = toy_params(3), byte_tokenizer(), np.random.default_rng(4)
    windows = {name: draw.integers(1, 256, (n, 33)).astype(np.int32) for name, n in (("web", 7), ("code", 3))}
    shares = {"web": 0.9, "code": 0.1}
    alone = {name: by_metric(Evaluator(Eval(), TOY, tokenizer, 32, w).rows(params)) for name, w in windows.items()}
    mixed = Evaluator(Eval(), TOY, tokenizer, 32, [ValidationSource(n, shares[n], windows[n]) for n in windows])
    rows = by_metric(mixed.rows(params))
    names = ("validation", "validation/web", "validation/code")
    assert list(rows) == [(name, metric) for name in names for metric in ("bpb", "loss")]
    for name in windows:
        for metric in ("bpb", "loss"):
            expected = alone[name]["validation", metric]["value"]
            assert rows[f"validation/{name}", metric]["value"] == pytest.approx(expected, rel=1e-6)
    loss = sum(shares[name] * alone[name]["validation", "loss"]["value"] for name in windows)
    assert rows["validation", "loss"]["value"] == pytest.approx(loss, rel=1e-6)
    bytes_a_token = {name: (w[:, 1:] != 255).mean() for name, w in windows.items()}
    bits = sum(shares[n] * alone[n]["validation", "bpb"]["value"] * bytes_a_token[n] for n in windows)
    n_bytes = sum(shares[name] * bytes_a_token[name] for name in windows)
    assert rows["validation", "bpb"]["value"] == pytest.approx(bits / n_bytes, rel=1e-6)


def test_a_mixture_of_one_source_is_evaluated_as_its_text():
    windows_WL1 = np.random.default_rng(4).integers(1, 256, (5, 33)).astype(np.int32)
    one = Evaluator(Eval(), TOY, byte_tokenizer(), 32, [ValidationSource("web", 1.0, windows_WL1)])
    text = Evaluator(Eval(), TOY, byte_tokenizer(), 32, windows_WL1)
    of_one, of_text = (by_metric(evaluator.rows(toy_params(3))) for evaluator in (one, text))
    assert {key: of_one[key] for key in of_text} == of_text
    assert of_one["validation/web", "bpb"]["value"] == of_text["validation", "bpb"]["value"]


def test_the_hash_of_a_mixtures_validation_covers_texts_names_and_shares():
    a, b = np.random.default_rng(4).integers(1, 256, (2, 5, 33)).astype(np.int32)
    mixtures = [
        [ValidationSource("web", 0.5, a), ValidationSource("code", 0.5, b)],
        [ValidationSource("web", 0.5, b), ValidationSource("code", 0.5, a)],
        [ValidationSource("web", 0.6, a), ValidationSource("code", 0.4, b)],
        [ValidationSource("net", 0.5, a), ValidationSource("code", 0.5, b)],
        [ValidationSource("web", 1.0, a)],
        [ValidationSource("web", 1.0, b)],
    ]
    assert len({Evaluator(Eval(), TOY, byte_tokenizer(), 32, mixture).hash for mixture in mixtures}) == 6


@pytest.mark.parametrize("shards", [1, 2, 4, 8, 512])
@pytest.mark.parametrize("n_windows", [1, 3, 512, 513])
def test_batches_of_validation_hold_the_same_windows_for_any_number_of_shards(n_windows, shards):
    windows_WL1 = np.arange(n_windows * 1025, dtype=np.int32).reshape(-1, 1025)
    tokens_nBL1 = score.validation_batches(windows_WL1, shards)
    rows = tokens_nBL1.reshape(-1, 1025)
    np.testing.assert_array_equal(rows[:n_windows], windows_WL1)
    assert (rows[n_windows:] == score.PADDING).all() and len(rows) - n_windows < shards * len(tokens_nBL1)
    assert tokens_nBL1.shape[1] % shards == 0 and tokens_nBL1.shape[1] <= max(8, shards)
