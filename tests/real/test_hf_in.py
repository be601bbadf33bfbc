"""Folders that transformers saved, read by us; SmolLM2 on its way from GGUF through a folder: `make proof-real`."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder.config import Mesh
from ladder.convert import gguf, pretrained
from ladder.evaluation import prefix_tree, tasks
from ladder.loop import evaluate
from ladder.model import transformer
from ladder.parallel import sharding
from launch import model_export
from tests.ladder.convert import hf_models
from tests.ladder.data.test_tokenizer import gpt2_like, llama2_like, llama3_like
from tests.ladder.evaluation.asked import save
from tests.real.test_hf import ORACLE, SMOLLM2, TOLERANCE, of_transformers, texts

pytestmark = pytest.mark.proof

ROPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ROPE |= {"vocab_size": 512, "max_position_embeddings": 32, "num_key_value_heads": 4}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 512}
LLAMA, OLMO2 = ROPE | {"model_type": "llama"}, ROPE | {"model_type": "olmo2"}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
# name -> (what transformers builds, the type in which it saves, the tokenizer beside it)
SAVED = {
    "llama": (LLAMA, "float32", "llama3"),
    "llama, tied": (LLAMA | {"tie_word_embeddings": True}, "float32", "llama2"),
    "llama, grouped heads": (LLAMA | THETA | {"num_key_value_heads": 2, "rms_norm_eps": 1e-3}, "float32", "gpt2"),
    "llama, bfloat16": (LLAMA, "bfloat16", "llama3"),
    "llama, float16": (LLAMA, "float16", "llama3"),
    "mistral": (
        ROPE | {"model_type": "mistral", "sliding_window": None, "num_key_value_heads": 2},
        "bfloat16",
        "llama2",
    ),
    "olmo2": (OLMO2, "float32", "gpt2"),
    "olmo2, tied": (OLMO2 | {"tie_word_embeddings": True}, "float32", "llama3"),
    "olmo2, grouped heads": (OLMO2 | THETA | {"num_key_value_heads": 1}, "float32", "gpt2"),
    "gpt2": (GPT2 | {"tie_word_embeddings": False, "n_inner": 40}, "float32", "gpt2"),
    "gpt2, tied": (GPT2, "float32", "gpt2"),
    "gpt2, float16": (GPT2, "float16", "llama3"),
}
TOKENIZERS = {
    "gpt2": (gpt2_like, {"eos_token": "<|endoftext|>"}),
    "llama3": (llama3_like, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "llama2": (llama2_like, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{name: (folder, tokens, what transformers says of them)}."""
    if not (ORACLE / ".installed").exists():
        pytest.skip("PyTorch and transformers are not there: make oracle installs them")
    tmp = tmp_path_factory.mktemp("saved")
    for name, (make, _) in TOKENIZERS.items():
        (tmp / f"{name}.json").write_text(make().to_str())
    asked = {}
    for i, (config, dtype, tokenizer) in enumerate(SAVED.values()):
        tokens = np.random.default_rng(i).integers(0, 512, (2, 32)).tolist()
        about = {"config": config, "dtype": dtype, "tokenizer": str(tmp / f"{tokenizer}.json")}
        asked[str(tmp / f"m{i}")] = about | {"special": TOKENIZERS[tokenizer][1], "tokens": tokens, "texts": texts()}
    answers = of_transformers(tmp, asked, "hf_saved.py")
    return {name: (folder, asked[folder]["tokens"], answers[folder]) for name, folder in zip(SAVED, asked, strict=True)}


def params_of(published: pretrained.Pretrained) -> dict:
    shapes = jax.eval_shape(lambda: transformer.init_params(published.model, 0))
    return published.params(sharding.shardings(sharding.make_mesh(Mesh()), shapes))


def logits_of(model, params, tokens) -> np.ndarray:
    functions = transformer.functions(model)
    return np.asarray(functions.logits(params, functions.hidden(params, jnp.asarray(tokens))))


@pytest.mark.parametrize("name", SAVED)
def test_our_logits_are_those_of_transformers(name, saved):
    folder, tokens, answer = saved[name]
    published = pretrained.open_model(folder)
    ours, theirs = logits_of(published.model, params_of(published), tokens), np.asarray(answer["logits"])
    difference = np.abs(ours - theirs).max()
    print(f"{name}: {answer['class']}, largest difference of a logit {difference:.1e}, of {np.abs(theirs).max():.1f}")
    assert difference < TOLERANCE
    assert published.model.param_dtype == ("bfloat16" if SAVED[name][1] == "bfloat16" else "float32")


@pytest.mark.parametrize("name", SAVED)
def test_our_ids_are_those_of_transformers(name, saved):
    folder, _, answer = saved[name]
    ours, special = pretrained.open_model(folder).tokenizer, TOKENIZERS[SAVED[name][2]][1]
    for text, ids in zip(texts(), answer["ids"], strict=True):
        assert ours.encode(text).tolist() == ids, text
        assert ours.token_bytes[ids].sum() == len(text.encode()) + (ours.space_before and text != "")
    engine = TOKENIZERS[SAVED[name][2]][0]()
    assert ours.eos == engine.token_to_id(special["eos_token"])


def test_smollm2_scores_the_same_as_gguf_as_folder_and_in_transformers(tmp_path):
    if not SMOLLM2.exists() or not (ORACLE / ".installed").exists():
        pytest.skip("SmolLM2 or transformers is not there: make oracle fetches both")
    model, params, ours = gguf.read(SMOLLM2)
    folder = tmp_path / "smollm2"
    model_export.write(folder, model, hf_models.read(params), ours, ours.eos, card="")
    back = params_of(pretrained.open_model(folder))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), params, back))

    docs = tasks.load_task("arc_easy_val:0shot").docs[:40]
    save(tasks.Task("arc_easy", docs), tmp_path / "arc_easy.jsonl")
    bpb = {}
    for name, path in {"GGUF": SMOLLM2, "folder": folder}.items():
        (made,) = evaluate.evaluate(path, (str(tmp_path / "arc_easy.jsonl"),))
        bpb[name] = next(row["value"] for row in made.rows if row["metric"] == "bpb")
    gold = [replace(doc, choices=(doc.choices[doc.gold],), gold=0) for doc in docs]
    encoded = prefix_tree.encode(tuple(gold), ours, model.seq_len)
    requests = [([*e.inputs.tolist(), int(e.targets[-1])], len(e.targets)) for e in encoded]
    asked = {str(folder): {"tokens": [[0]], "texts": [], "requests": requests}}
    scores = of_transformers(tmp_path, asked)[str(folder)]["scores"]
    bpb["transformers"] = np.mean([-s / math.log(2) / e.n_bytes for s, e in zip(scores, encoded, strict=True)])
    print("bpb of 40 docs of arc_easy:", json.dumps(bpb))
    assert bpb["folder"] == bpb["GGUF"] == pytest.approx(bpb["transformers"], abs=1e-5)
