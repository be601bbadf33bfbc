"""The decoder-only transformer in three families: olmo2, llama and gpt2.

Shape letters, here and in every array name that crosses a function boundary:
B batch, L length, D model, H heads, G key-value heads, K head, F ffn, V vocab, N layers, T = B L tokens.

Parameters are a plain nested dict of arrays (`init_params`). Nothing here knows the mesh: `Hooks.constrain(x,
logical_axes)` is the identity unless parallel/sharding.py supplies another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from ladder.config import Model
from ladder.model import attention, tree_attention

# Parameter -> its logical axes (in blocks, after a "layers" axis); parallel/sharding.py maps these to mesh axes.
AXES = {
    "embedding": ("vocab", "model"),
    "positions": ("positions", "model"),
    "head": ("model", "vocab"),
    "query": ("model", "heads"),
    "key": ("model", "kv_heads"),
    "value": ("model", "kv_heads"),
    "out": ("heads", "model"),
    "gate": ("model", "ffn"),
    "up": ("model", "ffn"),
    "down": ("ffn", "model"),
}


@dataclass(frozen=True)
class Hooks:
    """What the caller decides for the model: layout, attention kernel, what the backward pass recomputes (remat).

    eos: the id that ends a document; `hidden` then keeps attention and positions within a document. None: within a row.
    """

    constrain: Callable = lambda x, axes: x
    attend: Callable = attention.xla
    remat: str = "none"
    unroll: bool = False  # unroll the loop over layers: faster on CPU, longer to compile
    eos: int | None = None


def dense(x_BLD, w_DF, bias_F=None):
    """x @ w + bias as one 2-D matmul: on CPU the gradient of the 3-D form copies and recomputes (2x slower)."""
    y_TF = x_BLD.reshape(-1, x_BLD.shape[-1]) @ w_DF.astype(x_BLD.dtype)
    if bias_F is not None:
        y_TF = y_TF + bias_F.astype(x_BLD.dtype)
    return y_TF.reshape(*x_BLD.shape[:-1], w_DF.shape[-1])


def project(head_DV, x_TD):
    """logits_TV in float32."""
    return dense(x_TD, head_DV).astype(jnp.float32)


def rope(x_BLHK, position, theta: float):
    """Rotary position embedding (Su et al. 2021): dimension k is paired with k + K/2, as in Llama and OLMo checkpoints.

    position: of every token, [L] or [B, L].
    """
    K = x_BLHK.shape[3]
    frequency_k = theta ** (-jnp.arange(0, K, 2, dtype=jnp.float32) / K)
    angle_L1k = (position.astype(jnp.float32)[..., None] * frequency_k)[..., None, :]
    cos_L1k, sin_L1k = jnp.cos(angle_L1k), jnp.sin(angle_L1k)
    a, b = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos_L1k - b * sin_L1k, b * cos_L1k + a * sin_L1k], axis=-1).astype(x_BLHK.dtype)


class Norm(nnx.Module):
    """RMSNorm (olmo2, llama) or LayerNorm with bias (gpt2), in float32."""

    def __init__(self, c: Model, width: int):
        self.centred, self.eps = c.family == "gpt2", c.norm_eps
        self.scale = nnx.Param(jnp.ones(width, c.param_dtype))
        if self.centred:
            self.bias = nnx.Param(jnp.zeros(width, c.param_dtype))

    def __call__(self, x):
        y = x.astype(jnp.float32)
        if self.centred:
            y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps) * self.scale[...]
        if self.centred:
            y = y + self.bias[...]
        return y.astype(x.dtype)


class Block(nnx.Module):
    """One layer: attention and feed-forward, both residual."""

    def __init__(self, c: Model, rngs: nnx.Rngs):
        self.c = c
        D, KV, F = c.d_model, c.kv_heads * c.head_dim, c.d_ff
        shapes = {"query": (D, D), "key": (D, KV), "value": (D, KV), "out": (D, D), "up": (D, F), "down": (F, D)}
        if c.family != "gpt2":
            shapes["gate"] = (D, F)
        for name, shape in shapes.items():
            # GPT-2 scales the weights that write to the residual stream by 1/sqrt(2 N) (Radford et al. 2019).
            scale = (2 * c.n_layers) ** -0.5 if c.family == "gpt2" and name in ("out", "down") else 1.0
            setattr(self, name, nnx.Param(_initial(c, rngs, shape, scale)))
            if c.family == "gpt2":
                setattr(self, f"{name}_bias", nnx.Param(jnp.zeros(shape[1], c.param_dtype)))
        self.attention_norm, self.mlp_norm = Norm(c, D), Norm(c, D)
        if c.family == "olmo2":
            self.query_norm, self.key_norm = Norm(c, D), Norm(c, KV)

    def __call__(self, x_BLD, position, attend: Callable, hooks: Hooks):
        """(x_BLD, (k_BLGK, v_BLGK)): the layer's output and its keys and values."""
        if self.c.family == "olmo2":  # normalises the output of a sub-layer, the other families its input
            o_BLD, keys_values = self.attention(x_BLD, position, attend, hooks)
            x_BLD = x_BLD + self.attention_norm(o_BLD)
            return x_BLD + self.mlp_norm(self.mlp(x_BLD, hooks)), keys_values
        o_BLD, keys_values = self.attention(self.attention_norm(x_BLD), position, attend, hooks)
        x_BLD = x_BLD + o_BLD
        return x_BLD + self.mlp(self.mlp_norm(x_BLD), hooks), keys_values

    def dense(self, x, name: str):
        bias = getattr(self, f"{name}_bias")[...] if self.c.family == "gpt2" else None
        return dense(x, getattr(self, name)[...], bias)

    def attention(self, x_BLD, position, attend: Callable, hooks: Hooks):
        c, (B, L, _) = self.c, x_BLD.shape
        q, k, v = (self.dense(x_BLD, name) for name in ("query", "key", "value"))
        if c.family == "olmo2":
            q, k = self.query_norm(q), self.key_norm(k)
        q_BLHK = q.reshape(B, L, c.n_heads, c.head_dim)
        k_BLGK, v_BLGK = (a.reshape(B, L, c.kv_heads, c.head_dim) for a in (k, v))
        if c.family != "gpt2":
            q_BLHK, k_BLGK = rope(q_BLHK, position, c.rope_theta), rope(k_BLGK, position, c.rope_theta)
        q_BLHK = hooks.constrain(q_BLHK, ("batch", "length", "heads", None))
        return self.dense(attend(q_BLHK, k_BLGK, v_BLGK).reshape(B, L, -1), "out"), (k_BLGK, v_BLGK)

    def mlp(self, x_BLD, hooks: Hooks):
        up_BLF = self.dense(x_BLD, "up")
        if self.c.family == "gpt2":
            h_BLF = jax.nn.gelu(up_BLF)
        else:
            h_BLF = jax.nn.silu(self.dense(x_BLD, "gate")) * up_BLF
        return self.dense(hooks.constrain(h_BLF, ("batch", "length", "ffn")), "down")


