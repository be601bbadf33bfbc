"""ladder/data/tokenizer.py: no byte is lost, and tiktoken gives the ids that tokenizers gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine

from ladder import config, overrides
from ladder.data import tokenizer
from ladder.errors import InputError

SOURCES = [Path(module.__file__).read_text() for module in (tokenizer, config, overrides, json, json.decoder)]


@pytest.fixture(scope="module")
def bpe():
    return tokenizer.train(SOURCES, 700)


def written_for_a_corpus() -> st.SearchStrategy[str]:
    # tiktoken knows letters that `tokenizers` does not: those unassigned in Python's own tables.
    letters = st.characters(exclude_categories=("Cs", "Cn", "Co"))
    code = st.sampled_from(
        [
            "def ",
            "    ",
            "\n",
            "\r\n",
            "\t",
            "return x",
            "12345",
            "don't",
            "é",
            "日本",
            "🙂",
            "<|endoftext|>",
        ]
    )
    return st.lists(st.one_of(letters, code), max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=written_for_a_corpus())
def test_bpe_loses_nothing_and_equals_the_other_encoder(bpe, text):
    ids = bpe.encode(text)
    engine = Engine.from_str(bpe.definition)
    engine.encode_special_tokens = True
    assert ids.tolist() == engine.encode(text, add_special_tokens=False).ids
    assert bpe.decode(ids) == text
    assert bpe.token_bytes[ids].sum() == len(text.encode())


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_bytes(text):
    coder = tokenizer.byte_tokenizer()
    ids = coder.encode(text)
    assert ids.tolist() == list(text.encode())
    assert coder.eos not in ids
    assert coder.decode([*ids, coder.eos]) == text
    assert coder.token_bytes[ids].sum() == len(ids)
    assert coder.token_bytes[coder.eos] == 0


def test_bpe_is_encoded_with_ranks_and_trained_deterministically(bpe):
    assert bpe.encode_ids.func is tokenizer._encode_ranks
    assert tokenizer.train(SOURCES, 700).hash == bpe.hash != tokenizer.train(SOURCES[:1], 700).hash
    assert (bpe.vocab_size, bpe.eos, bpe.bos, bpe.token_bytes[bpe.eos]) == (700, 0, None, 0)
    text = "".join(SOURCES)
    assert len(bpe.encode(text)) < 0.6 * len(text)


def test_more_spaces_in_a_row_than_the_regular_expression_can_handle(bpe):
    text = " " * 2_000_000 + "x"
    assert bpe.token_bytes[bpe.encode(text)].sum() == len(text)


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_saved_and_loaded_is_the_same(kind, bpe, tmp_path):
    saved = bpe if kind == "bpe" else tokenizer.load("bytes")
    saved.save(tmp_path / "saved")
    for where in (
        tmp_path / "saved",
        tmp_path / "saved" / "tokenizer.json",
        str(tmp_path / "saved"),
    ):
        again = tokenizer.load(where)
        assert (again.hash, again.eos, again.vocab_size) == (saved.hash, saved.eos, saved.vocab_size)
        assert again.encode(SOURCES[0]).tolist() == saved.encode(SOURCES[0]).tolist()
        np.testing.assert_array_equal(again.token_bytes, saved.token_bytes)


def test_dtype_is_the_narrowest():
    assert tokenizer.load("bytes").encode("a").dtype == np.uint16


def gpt2_like(separator="<|endoftext|>") -> Engine:
    """Unlike our own BPE: another split, other ids, and an added token of plain text as in GPT-NeoX."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[separator],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(SOURCES, trainer)
    engine.add_tokens(["        "])
    return engine


