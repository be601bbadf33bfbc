"""Exported models: names and shapes as transformers has them, and the same logits by its formulas. The models that
transformers itself opens: tests/real/test_hf.py."""

import json
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file
from tokenizers import Tokenizer as Engine
from tokenizers import processors

from ladder.convert import hf, hf_config, hf_tokenizer, safetensors_files
from ladder.data import tokenizer
from ladder.model import transformer
from tests.ladder.convert.hf_models import MODELS, model, random_params, read

# Names and shapes of layer 0, as named_parameters() of transformers 5.15.1 gives them for Olmo2ForCausalLM,
# LlamaForCausalLM and GPT2LMHeadModel with width 8, 4 heads, 2 key-value heads (gpt2 has none), feed-forward 12,
# 20 tokens, 6 positions.
ATTENTION = {"q_proj": (8, 8), "k_proj": (4, 8), "v_proj": (4, 8), "o_proj": (8, 8)}
MLP = {"gate_proj": (12, 8), "up_proj": (12, 8), "down_proj": (8, 12)}
ROPE = {f"self_attn.{name}.weight": shape for name, shape in ATTENTION.items()}
ROPE |= {f"mlp.{name}.weight": shape for name, shape in MLP.items()}
THEIRS = {
    "olmo2": ROPE
    | {"self_attn.q_norm.weight": (8,), "self_attn.k_norm.weight": (4,)}
    | {"post_attention_layernorm.weight": (8,), "post_feedforward_layernorm.weight": (8,)},
    "llama": ROPE | {"input_layernorm.weight": (8,), "post_attention_layernorm.weight": (8,)},
    "gpt2": {
        **{"ln_1.weight": (8,), "ln_1.bias": (8,), "attn.c_attn.weight": (8, 24), "attn.c_attn.bias": (24,)},
        **{"attn.c_proj.weight": (8, 8), "attn.c_proj.bias": (8,), "ln_2.weight": (8,), "ln_2.bias": (8,)},
        **{"mlp.c_fc.weight": (8, 12), "mlp.c_fc.bias": (12,), "mlp.c_proj.weight": (12, 8), "mlp.c_proj.bias": (8,)},
    },
}
OUTSIDE = {"model.embed_tokens.weight": (20, 8), "model.norm.weight": (8,)}
OF_GPT2 = {"transformer.wte.weight": (20, 8), "transformer.wpe.weight": (6, 8)}
OF_GPT2 |= {"transformer.ln_f.weight": (8,), "transformer.ln_f.bias": (8,)}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", THEIRS)
def test_names_and_shapes_are_those_of_transformers(family, tied):
    shape = {"d_model": 8, "d_ff": 12, "vocab_size": 20, "seq_len": 6, "n_kv_heads": 2}
    layer = "transformer.h." if family == "gpt2" else "model.layers."
    expected = {f"{layer}{i}.{name}": shape for i in range(2) for name, shape in THEIRS[family].items()}
    expected |= (OF_GPT2 if family == "gpt2" else OUTSIDE) | ({} if tied else {"lm_head.weight": (20, 8)})
    entries = hf.entries(model(family, tie_embeddings=tied, **shape))
    assert {entry.name: entry.shape for entry in entries} == expected and len(entries) == len(expected)


def write(folder, m, params, most_bytes=safetensors_files.MOST_BYTES) -> None:
    safetensors_files.write(folder, hf.entries(m), hf.tensors(m, read(params)), most_bytes)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith((", tied", "grouped heads"))])
def test_the_formulas_of_transformers_give_our_logits(name, tmp_path):
    m = MODELS[name]
    params, tokens = random_params(m), np.random.default_rng(1).integers(0, m.vocab_size, (2, m.seq_len))
    write(tmp_path, m, params)
    functions = transformer.functions(m)
    ours = functions.logits(params, functions.hidden(params, jnp.asarray(tokens)))
    forward = gpt2_logits if m.family == "gpt2" else rope_logits
    theirs = forward(load_file(tmp_path / "model.safetensors"), hf_config.write(m, 0, None), tokens)
    assert np.abs(np.asarray(ours) - theirs).max() < 1e-4


def attend(q_BLHK, k_BLHK, v_BLHK):
    scores = np.einsum("blhk,bmhk->bhlm", q_BLHK, k_BLHK) / np.sqrt(q_BLHK.shape[-1])
    scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    o_BLHK = np.einsum("bhlm,bmhk->blhk", weights / weights.sum(-1, keepdims=True), v_BLHK)
    return o_BLHK.reshape(*o_BLHK.shape[:2], -1)