class Transformer(nnx.Module):
    """Tokens to hidden states to logits. The parameters of all layers are stacked, and the layers scanned."""

    def __init__(self, c: Model, rngs: nnx.Rngs):
        self.c = c
        self.embedding = nnx.Param(_initial(c, rngs, (c.vocab_size, c.d_model)))
        if c.family == "gpt2":
            self.positions = nnx.Param(_initial(c, rngs, (c.seq_len, c.d_model)))
        if not c.tie_embeddings:
            self.head = nnx.Param(_initial(c, rngs, (c.d_model, c.vocab_size)))
        self.final_norm = Norm(c, c.d_model)

        @nnx.split_rngs(splits=c.n_layers)
        @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: None})
        def blocks(rngs):
            return Block(c, rngs)

        self.blocks = blocks(rngs)

    def hidden(self, tokens_BL, hooks: Hooks):
        """int tokens_BL -> x_BLD in the compute dtype, after the final norm."""
        position, attend = jnp.arange(tokens_BL.shape[1]), hooks.attend
        if hooks.eos is not None:
            document_BL, position = attention.documents(tokens_BL, hooks.eos)
            attend = partial(attend, document_BL=document_BL)

        def layer(x_BLD, block):
            return block(x_BLD, position, attend, hooks)[0], None

        return self._scan_layers(layer, self.blocks, tokens_BL, position, hooks)[0]

    def nodes(self, tokens_BL, tree: tree_attention.Tree, hooks: Hooks):
        """(x_BLD, path): as `hidden`, for the rows of prefix-tree nodes of one step; and the Path of the next step.

        Layers are never unrolled: without a backward pass that gains nothing.
        """
        last_CM = tree_attention.last_at_depth(tree)

        def layer(x_BLD, indexed_block):
            i, block = indexed_block
            attend = partial(tree_attention.attend, tree=tree, last_CM=last_CM, layer=i)
            return block(x_BLD, tree.depth_BL, attend, hooks)

        blocks, hooks = (jnp.arange(self.c.n_layers), self.blocks), replace(hooks, unroll=False)
        x_BLD, keys_values = self._scan_layers(layer, blocks, tokens_BL, tree.depth_BL, hooks)
        return x_BLD, tree_attention.next_path(tree.path, last_CM[-1], *keys_values)

    def _scan_layers(self, layer: Callable, blocks, tokens_BL, position, hooks: Hooks):
        """Embedding, layer(x_BLD, block) -> (x_BLD, output) for each of `blocks`, final norm; -> x_BLD, all outputs."""
        x_BLD = self.embedding[...].astype(self.c.compute_dtype)[tokens_BL]
        if self.c.family == "gpt2":
            x_BLD = x_BLD + self.positions[...].astype(x_BLD.dtype)[position]
        x_BLD = hooks.constrain(x_BLD, ("batch", "length", None))

        def body(x_BLD, block):
            x_BLD, output = layer(x_BLD, block)
            return hooks.constrain(x_BLD, ("batch", "length", None)), output

        if hooks.remat != "none":
            policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if hooks.remat == "dots" else None
            body = jax.checkpoint(body, policy=policy, prevent_cse=False)
        x_BLD, outputs = jax.lax.scan(body, x_BLD, blocks, unroll=hooks.unroll)
        return self.final_norm(x_BLD), outputs

    def head_DV(self):
        return self.embedding[...].T if self.c.tie_embeddings else self.head[...]


