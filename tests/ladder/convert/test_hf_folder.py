"""Hugging Face folders come in as our export wrote them: bit for bit, part for part; what our models lack is refused.
The oracle of the names and of the formulas is test_hf.py; folders that transformers saved: tests/real/test_hf_in.py."""

import json
import struct

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ladder.config import Mesh
from ladder.convert import hf, pretrained, safetensors_files
from ladder.data import tokenizer
from ladder.errors import InputError
from ladder.parallel import sharding
from launch import cli, model_export
from tests.ladder.convert.hf_models import MODELS, model, random_params, read

BPE = tokenizer.train(["the words that the text has, and the text"] * 3, 290)


def exported(folder, m, params, ours=BPE, most_bytes=safetensors_files.MOST_BYTES):
    """A folder as `ladder export --to hf` writes it."""
    model_export.write(folder, m, read(params), ours, ours.eos, card="")
    if most_bytes < safetensors_files.MOST_BYTES:
        (folder / "model.safetensors").unlink()
        safetensors_files.write(folder, hf.entries(m), hf.tensors(m, read(params)), most_bytes)
    return folder


def opened(folder):
    """(model, parameters on one device) of a folder."""
    found = pretrained.open_model(folder)
    shapes = hf.shapes(found.model)
    whole = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    tree: dict = {}
    for name in shapes:
        *groups, last = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = whole
    return found, found.params(tree)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors*"))}


@pytest.mark.parametrize(
    "name, dtype",
    [(name, "float32") for name in MODELS if name.endswith(("untied", "one head"))]
    + [("olmo2, one head", "bfloat16"), ("gpt2, untied", "bfloat16")],
)
def test_our_own_exports_come_back_to_the_bit_and_go_out_to_the_byte(name, dtype, tmp_path):
    m = model(MODELS[name].family, **differences(MODELS[name]), param_dtype=dtype)
    params = random_params(m)
    first = exported(tmp_path / "first", m, params)
    found, back = opened(first)
    of_heads = m.n_heads if m.family == "gpt2" else m.kv_heads
    assert (found.model.kv_heads, found.model.param_dtype) == (of_heads, dtype)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not (m.family == "gpt2" and path[-1].key.startswith(("key", "value"))):  # there, shared heads are repeated
            assert np.asarray(hf.at(back, hf.dotted(path))).tobytes() == np.asarray(leaf).tobytes(), path
    second = exported(tmp_path / "second", found.model, back, found.tokenizer)
    assert files(first) == files(second)
    assert (first / "tokenizer.json").read_text() == (second / "tokenizer.json").read_text()


def differences(m) -> dict:
    names = ("tie_embeddings", "n_kv_heads", "norm_eps", "rope_theta")
    return {name: getattr(m, name) for name in names}


@pytest.mark.parametrize("name", [name for name in MODELS if "one head" in name])
def test_several_files_and_several_devices_hold_the_same(name, tmp_path):
    m, params = MODELS[name], random_params(MODELS[name])
    folder = exported(tmp_path / "split", m, params, most_bytes=20_000)
    assert len(files(folder)) > 3
    found = pretrained.open_model(folder)
    mesh = sharding.make_mesh(Mesh(tensor=2) if len(jax.devices()) % 2 == 0 else Mesh())
    shardings = sharding.shardings(mesh, params if m.family != "gpt2" else opened(folder)[1])
    placed = found.params(shardings)
    assert jax.tree.map(lambda x: x.sharding, placed) == shardings
    one = opened(exported(tmp_path / "one", m, params))[1]
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), placed, one))


@pytest.mark.parametrize("family", ["olmo2", "gpt2"])
def test_a_part_is_what_that_part_of_the_whole_is(family, tmp_path_factory):
    m = MODELS[f"{family}, untied"]
    params = random_params(m)
    found = pretrained.open_model(exported(tmp_path_factory.mktemp("parts") / "model", m, params))
    shapes = hf.shapes(m)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(sorted(shapes)))
        ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shapes[name]]
        index = tuple(slice(a, b) if data.draw(st.booleans()) and a < b else slice(None) for a, b in ends)
        np.testing.assert_array_equal(found.read(name, index), hf.at(params, name)[index])

    check()


def changed(folder, **changes):
    """The folder with other values in its config.json; None takes a key out."""
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_names_and_types_that_other_versions_of_transformers_write(dtype, tmp_path):
    m = MODELS["gpt2, tied"]
    params = random_params(m)
    folder = changed(exported(tmp_path / "gpt2", m, params), n_inner=None, architectures=None, tie_word_embeddings=None)
    changed(folder, n_inner=m.d_ff)
    tensors = {name.removeprefix("transformer."): w.astype(dtype) for name, w in load_file(weights(folder)).items()}
    tensors["h.0.attn.bias"] = np.tri(8, dtype=np.float32)[None, None]
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    save_file(tensors, weights(folder))
    found, back = opened(folder)
    assert found.model.tie_embeddings and found.model.param_dtype == "float32"
    expected = params["blocks"]["key"].astype(dtype).astype(np.float32)
    assert np.array_equal(back["blocks"]["key"], expected)