def rope_logits(w: dict, c: dict, tokens):
    """Olmo2ForCausalLM and LlamaForCausalLM (modeling_olmo2.py, modeling_llama.py)."""
    heads, key_heads = c["num_attention_heads"], c["num_key_value_heads"]
    olmo2 = c["model_type"] == "olmo2"

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * w[name]

    def rotated(x_BLHK):
        K = x_BLHK.shape[-1]
        frequency = c["rope_parameters"]["rope_theta"] ** (-np.arange(0, K, 2) / K)
        angle = np.tile(np.arange(x_BLHK.shape[1])[:, None] * frequency, 2)[:, None]
        half = np.concatenate([-x_BLHK[..., K // 2 :], x_BLHK[..., : K // 2]], -1)
        return x_BLHK * np.cos(angle) + half * np.sin(angle)

    def attention(x, layer):
        q, k, v = (x @ w[f"{layer}self_attn.{name}_proj.weight"].T for name in "qkv")
        if olmo2:
            q, k = norm(q, f"{layer}self_attn.q_norm.weight"), norm(k, f"{layer}self_attn.k_norm.weight")
        q, k, v = (a.reshape(*x.shape[:2], -1, x.shape[2] // heads) for a in (q, k, v))
        k, v = (a.repeat(heads // key_heads, axis=2) for a in (rotated(k), v))
        return attend(rotated(q), k, v) @ w[f"{layer}self_attn.o_proj.weight"].T

    def mlp(x, layer):
        gate, up, down = (w[f"{layer}mlp.{name}_proj.weight"].T for name in ("gate", "up", "down"))
        return (x @ gate / (1 + np.exp(-(x @ gate))) * (x @ up)) @ down

    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        after = f"{layer}post_attention_layernorm.weight"
        if olmo2:
            x = x + norm(attention(x, layer), after)
            x = x + norm(mlp(x, layer), f"{layer}post_feedforward_layernorm.weight")
        else:
            x = x + attention(norm(x, f"{layer}input_layernorm.weight"), layer)
            x = x + mlp(norm(x, after), layer)
    head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return norm(x, "model.norm.weight") @ head.T


def gpt2_logits(w: dict, c: dict, tokens):
    """GPT2LMHeadModel (modeling_gpt2.py)."""

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + c["layer_norm_epsilon"])
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for i in range(c["n_layer"]):
        layer = f"transformer.h.{i}."
        qkv = np.split(dense(norm(x, f"{layer}ln_1"), f"{layer}attn.c_attn"), 3, axis=-1)
        x = x + dense(attend(*(a.reshape(*x.shape[:2], c["n_head"], -1) for a in qkv)), f"{layer}attn.c_proj")
        h = dense(norm(x, f"{layer}ln_2"), f"{layer}mlp.c_fc")
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + dense(h, f"{layer}mlp.c_proj")
    head = w["transformer.wte.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return norm(x, "transformer.ln_f") @ head.T


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_several_files_hold_the_same_bytes_as_one(dtype, tmp_path):
    m = model("olmo2", param_dtype=dtype)
    params = random_params(m)
    (tmp_path / "one").mkdir()
    write(tmp_path / "one", m, params)
    write(tmp_path, m, params, most_bytes=70_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 1 and files == [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    found = {}
    for name in files:
        with safe_open(tmp_path / name, "numpy") as file:
            assert file.metadata() == {"format": "pt"}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
        assert all(index["weight_map"][key] == name for key in tensors)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 70_000
        found |= tensors
    one = load_file(tmp_path / "one/model.safetensors")
    assert found.keys() == one.keys() == index["weight_map"].keys()
    assert all(found[name].tobytes() == one[name].tobytes() for name in one)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in found.values())
    last = np.asarray(params["blocks"]["down"])[-1].T
    assert one["model.layers.1.mlp.down_proj.weight"].tobytes() == np.ascontiguousarray(last).tobytes()


def test_memory_holds_one_parameter_at_a_time(tmp_path):
    m = model("llama", d_model=128, n_layers=12, d_ff=256, vocab_size=300)
    entries = hf.entries(m)
    shapes = jax.eval_shape(lambda: transformer.init_params(m, 0))
    total, largest = sum(e.n_bytes for e in entries), 4 * shapes["blocks"]["up"].size

    def parameter(name: str) -> np.ndarray:
        tree = shapes
        for key in name.split("."):
            tree = tree[key]
        return np.ones(tree.shape, np.float32)

    tracemalloc.start()
    safetensors_files.write(tmp_path, entries, hf.tensors(m, parameter))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.3 * largest < total / 3


def given_tokenizer() -> str:
    """A BPE of another project that asks for truncation and padding, and puts a token before each text."""
    engine = Engine.from_str(tokenizer.train(["some words and some more words"], 300).definition)
    engine.enable_truncation(3)
    engine.enable_padding(length=50)
    end = tokenizer.END_OF_TEXT
    engine.post_processor = processors.TemplateProcessing(f"{end} $A", special_tokens=[(end, 0)])
    return engine.to_str()


TOKENIZERS = {
    "bytes": tokenizer.byte_tokenizer(),
    "bpe": tokenizer.train(["the words that the text has, and the text"] * 3, 290),
    "given": tokenizer.from_definition(given_tokenizer()),
}
WRITTEN = {name: Engine.from_str(hf_tokenizer.definition(ours)) for name, ours in TOKENIZERS.items()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=50)
@given(text=st.text() | st.sampled_from([*tokenizer.PROBES, "", "x <|endoftext|> y"]))
def test_tokens_are_ours(kind, text):
    ours, theirs = TOKENIZERS[kind], WRITTEN[kind]
    theirs.encode_special_tokens = hf_tokenizer.config(ours, ours.eos, 32)["split_special_tokens"]
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == ours.encode(text).tolist()
    assert theirs.decode([*ids, ours.eos]) == ours.decode([*ids, ours.eos]) == text


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_separator_has_its_name_and_id(kind):
    ours = TOKENIZERS[kind]
    written = hf_tokenizer.config(ours, ours.eos, 32)
    assert written["eos_token"] == tokenizer.END_OF_TEXT and written["model_max_length"] == 32
    assert written.get("bos_token") == (tokenizer.END_OF_TEXT if kind == "given" else None)
    assert WRITTEN[kind].token_to_id(written["eos_token"]) == ours.eos
    assert hf_config.write(MODELS["gpt2, tied"], ours.eos, None)["eos_token_id"] == ours.eos
