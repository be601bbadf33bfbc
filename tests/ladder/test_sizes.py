"""The published numbers of Bhagia et al. 2024 (the tables of their runs) against our formulas."""

import pytest

from configs import loader
from configs.olmo2 import SHAPES, model
from ladder.config import Model, Optimizer
from ladder.flops import flops_per_token
from ladder.sizes import (
    CHUNK_ELEMENTS,
    kaplan_peak_lr,
    memory_bytes,
    n_non_embedding,
    n_params,
    n_total,
    train_tokens,
)

N_PARAMS = {
    "190M": 190354176,
    "370M": 371262464,
    "600M": 597382464,
    "760M": 758220288,
    "1B": 1279395840,
    "3B": 3169537280,
    "7B": 6887575552,
    "13B": 13202396160,
}
FLOPS_PER_TOKEN = {
    "190M": 1903391232,
    "370M": 3443922944,
    "760M": 6373843968,
    "1B": 10109071360,
    "3B": 22970355200,
    "7B": 49412071424,
    "13B": 91335915520,
}
# tokens, steps, batch (tokens), peak rate
PUBLISHED = {
    "190M-1xC": (3812622336, 7272, 524288, 9.727285e-04),
    "190M-2xC": (7619477504, 14533, 524288, 9.727285e-04),
    "190M-5xC": (19041091584, 36318, 524288, 9.727285e-04),
    "190M-10xC": (38076416000, 72625, 524288, 9.727285e-04),
    "370M-1xC": (7433355264, 9452, 786432, 7.785481e-04),
    "370M-2xC": (14858846208, 18894, 786432, 7.785481e-04),
    "370M-5xC": (37134532608, 47219, 786432, 7.785481e-04),
    "370M-10xC": (74260414464, 94427, 786432, 7.785481e-04),
    "760M-1xC": (15178137600, 11580, 1310720, 6.136405e-04),
    "760M-2xC": (30343168000, 23150, 1310720, 6.136405e-04),
    "760M-5xC": (75835637760, 57858, 1310720, 6.136405e-04),
    "760M-10xC": (151658168320, 115706, 1310720, 6.136405e-04),
    "1B-1xC": (25604653056, 16279, 1572864, 5.154392e-04),
    "1B-2xC": (51192004608, 32547, 1572864, 5.154392e-04),
    "1B-5xC": (127955632128, 81352, 1572864, 5.154392e-04),
    "1B-10xC": (255895535616, 162694, 1572864, 5.154392e-04),
    "3B-1xC": (63424167936, 20162, 3145728, 3.809317e-04),
    "3B-2xC": (126813732864, 40313, 3145728, 3.809317e-04),
    "3B-5xC": (316985573376, 100767, 3145728, 3.809317e-04),
    "3B-10xC": (633939689472, 201524, 3145728, 3.809317e-04),
    "13B-5T": (5000088518656, 596057, 8388608, 3e-4),
}


@pytest.mark.parametrize("size", N_PARAMS)
def test_parameters_to_the_integer(size):
    assert n_params(model(size)) == N_PARAMS[size]


@pytest.mark.parametrize("size", FLOPS_PER_TOKEN)
def test_flops_per_token_to_the_integer(size):
    assert flops_per_token(model(size)) == FLOPS_PER_TOKEN[size]


@pytest.mark.parametrize("size", SHAPES)
def test_the_closed_forms_of_the_paper(size):
    d, _, layers, ffn = SHAPES[size]
    m, head = 2 * ffn, 100352 * d
    n = layers * (4 * d**2 + 1.5 * m * d + 4 * d) + d + head
    assert n_params(model(size)) == n
    assert n_total(model(size)) == n + head
    assert flops_per_token(model(size)) == 2 * n + 4 * (n + head) + 12 * layers * d * 4096


@pytest.mark.parametrize("label", PUBLISHED)
def test_recipe_as_published(label):
    rung = next(r for r in loader.load("olmo2-all").all if r.label == label)
    tokens, steps, batch_tokens, peak_lr = PUBLISHED[label]
    assert rung.batch_tokens == batch_tokens
    assert rung.optimizer.peak_lr == pytest.approx(peak_lr, rel=1e-6)
    # The published runs have 0.0 to 0.2 % more than the nominal 20 N x multiple tokens.
    assert 0.998 <= rung.steps / steps <= 1.0
    assert 0.998 <= rung.tokens / tokens <= 1.0
    assert rung.optimizer.warmup_tokens == n_params(rung.model)


def test_gpt2_small_is_gpt2_small():
    """124,439,808 parameters, the published count: tied head and learned positions included."""
    gpt2 = Model("gpt2", 768, 12, 12, 3072, 50257, 1024, tie_embeddings=True)
    assert n_total(gpt2) == 124_439_808
    assert n_non_embedding(gpt2) == 12 * 12 * 768**2
    assert n_params(gpt2) == 124_439_808 - (50257 + 1024) * 768


def test_llama_3_8b_is_llama_3_8b():
    """8,030,261,248 parameters, the count of the published checkpoint: grouped-query heads."""
    llama = Model("llama", 4096, 32, 32, 14336, 128256, 8192, n_kv_heads=8)
    assert n_total(llama) == 8_030_261_248


def test_rules():
    assert train_tokens(190354176, 2) == 7614167040
    assert train_tokens(16592, 0.5) == 165920
    assert kaplan_peak_lr(10**9) == pytest.approx(0.003239 - 0.0001395 * 20.723266, rel=1e-6)


def test_memory_is_split_over_devices():
    one, four = memory_bytes(model("190M"), 8), memory_bytes(model("190M"), 2, shards=4)
    assert one["parameters"] == 4 * (190354176 + 100352 * 768)
    assert all(four[part] * 4 == one[part] for part in one if part != "logits")
    assert four["logits"] == one["logits"] == 8 * CHUNK_ELEMENTS  # of one chunk
    remat = {mode: memory_bytes(model("190M"), 8, remat=mode)["activations"] for mode in ("none", "dots", "full")}
    assert remat["none"] > remat["dots"] > remat["full"]


def test_moments_take_the_memory_of_their_types():
    def optimizer_bytes(**dtypes):
        return memory_bytes(model("190M"), 8, optimizer=Optimizer(1e-3, 1, **dtypes))["optimizer"]

    n = 190354176 + 100352 * 768
    assert optimizer_bytes() == 8 * n
    assert optimizer_bytes(mu_dtype="bfloat16") == 6 * n
    assert optimizer_bytes(mu_dtype="bfloat16", nu_dtype="bfloat16") == 4 * n
