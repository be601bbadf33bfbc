"""The transformer: counts, names, and the forward pass against the papers' formulas in plain NumPy float64."""

import functools
import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import loader
from ladder import sizes
from ladder.config import Model
from ladder.model.attention import blockwise
from ladder.model.transformer import AXES, Hooks, functions, init_params

pytestmark = pytest.mark.usefixtures("quick_compile")

FAMILIES = ("olmo2", "llama", "gpt2")
LADDER_MODELS = {f"{r.size}-{r.model.family}": r.model for name in loader.BUILT_IN for r in loader.load(name).all}
# d_model, layers, heads, d_ff, vocabulary, sequence: all numbers differ, so that a mix-up of two axes shows.
SHAPES = [(24, 3, 4, 55, 41, 13), (90, 2, 9, 31, 1009, 17)]
SMALL = dict(d_model=24, n_layers=3, n_heads=4, d_ff=55, vocab_size=41, seq_len=13, compute_dtype="float32")


def shapes(c: Model) -> dict:
    return jax.eval_shape(lambda: init_params(c, 0))


def named(tree) -> dict[tuple[str, ...], object]:
    return {tuple(k.key for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def table() -> list[Model]:
    cases = itertools.product(FAMILIES, SHAPES, (False, True))
    return [
        Model(family, d, n, h, f, v, length, n_kv_heads=kv, tie_embeddings=tied)
        for family, (d, n, h, f, v, length), tied in cases
        for kv in (1, 2, 3, None)
        if kv is None or h % kv == 0
    ]


@pytest.mark.parametrize("c", [*table(), *LADDER_MODELS.values()], ids=lambda c: f"{c.family}-{c.d_model}")
def test_counted_parameters_equal_the_formulas(c):
    leaves = named(shapes(c))
    count = {name: math.prod(leaf.shape) for name, leaf in leaves.items()}
    total = sum(count.values())
    assert total == sizes.n_total(c)
    assert total - count["embedding",] - count.get(("positions",), 0) == sizes.n_params(c)
    matrices = [n for name, n in count.items() if name[0] == "blocks" and leaves[name].ndim == 3]
    assert sum(matrices) == sizes.n_non_embedding(c)
    assert (("head",) in count) != c.tie_embeddings
    assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_every_matrix_has_its_logical_axes(family, tied):
    c = Model(family, **SMALL | {"n_kv_heads": 2, "tie_embeddings": tied})
    length = {"vocab": 41, "positions": 13, "model": 24, "heads": 24, "kv_heads": 12, "ffn": 55}
    matrices = set()
    for (*group, name), leaf in named(shapes(c)).items():
        shape = leaf.shape[1:] if group[:1] == ["blocks"] else leaf.shape
        assert group[:1] != ["blocks"] or leaf.shape[0] == 3
        if len(shape) > 1:
            matrices.add(name)
            assert shape == tuple(length[axis] for axis in AXES[name])
        else:
            assert name not in AXES
            assert name in ("scale", "bias") or name.endswith("_bias")
    left_out = {"olmo2": {"positions"}, "llama": {"positions"}, "gpt2": {"gate"}}[family] | (
        {"head"} if tied else set()
    )
    assert matrices == set(AXES) - left_out


def test_initial_parameters():
    c = Model("gpt2", 48, 2, 3, 96, 300, 20, init_std=0.1)
    params = named(jax.jit(lambda: init_params(c, 7))())
    other_seed = jax.jit(lambda: init_params(c, 8)["embedding"])()
    cut_std = 0.9866  # standard deviation of a normal cut at three of its own
    for name, p in params.items():
        if name[-1] in AXES:
            scale = (2 * c.n_layers) ** -0.5 if name[-1] in ("out", "down") else 1.0  # Radford et al. 2019
            assert np.std(p) == pytest.approx(cut_std * 0.1 * scale, rel=0.04)
            assert np.abs(p).max() <= 0.3 * scale * (1 + 1e-6)
        else:
            np.testing.assert_array_equal(p, float(name[-1] == "scale"))
    for one, another in ((other_seed, params["embedding",]), params["blocks", "query"]):
        assert np.corrcoef(np.ravel(one), np.ravel(another))[0, 1] < 0.1


def random_params(c: Model, std: float = 0.3) -> dict:
    """All parameters random, norms and biases too: at their initial values (1 and 0) they would have no effect."""
    rng = np.random.default_rng(0)

    def draw(path, s):
        x = rng.normal(0, std, s.shape)
        return (1 + x if path[-1].key == "scale" else x).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(c))


def tokens_of(c: Model):
    return np.random.default_rng(1).integers(0, c.vocab_size, (2, SMALL["seq_len"]))


# The oracle. One sequence, one head, one position at a time, in float64.


def norm(x, p, eps, centred):
    """RMSNorm (Zhang and Sennrich 2019), or LayerNorm (Ba et al. 2016)."""
    if centred:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * p["scale"] + p["bias"]
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * p["scale"]


def rotate(x_LK, theta):
    """RoPE (Su et al. 2021): the number pairs (x_k, x_{k + K/2}) turn as complex numbers by t theta^(-2k/K)."""
    L, K = x_LK.shape
    z = x_LK[:, : K // 2] + 1j * x_LK[:, K // 2 :]
    z = z * np.exp(1j * np.outer(np.arange(L), theta ** (-2 * np.arange(K // 2) / K)))
    return np.concatenate([z.real, z.imag], axis=1)


def softmax(s):
    e = np.exp(s - s.max())
    return e / e.sum()


def attention(c: Model, x_LD, p, layer):
    q, k, v = (linear(c, x_LD, p, name, layer) for name in ("query", "key", "value"))
    if c.family == "olmo2":  # QK-norm over the full projection, before the split into heads
        q = norm(q, {"scale": p["query_norm"]["scale"][layer]}, c.norm_eps, False)
        k = norm(k, {"scale": p["key_norm"]["scale"][layer]}, c.norm_eps, False)
    K, heads = c.head_dim, []
    for h in range(c.n_heads):
        g = h // (c.n_heads // c.kv_heads)  # consecutive query heads share a key-value head
        qh, kh, vh = (a[:, i * K : (i + 1) * K] for a, i in ((q, h), (k, g), (v, g)))
        if c.family != "gpt2":
            qh, kh = rotate(qh, c.rope_theta), rotate(kh, c.rope_theta)
        heads.append(np.stack([softmax(kh[: t + 1] @ qh[t] / math.sqrt(K)) @ vh[: t + 1] for t in range(len(x_LD))]))
    return linear(c, np.concatenate(heads, axis=1), p, "out", layer)


def mlp(c: Model, x_LD, p, layer):
    up = linear(c, x_LD, p, "up", layer)
    if c.family == "gpt2":  # GELU, tanh form (Hendrycks and Gimpel 2016)
        hidden = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    else:  # SwiGLU (Shazeer 2020)
        gate = linear(c, x_LD, p, "gate", layer)
        hidden = gate / (1 + np.exp(-gate)) * up
    return linear(c, hidden, p, "down", layer)


def linear(c: Model, x, p, name, layer):
    return x @ p[name][layer] + (p[f"{name}_bias"][layer] if c.family == "gpt2" else 0)


def oracle(c: Model, params, tokens_BL):
    """(hidden states, logits)."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    centred = c.family == "gpt2"

    def block_norm(x, name, layer):
        return norm(x, {key: value[layer] for key, value in p["blocks"][name].items()}, c.norm_eps, centred)

    def forward(tokens_L):
        x = p["embedding"][tokens_L]
        if c.family == "gpt2":
            x = x + p["positions"][: len(tokens_L)]
        for i in range(c.n_layers):
            for sub_layer, name in ((attention, "attention_norm"), (mlp, "mlp_norm")):
                if c.family == "olmo2":  # x + norm(f(x)) (OLMo et al. 2025)
                    x = x + block_norm(sub_layer(c, x, p["blocks"], i), name, i)
                else:  # x + f(norm(x))
                    x = x + sub_layer(c, block_norm(x, name, i), p["blocks"], i)
        return norm(x, p["final_norm"], c.norm_eps, centred)

    x_BLD = np.stack([forward(tokens_L) for tokens_L in tokens_BL])
    return x_BLD, x_BLD @ (p["embedding"].T if c.tie_embeddings else p["head"])


FORWARD = {
    "olmo2": Model("olmo2", **SMALL),
    "olmo2, tied, grouped": Model("olmo2", **SMALL, n_kv_heads=2, tie_embeddings=True, rope_theta=100.0, norm_eps=0.01),
    "llama": Model("llama", **SMALL, n_kv_heads=2, rope_theta=10_000.0),
    "llama, one key-value head, tied": Model("llama", **SMALL, n_kv_heads=1, tie_embeddings=True),
    "gpt2": Model("gpt2", **SMALL, tie_embeddings=True, norm_eps=1e-5),
    "gpt2, grouped, untied, short": Model("gpt2", **SMALL | {"seq_len": 20}, n_kv_heads=2, norm_eps=0.01),
}


@functools.cache
def compiled(c: Model):
    """(params, tokens) -> (hidden states, logits)."""
    f = functions(c)

    def forward(params, tokens_BL):
        x_BLD = f.hidden(params, tokens_BL)
        return x_BLD, f.logits(params, x_BLD)

    return jax.jit(forward)


def relative_error(got, expected) -> float:
    """The largest error, relative to the largest number."""
    return np.abs(np.asarray(got, np.float64) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", FORWARD)
def test_forward_as_in_the_papers(name):
    c = FORWARD[name]
    params, tokens_BL = random_params(c), tokens_of(c)
    for got, expected in zip(compiled(c)(params, tokens_BL), oracle(c, params, tokens_BL), strict=True):
        assert got.dtype == jnp.float32
        assert relative_error(got, expected) < 5e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_no_position_sees_later_tokens(family):
    c = FORWARD[family]
    params, tokens_BL = random_params(c), tokens_of(c)
    before = np.asarray(compiled(c)(params, tokens_BL)[0])
    for t in range(c.seq_len):
        changed = tokens_BL.copy()
        changed[0, t] = (changed[0, t] + 1) % c.vocab_size
        after = np.asarray(compiled(c)(params, changed)[0])
        np.testing.assert_array_equal(after[0, :t], before[0, :t])
        np.testing.assert_array_equal(after[1], before[1])
        assert (np.abs(after[0, t:] - before[0, t:]).max(axis=-1) > 1e-4).all()


def loss_and_gradients(c: Model, hooks: Hooks):
    f, tokens_BL = functions(c, hooks), tokens_of(c)

    def loss(params):
        log_p = jax.nn.log_softmax(f.logits(params, f.hidden(params, tokens_BL)))
        return -jnp.take_along_axis(log_p[:, :-1], tokens_BL[:, 1:, None], axis=-1).mean()

    return jax.value_and_grad(loss)


def test_remat_and_unroll_change_nothing():
    c = replace(FORWARD["olmo2"], n_layers=2)
    params = random_params(c)
    (loss, grads), *others = (
        jax.jit(loss_and_gradients(c, hooks))(params)
        for hooks in (Hooks(), Hooks(remat="dots"), Hooks(remat="full", unroll=True))
    )
    for same, same_grads in others:
        assert float(same) == pytest.approx(float(loss), rel=1e-6)
        for name, g in named(grads).items():
            assert relative_error(named(same_grads)[name], np.asarray(g)) < 5e-5, name


def test_unrolled_layers_are_no_loop():
    c = FORWARD["olmo2"]
    text = {
        unroll: jax.jit(functions(c, Hooks(unroll=unroll)).hidden).lower(shapes(c), tokens_of(c)).as_text()
        for unroll in (False, True)
    }
    assert "stablehlo.while" in text[False]
    assert "stablehlo.while" not in text[True]


def test_attention_is_a_hook():
    c = FORWARD["llama"]
    params, tokens_BL = random_params(c), tokens_of(c)
    shapes_seen = set()

    def attend(q_BLHK, k_BLGK, v_BLGK):
        shapes_seen.add((q_BLHK.shape, k_BLGK.shape, v_BLGK.shape))
        return blockwise(q_BLHK, k_BLGK, v_BLGK)

    got = jax.jit(functions(c, Hooks(attend=attend)).hidden)(params, tokens_BL)
    assert relative_error(got, np.asarray(compiled(c)(params, tokens_BL)[0])) < 5e-6
    assert shapes_seen == {((2, 13, 4, 6), (2, 13, 2, 6), (2, 13, 2, 6))}


def test_remat_saves_less_the_stronger_it_is():
    """Every matmul whose result is not saved is computed once more in the backward pass."""
    c = FORWARD["olmo2"]
    matmuls = {
        remat: str(jax.make_jaxpr(loss_and_gradients(c, Hooks(remat=remat)))(random_params(c))).count("dot_general")
        for remat in ("none", "dots", "full")
    }
    assert matmuls["none"] < matmuls["dots"] < matmuls["full"]


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_computes_nearly_the_same(family):
    c = FORWARD[family]
    params, tokens_BL = random_params(c), tokens_of(c)
    exact = compiled(c)(params, tokens_BL)
    rough = compiled(replace(c, compute_dtype="bfloat16"))(params, tokens_BL)
    assert (rough[0].dtype, rough[1].dtype) == (jnp.bfloat16, jnp.float32)
    for got, expected in zip(rough, exact, strict=True):
        assert 1e-5 < relative_error(got, np.asarray(expected)) < 0.05


def test_the_model_constrains_its_activations():
    """The caller decides the layout: the model only names the logical axes of an activation."""
    seen = []

    def constrain(x, axes):
        assert len(axes) == x.ndim
        seen.append(axes)
        return x

    c = FORWARD["llama"]
    jax.eval_shape(functions(c, Hooks(constrain=constrain)).hidden, shapes(c), tokens_of(c))
    residual = ("batch", "length", None)
    assert (seen[0], seen[-1]) == (residual, residual)  # the embeddings, and the output of a layer
    assert set(seen) == {residual, ("batch", "length", "heads", None), ("batch", "length", "ffn")}