def sentencepiece_like() -> Engine:
    pieces = [
        "<unk>",
        "</s>",
        *(f"<0x{b:02X}>" for b in range(256)),
        "\u2581",
        *"abcdefx",
        "\u2581a",
    ]
    engine = Engine(
        models.BPE(
            {p: i for i, p in enumerate(pieces)},
            [("\u2581", "a")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    engine.normalizer = normalizers.Replace(" ", "\u2581")
    engine.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    engine.add_special_tokens(["<unk>", "</s>"])
    return engine


@pytest.mark.parametrize("make, eos", [(gpt2_like, 0), (sentencepiece_like, 1)])
def test_any_lossless_tokenizer_json(make, eos, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(make().to_str())
    coder = tokenizer.load(path)
    assert coder.eos == eos and coder.token_bytes[eos] == 0
    for text in [*SOURCES, "</s> <|endoftext|>", "        x", "日本 🙂"]:
        ids = coder.encode(text)
        assert coder.token_bytes[ids].sum() == len(text.encode())
        assert coder.decode(ids) == text


def test_bos_is_what_the_tokenizer_puts_in_front(tmp_path):
    engine = gpt2_like()
    post = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    definition = json.loads(engine.to_str()) | {"post_processor": post}
    coder = tokenizer.from_definition(json.dumps(definition))
    assert coder.bos == 0
    assert 0 not in coder.encode("a")


def lower_case() -> str:
    engine = gpt2_like()
    engine.normalizer = normalizers.Sequence([normalizers.StripAccents(), normalizers.Strip()])
    return engine.to_str()


def same_id_twice() -> str:
    definition = json.loads(tokenizer.train(SOURCES[:1], 300).definition)
    definition["model"]["vocab"]["a"] = definition["model"]["vocab"]["b"]
    return json.dumps(definition)


@pytest.mark.parametrize(
    "content, says",
    [
        ("{", "Expecting"),
        ("[]", "expected struct Tokenizer"),
        ('{"kind": "words"}', "expected `,`"),
        (gpt2_like("<end>").to_str(), "no token that ends a document"),
        (lower_case(), "it loses bytes of"),
        (same_id_twice(), "two tokens the same id"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_tokenizer_json_is_refused_in_one_line(content, says, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        tokenizer.load(path)
    message = str(caught.value)
    assert "\n" not in message and "bad.json" in message
    assert says in message


def test_a_missing_or_binary_one_is_refused(tmp_path):
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    for spec in (tmp_path / "none.json", tmp_path / "b.json", tmp_path, "bpe:8000"):
        with pytest.raises(InputError) as caught:
            tokenizer.load(spec)
        assert "\n" not in str(caught.value)


def test_a_plain_split_is_used_by_both_encoders():
    # The oracle of the split itself: Python's own classes, on ASCII.
    split = pre_tokenizers.Split(Regex(tokenizer.SPLIT), "isolated")
    text = "def f(x1234):\n    return 'a' + \"b\"  # two\n\n"
    words = [word for word, _ in split.pre_tokenize_str(text)]
    assert "".join(words) == text
    assert words[:8] == ["def", " f", "(x", "123", "4", "):\n", "   ", " return"]


CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "tokenizer-that-loses-text"


@pytest.mark.parametrize(
    "name, says",
    [
        ("lower", "loses bytes of 'The STONE of Élan', which becomes 'the stone of élan'"),
        ("added_strip", "loses bytes of 'x stone river y', which becomes 'xstone rivery'"),
        ("eos_bar", None),
    ],
)
def test_the_shared_cases(name, says):
    if not CASES.exists():
        pytest.skip("the cases are not beside the repository")
    if says is None:
        assert tokenizer.load(CASES / f"{name}.json").eos == 2
        return
    with pytest.raises(InputError, match=says):
        tokenizer.load(CASES / f"{name}.json")


LOSSY = {
    "Lowercase": normalizers.Lowercase(),
    "NFKC": normalizers.NFKC(),
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "two spaces are one": normalizers.Replace(Regex(" +"), " "),
    "white space is a space": normalizers.Replace(Regex(r"\s"), " "),
    "Strip": normalizers.Strip(),
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_normalizer_that_changes_text_is_refused(name):
    engine = gpt2_like()
    engine.normalizer = LOSSY[name]
    with pytest.raises(InputError, match="loses bytes of"):
        tokenizer.from_definition(engine.to_str())


@pytest.mark.parametrize("separator", tokenizer.SEPARATORS)
def test_separators_of_published_tokenizers(separator):
    assert tokenizer.from_definition(gpt2_like(separator).to_str()).eos == 0


def llama3_like() -> Engine:
    """Its split, its way to put <|begin_of_text|> first, and words that stand in the vocabulary without a merge."""
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    pieces = {**{c: i for i, c in enumerate(tokenizer.BYTE_OF)}, "de": 256, "def": 257, "Ġreturn": 258}
    engine = Engine(models.BPE(pieces, [("d", "e"), ("de", "f")], ignore_merges=True))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    first = processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 259)])
    engine.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), first])
    return engine


def llama2_like() -> Engine:
    """SentencePiece as Llama 2 and Mistral have it: a space before each text, bytes for what has no piece."""
    engine = sentencepiece_like()
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    last = (decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0))
    engine.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), *last])
    engine.add_special_tokens(["<s>"])
    bos = engine.token_to_id("<s>")
    engine.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", bos)])
    return engine