def _initial(c: Model, rngs: nnx.Rngs, shape: tuple[int, ...], scale: float = 1.0):
    """Normal of standard deviation init_std (0.02 in Bhagia et al. 2024) x scale, truncated at three deviations."""
    sample = jax.random.truncated_normal(rngs.params(), -3.0, 3.0, shape, jnp.float32)
    return (c.init_std * scale * sample).astype(c.param_dtype)


def init_params(c: Model, seed: int) -> dict:
    """The initial parameters of a seed: a nested dict of arrays; those of the blocks have a leading layer axis."""
    return nnx.to_pure_dict(nnx.state(Transformer(c, nnx.Rngs(params=jax.random.key(seed)))))


def root(c: Model) -> tree_attention.Path:
    """The empty path above a root, with room for the deepest one: seq_len rounded up to whole tiles of keys."""
    M = -(-c.seq_len // tree_attention.KEYS) * tree_attention.KEYS
    empty_NGMK = jnp.zeros((c.n_layers, c.kv_heads, M, c.head_dim), c.compute_dtype)
    return tree_attention.Path(empty_NGMK, empty_NGMK)


@dataclass(frozen=True)
class Functions:
    """The model as pure functions.

    hidden(params, tokens_BL) -> x_BLD; head(params) -> head_DV; logits(params, x_..D) -> logits_..V, which is
    project(head(params), x). For scoring: nodes(params, tokens_BL, tree_attention.Tree) -> x_BLD and the
    tree_attention.Path of the next step; root() -> the Path of the first step.
    """

    hidden: Callable
    head: Callable
    logits: Callable
    nodes: Callable
    root: Callable


def functions(c: Model, hooks: Hooks | None = None) -> Functions:
    hooks = hooks or Hooks()
    graph, _ = nnx.split(nnx.eval_shape(lambda: Transformer(c, nnx.Rngs(params=0))))

    def module(params) -> Transformer:
        return nnx.merge(graph, nnx.State(params))

    return Functions(
        hidden=lambda params, tokens_BL: module(params).hidden(tokens_BL, hooks),
        head=lambda params: module(params).head_DV(),
        logits=lambda params, x: project(module(params).head_DV(), x),
        nodes=lambda params, tokens_BL, tree: module(params).nodes(tokens_BL, tree, hooks),
        root=lambda: root(c),
    )