def weights(folder):
    return folder / "model.safetensors"


def test_a_mistral_without_a_window_is_a_llama(tmp_path):
    m = MODELS["llama, grouped heads"]
    folder = exported(tmp_path / "mistral", m, random_params(m))
    mistral = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    with pytest.raises(InputError, match="sliding_window = 4096; our llama computes only sliding_window = None"):
        pretrained.open_model(changed(folder, **mistral))
    config = json.loads((folder / "config.json").read_text()) | {"sliding_window": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert pretrained.open_model(folder).model == m


ROPE = {"rope_type": "llama3", "factor": 8.0}
REFUSED = {
    "biases": ("llama", {"attention_bias": True}, "attention_bias = True; our llama computes only attention_bias = F"),
    "mlp bias": ("llama", {"mlp_bias": True}, "mlp_bias = True"),
    "llama 3.1": ("llama", {"rope_parameters": ROPE}, "our models have no scaled positions"),
    "older yarn": ("llama", {"rope_parameters": None, "rope_scaling": {"type": "yarn"}}, "rope_scaling = {'type'"),
    "window": ("olmo2", {"sliding_window": 64}, "sliding_window = 64"),
    "GELU": ("olmo2", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    "exact GELU": ("gpt2", {"activation_function": "gelu"}, "activation_function = 'gelu'"),
    "quantised": ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4}"),
    "wide heads": ("llama", {"head_dim": 16}, "head_dim = 16; only hidden_size / num_attention_heads = 8"),
    "qwen2": ("llama", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "has biases of queries"),
    "classifier": ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification;"),
    "unknown": ("llama", {"model_type": "mamba", "architectures": None}, "'mamba'; only GPT2LMHeadModel, Llama"),
    "no width": ("llama", {"hidden_size": None}, "config.json: hidden_size is missing"),
    "text": ("llama", {"hidden_size": "wide"}, "hidden_size = 'wide'; needs a whole number"),
    "no number": ("gpt2", {"layer_norm_epsilon": "small"}, "layer_norm_epsilon = 'small'; needs a number"),
    "a layer more": ("llama", {"num_hidden_layers": 3}, "the tensor model.layers.2.self_attn.q_proj.weight is missing"),
    "a layer less": ("llama", {"num_hidden_layers": 1}, "no parameter for its tensor model.layers.1.input_layernorm"),
    "another width": ("llama", {"intermediate_size": 40}, "gate_proj.weight is [48, 32]; config.json says [40, 32]"),
    "not tied": ("llama", {"tie_word_embeddings": True}, "lm_head.weight differs from model.embed_tokens.weight"),
    "few tokens": ("gpt2", {"n_head": 3}, "model.d_model = 32 is not a multiple of model.n_heads = 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_compute_as_trained_is_refused_by_name(name, tmp_path):
    family, changes, says = REFUSED[name]
    m = MODELS[f"{family}, untied"]
    folder = changed(exported(tmp_path / "model", m, random_params(m)), **changes)
    with pytest.raises(InputError) as error:
        pretrained.open_model(folder)
    assert str(error.value).startswith(f"{folder}") and says in str(error.value)
    assert "\n" not in str(error.value)


def cut(folder):
    weights(folder).write_bytes(weights(folder).read_bytes()[:-100])


def header_only(folder):
    weights(folder).write_bytes(struct.pack("<Q", 1 << 40))


def of_eight_bits(folder):
    tensors = load_file(weights(folder))
    save_file(tensors | {"model.norm.weight": np.zeros(32, np.int8)}, weights(folder))


def of_pickles(folder):
    weights(folder).rename(folder / "pytorch_model.bin")


def index_without_file(folder):
    weights(folder).unlink()
    where = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(where))


DAMAGED = {
    "cut": (cut, "model.safetensors: not a safetensors file, or truncated"),
    "no header": (header_only, "model.safetensors: not a safetensors file, or truncated"),
    "eight bits": (of_eight_bits, "its tensor model.norm.weight is I8; only float32, float16, bfloat16 can be read"),
    "pickles": (of_pickles, "has no model.safetensors and no model.safetensors.index.json; pytorch_model.bin is not"),
    "missing file": (index_without_file, "model-00001-of-00002.safetensors: not there"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "bad config": (lambda folder: (folder / "config.json").write_text("[1"), "config.json: not a JSON object"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: no such tokenizer"),
    "bad index": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "not an index of safetensors files"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_folder_that_is_not_whole_is_one_line_and_exit_code_2(name, tmp_path, capsys):
    damage, says = DAMAGED[name]
    m = MODELS["llama, untied"]
    folder = exported(tmp_path / "model", m, random_params(m))
    damage(folder)
    assert cli.main(["eval", str(folder), "--tasks", "olmes"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said and said.count("\n") == 1