def metaspace_like(scheme: str) -> Engine:
    """SentencePiece as transformers converts it since 4.40."""
    engine = sentencepiece_like()
    engine.normalizer = None
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return engine


@pytest.mark.parametrize("make", [llama3_like, llama2_like, lambda: metaspace_like("never")])
@settings(max_examples=60, deadline=None)
@given(text=st.text() | written_for_a_corpus())
def test_tokenizers_of_published_models_lose_nothing(make, text):
    if "\u2581" in text and make is not llama3_like:  # SentencePiece itself cannot tell it from a space
        return
    coder, engine = tokenizer.from_definition(make().to_str()), make()
    engine.encode_special_tokens = True
    ids = coder.encode(text)
    assert ids.tolist() == engine.encode(text, add_special_tokens=False).ids
    assert coder.decode(ids) == text
    assert coder.token_bytes[ids].sum() == len(text.encode()) + (coder.space_before and len(text) > 0)


def test_llama_3_takes_whole_words_from_its_vocabulary():
    coder = tokenizer.from_definition(llama3_like().to_str())
    assert coder.encode("def return").tolist() == [257, 258]  # no merge makes "Ġreturn"
    assert (coder.bos, coder.eos, coder.token_bytes[257]) == (259, 260, 3)


def test_pieces_that_stand_for_bytes_count_as_one_byte_each():
    coder = tokenizer.from_definition(llama2_like().to_str())
    assert coder.space_before and coder.bos == coder.vocab_size - 1
    ids = coder.encode("日a")
    assert coder.token_bytes[ids].tolist() == [1, 1, 1, 1, 1]
    literal = coder.encode("<0x41>")  # a text that names such a piece is not that piece
    assert coder.token_bytes[literal].sum() == 7 and coder.decode(literal) == "<0x41>"


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_space_that_cannot_be_told_from_the_one_put_before_a_text_is_refused(scheme):
    with pytest.raises(InputError, match="it loses bytes of ' a', which becomes 'a'"):
        tokenizer.from_definition(metaspace_like(scheme).to_str())


def test_the_separator_can_be_named(tmp_path):
    definition = llama3_like().to_str()
    default, named = tokenizer.from_definition(definition), tokenizer.from_definition(definition, "<|eot_id|>")
    assert (default.eos, named.eos) == (260, 261) and named.hash != default.hash
    assert tokenizer.from_definition(definition, "<|end_of_text|>").hash == default.hash
    named.save(tmp_path)
    again = tokenizer.load(tmp_path)
    assert (again.eos, again.hash, again.named_eos) == (261, named.hash, "<|eot_id|>")
    assert tokenizer.load(tmp_path / "tokenizer.json").hash == default.hash
    says = r"'<\|end\|>' is none of its special tokens, which are <\|begin_of_text\|>, <\|end_of_text\|>, <\|eot_id\|>;"
    for name, message in (("<|end|>", says), ("def", "'def' is none of its special tokens")):
        with pytest.raises(InputError, match=message):
            tokenizer.load(tmp_path, name)
    unknown = gpt2_like("<end>").to_str()
    with pytest.raises(InputError, match=r"name one of its special tokens as data\.eos: <end>"):
        tokenizer.from_definition(unknown)
    assert tokenizer.from_definition(unknown, "<end>").eos == 0


@pytest.mark.parametrize("token", ['"</s>"', '{"content": "</s>", "special": true}'])
def test_a_folder_may_name_its_separator_as_transformers_does(token, tmp_path):
    (tmp_path / "tokenizer.json").write_text(gpt2_like("</s>").to_str())
    (tmp_path / "tokenizer_config.json").write_text(f'{{"eos_token": {token}}}')
    assert tokenizer.load(tmp_path).eos == 0
    for nothing in ("{}", "[", '{"eos_token": null}'):
        (tmp_path / "tokenizer_config.json").write_text(nothing)
        assert tokenizer.load(tmp_path).named_eos is None
