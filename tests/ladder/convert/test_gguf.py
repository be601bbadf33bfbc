"""Tiny llamas, written by the gguf package and read by ours, against a NumPy forward pass in the file's convention."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from ladder.convert import gguf as converter
from ladder.data.tokenizer import BYTE_OF
from ladder.errors import InputError
from ladder.model.transformer import functions
from launch import cli
from tests.ladder.evaluation.asked import line, write

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed: make test installs it")
from gguf.quants import quantize  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compile")
D, LAYERS, HEADS, KV_HEADS, FFN, EPS, THETA = 64, 2, 4, 2, 96, 1e-5, 1e4
TOKENS = ["<|endoftext|>", "<s>", *BYTE_OF, "1" + "2", "a" + "b", "Ġ" + "ab"]
MERGES = ["1 2", "a b", "Ġ ab"]
ID = {token: i for i, token in enumerate(TOKENS)}
FACTS = {
    "llama.context_length": 64,
    "llama.embedding_length": D,
    "llama.block_count": LAYERS,
    "llama.feed_forward_length": FFN,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.attention.layer_norm_rms_epsilon": EPS,
    "llama.rope.freq_base": THETA,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2),
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.add_bos_token": False,
}
SHAPES = {"attn_q": (D, D), "attn_k": (D // 2, D), "attn_v": (D // 2, D), "attn_output": (D, D)}
SHAPES |= {"ffn_gate": (FFN, D), "ffn_up": (FFN, D), "ffn_down": (D, FFN), "attn_norm": (D,), "ffn_norm": (D,)}


def weights(tied: bool) -> dict:
    draw = np.random.default_rng(0)
    shapes = {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in SHAPES.items()}
    shapes |= {"token_embd": (len(TOKENS), D), "output_norm": (D,)} | ({} if tied else {"output": (len(TOKENS), D)})
    return {
        f"{name}.weight": (draw.normal(0, 0.15, shape) + (len(shape) == 1)).astype(np.float32)
        for name, shape in shapes.items()
    }


def kind_of(name: str, w):
    """Quantised as published files are: 8 bits for the embedding, 4 for the rest, norms in full."""
    kinds = gguf.GGMLQuantizationType
    if w.ndim == 1:
        return kinds.F32
    return kinds.Q8_0 if "token_embd" in name else kinds.F16 if "attn_v" in name else kinds.Q4_1


def save(path, tensors: dict, architecture="llama", **facts):
    """A GGUF file; facts: {key with __ for a dot: another value, None to leave it out}."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (FACTS | {key.replace("__", "."): value for key, value in facts.items()}).items():
        kind = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}.get(type(value))
        if kind:
            getattr(writer, f"add_{kind}")(key, value)
    for name, w in tensors.items():
        writer.add_tensor(name, quantize(w, kind_of(name, w)), raw_dtype=kind_of(name, w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored(name: str, w):
    """The values of a matrix after quantisation, from the published layout of a block of 32 weights."""
    kind = kind_of(name, w)
    if kind.name in ("F32", "F16"):
        return w.astype(kind.name.replace("F", "float")).astype(np.float64)
    blocks = quantize(w, kind).reshape(-1, 34 if kind.name == "Q8_0" else 20)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float64)
    if kind.name == "Q8_0":
        return (scale * blocks[:, 2:].view(np.int8)).reshape(w.shape)
    least, packed = blocks[:, 2:4].copy().view(np.float16).astype(np.float64), blocks[:, 4:]
    return (scale * np.concatenate([packed & 15, packed >> 4], axis=1) + least).reshape(w.shape)


def numpy_log_probs(tensors: dict, ids) -> np.ndarray:
    """log p of the next token after every position [L, V], computed token by token and head by head in float64."""
    w = {name.removesuffix(".weight"): stored(name, value) for name, value in tensors.items()}
    K, x = D // HEADS, w["token_embd"][ids]

    def normed(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * scale

    def turned(head_LK):
        out = np.empty_like(head_LK)
        for place, row in enumerate(head_LK):
            for k in range(K // 2):  # adjacent pairs
                angle = place * THETA ** (-2 * k / K)
                a, b = row[2 * k], row[2 * k + 1]
                out[place, 2 * k] = a * math.cos(angle) - b * math.sin(angle)
                out[place, 2 * k + 1] = a * math.sin(angle) + b * math.cos(angle)
        return out

    for i in range(LAYERS):
        y = normed(x, w[f"blk.{i}.attn_norm"])
        q, k, v = (y @ w[f"blk.{i}.attn_{name}"].T for name in "qkv")
        heads = []
        for h in range(HEADS):
            own, shared = slice(h * K, h * K + K), slice(h // 2 * K, h // 2 * K + K)
            scores = turned(q[:, own]) @ turned(k[:, shared]).T / math.sqrt(K)
            scores = np.exp(np.where(np.tri(len(ids)), scores, -np.inf))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, shared])
        x = x + np.concatenate(heads, axis=1) @ w[f"blk.{i}.attn_output"].T
        y = normed(x, w[f"blk.{i}.ffn_norm"])
        gate, up = (y @ w[f"blk.{i}.ffn_{name}"].T for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"blk.{i}.ffn_down"].T
    logits = normed(x, w["output_norm"]) @ w.get("output", w["token_embd"]).T
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("tied", [True, False])
def test_a_quantised_llama_computes_what_its_file_says(tmp_path, tied):
    tensors = weights(tied)
    c, params, _ = converter.read(save(tmp_path / "tiny.gguf", tensors))
    assert (c.kv_heads, c.rope_theta, c.tie_embeddings, c.seq_len) == (KV_HEADS, THETA, tied, 64)
    ids = np.random.default_rng(1).integers(0, len(TOKENS), 20)
    computed = functions(c)
    logits = computed.logits(params, computed.hidden(params, ids[None]))[0]
    expected = numpy_log_probs(tensors, ids)
    np.testing.assert_allclose(jax.nn.log_softmax(logits), expected, atol=2e-5)
    assert np.ptp(expected, axis=1).min() > 2  # far from uniform


def test_ladder_eval_scores_a_file(tmp_path, capsys):
    tensors, answers = weights(True), [" ab", " 12ba"]
    path = save(tmp_path / "tiny.gguf", tensors)
    lines = [line(doc, i, doc % 2, f"Q{doc} ab", answer) for doc in range(4) for i, answer in enumerate(answers)]
    quiz = write(tmp_path / "quiz.jsonl", lines)
    out = tmp_path / "out.json"
    assert cli.main(["eval", str(path), "--tasks", str(quiz), "--json", str(out)]) == 0
    (made,) = json.loads(out.read_text())["evaluations"]

    coded = {" ab": [ID["Ġab"]], " 12ba": [ID[token] for token in ("Ġ", "1", "2", "b", "a")]}
    bpb = []
    for doc in range(4):
        context, answer = [ID["Q"], ID[str(doc)], ID["Ġab"]], answers[doc % 2]
        log_probs = numpy_log_probs(tensors, context + coded[answer])[len(context) - 1 :]
        score = sum(log_probs[i, token] for i, token in enumerate(coded[answer]))
        bpb.append(-score / math.log(2) / len(answer))
    found = {row["metric"]: row["value"] for row in made["rows"]}
    assert found["bpb"] == pytest.approx(np.mean(bpb), abs=2e-5)
    assert (made["run_id"], made["step"]) == ("tiny", None) and made["tokens"] > 0
    shown = capsys.readouterr().out
    assert f"{found['bpb']:.4f}" in shown and shown.startswith("tiny ") and "training" not in shown


def test_the_tokenizer_of_the_file(tmp_path):
    def ids(text, **facts):
        coded = converter.read(save(tmp_path / "tiny.gguf", weights(True), **facts)).tokenizer
        assert coded.decode(coded.encode(text)) == text and coded.eos == 0
        return coded.bos, [TOKENS[i] for i in coded.encode(text)]

    assert ids("ab ab12") == (None, ["ab", "Ġab", "1", "2"])  # digits one by one
    assert ids("ab ab12", tokenizer__ggml__pre="gpt-2") == (None, ["ab", "Ġab", "12"])
    assert ids("ab<s>", tokenizer__ggml__add_bos_token=True) == (1, ["ab", "<", "s", ">"])


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"architecture": "qwen2"}, "its architecture is 'qwen2'; only 'llama' can be read"),
        (
            {"llama__rope__scaling__type": "yarn"},
            "llama.rope.scaling.type = 'yarn': scaled positions are not supported",
        ),
        (
            {"llama__attention__key_length": 32},
            "llama.attention.key_length = 32: only d_model / n_heads = 16 is supported",
        ),
        ({"llama__block_count": 3}, "blk.2.attn_q.weight is missing"),
        (
            {"llama__block_count": 1},
            "our llama has no parameter for its tensor blk.1.attn_k.weight, so it cannot be read",
        ),
        ({"llama__block_count": None}, "block_count is missing"),
        ({"llama__feed_forward_length": 64}, "the shapes of its tensors do not match its metadata"),
        ({"llama__attention__head_count": 3}, "model.d_model = 64 is not a multiple of model.n_heads = 3"),
        (
            {"tokenizer__ggml__model": "llama"},
            "its tokenizer is 'llama' with pre-tokenizer 'smollm'; only 'gpt2' with gpt-2, smollm",
        ),
    ],
)
def test_what_would_not_compute_as_trained_is_refused(tmp_path, facts, says):
    path = save(tmp_path / "tiny.gguf", weights(True), **facts)
    with pytest.raises(InputError) as error:
        converter.read(path)
    assert str(error.value).startswith(f"{path}: ") and says in str(error.value)


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, ["--tasks", "olmes"], "cannot be read (No such file or directory)"),
        (b"", ["--tasks", "olmes"], "not a GGUF file, or truncated"),
        (b"hello, world", ["--tasks", "olmes"], "not a GGUF file, or truncated (GGUF magic invalid)"),
        (slice(200), ["--tasks", "olmes"], "not a GGUF file, or truncated"),
        (slice(-3000), ["--tasks", "olmes"], "not a GGUF file, or truncated"),
        (slice(None), [], "no tasks to evaluate; name some, for example olmes (--tasks)"),
        (
            slice(None),
            ["--tasks", "olmes", "--step", "3"],
            "a published model has no checkpoints to choose from (--step)",
        ),
    ],
)
def test_wrong_input_is_one_line(tmp_path, content, arguments, says, capsys):
    path = tmp_path / "tiny.gguf"
    if isinstance(content, slice):
        whole = save(path, weights(True)).read_bytes()
        content = whole[content]
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["eval", str(path), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: ") and says in said and said.count("\n") == 1


CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"


def test_a_merge_outside_the_vocabulary_is_one_line(tmp_path, capsys):
    with pytest.raises(InputError, match="the merge 'a z1' of its tokenizer needs 'z1', which its vocabulary lacks"):
        converter.read(save(tmp_path / "a.gguf", weights(True), **{"tokenizer.ggml.merges": [*MERGES, "a z1"]}))
    with pytest.raises(InputError, match="the merge 'a' of its tokenizer is not two tokens"):
        converter.read(save(tmp_path / "b.gguf", weights(True), **{"tokenizer.ggml.merges": [*MERGES, "a"]}))
    shared = CASES / "gguf-merge-outside-vocabulary" / "model.gguf"
    if not shared.exists():
        pytest.skip("the cases are not beside the repository")
    assert cli.main(["eval", str(shared), "--tasks", "olmes"]) == 2
    said = capsys.readouterr().err
    assert "which its vocabulary lacks" in said and said.count("\n") == 1
