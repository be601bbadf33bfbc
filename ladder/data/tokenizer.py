"""Text to token ids and back: bytes, a BPE trained here, or any tokenizer.json that loses no text.

A tokenizer is one JSON text (`definition`); everything else follows from it. A BPE trained here is
an ordinary tokenizer.json, encoded by `tiktoken` with the same ranks, which is 7 times as fast.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tiktoken
from etils import epath
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from ladder.errors import InputError

FILE = "tokenizer.json"
END_OF_TEXT = "<|endoftext|>"
# Names under which published tokenizers keep their document separator, the likelier first.
SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
# Words with one leading mark or space, up to three digits, signs and their line ends, white space:
# as Llama 3 splits, but for English contractions, which cut 'return' in code into 're and turn.
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# 1 % fewer tokens from twice the sample, in twice the time: 4 MB for a vocabulary of 8,000.
SAMPLE_BYTES_PER_TOKEN = 500
NOT_PLAIN = ("dropout", "unk_token", "ignore_merges", "byte_fallback", "continuing_subword_prefix")
PROBES = (
    "a",
    " a",
    "\n\n",
    'def f(x):\n    return {"é": "日本", 1: "🙂"}  # two  spaces\r\n\ttab 12345 <|endoftext|> ',
)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Token ids of text.

    eos: the id that ends a document; bos: the id the tokenizer puts in front of a text, if it does.
    token_bytes: int32[V], the UTF-8 bytes that each token stands for, 0 for special tokens: over
    the encoding of a text they sum to its bytes. hash: 16 hex digits of the definition.
    """

    vocab_size: int
    eos: int
    bos: int | None
    token_bytes: np.ndarray
    hash: str
    definition: str
    encode_ids: Callable[[str], np.ndarray | list[int]]
    decode_ids: Callable[[list[int]], str]

    @property
    def dtype(self) -> type:
        """The narrowest of uint16 and int32 that holds every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.int32

    def encode(self, text: str) -> np.ndarray:
        """Ids without bos and eos; names of special tokens inside `text` are ordinary text."""
        return np.asarray(self.encode_ids(text)).astype(self.dtype)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD, special tokens are left out."""
        return self.decode_ids([int(i) for i in ids])

    def save(self, directory) -> None:
        """Writes tokenizer.json, for `load` and (bytes apart) for other programs."""
        directory = epath.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(self.definition)


def load(spec) -> Tokenizer:
    """The tokenizer "bytes", of a tokenizer.json, or of a directory with one; or InputError."""
    if spec == "bytes":
        return byte_tokenizer()
    path = epath.Path(spec)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise InputError(f'{path}: no such tokenizer; write "bytes" or the path of a tokenizer.json')
    try:
        return from_definition(path.read_text(encoding="utf-8"))
    except ValueError as error:  # InputError, bad UTF-8 or bad JSON
        raise InputError(f"{path}: not a tokenizer.json that can be used: {_one_line(error)}") from None


def byte_tokenizer() -> Tokenizer:
    """256 ids, one a byte. Byte 0xFF never occurs in UTF-8: it is the separator."""
    definition = '{"kind":"bytes"}'
    token_bytes = np.ones(256, np.int32)
    token_bytes[255] = 0

    def encode(text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), np.uint8)

    def decode(ids: list[int]) -> str:
        return bytes(i for i in ids if i != 255).decode("utf-8", errors="replace")

    return Tokenizer(256, 255, None, token_bytes, _hash(definition), definition, encode, decode)


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` tokens, `<|endoftext|>` (id 0) included."""
    engine = Engine(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    return from_definition(engine.to_str())


def from_definition(definition: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json's text. Raises ValueError, without the file's name."""
    parsed = json.loads(definition)
    if parsed == {"kind": "bytes"}:
        return byte_tokenizer()
    try:
        engine = Engine.from_str(definition)
    except Exception as error:  # tokenizers raises no narrower class
        raise InputError(_one_line(error)) from None
    engine.no_truncation()
    engine.no_padding()
    first = engine.encode("a").ids[:1]  # before special tokens are turned off
    engine.encode_special_tokens = True

    vocabulary = engine.get_vocab(with_added_tokens=True)
    added = engine.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special}
    eos = next((vocabulary[name] for name in SEPARATORS if name in vocabulary), None)
    if eos is None:
        raise InputError(f"it has no token that ends a document (none of {', '.join(SEPARATORS)})")
    byte_level = "ByteLevel" in json.dumps([parsed.get("pre_tokenizer"), parsed.get("decoder")])
    token_bytes = np.zeros(max(vocabulary.values()) + 1, np.int32)
    for piece, i in vocabulary.items():
        if i not in special and i != eos:
            token_bytes[i] = len(piece.encode() if i in added else _piece_bytes(piece, byte_level))

    bos = first[0] if first and first[0] in special else None
    about = (len(token_bytes), eos, bos, token_bytes, _hash(definition), definition)
    tokenizer = Tokenizer(*about, _encoder(engine, parsed, special), engine.decode)
    for text in PROBES:
        if int(token_bytes[tokenizer.encode(text)].sum()) != len(text.encode("utf-8")):
            raise InputError(f"it loses bytes of {text!r}, so bits per byte cannot be counted")
    return tokenizer


def _encoder(engine: Engine, parsed: dict, special: set[int]) -> Callable:
    """tiktoken where its merging by rank gives what the definition gives, else tokenizers."""
    ranks = _ranks(parsed, special)
    if ranks is None:
        return lambda text: engine.encode(text, add_special_tokens=False).ids
    table = tiktoken.Encoding("bpe", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={})
    return partial(_encode_ranks, table)


def _encode_ranks(table: tiktoken.Encoding, text: str) -> np.ndarray:
    try:
        return table.encode_to_numpy(text, disallowed_special=())
    except ValueError:  # a million blanks in a row exhaust its regular expressions; halves do not
        half = len(text) // 2
        return np.concatenate([_encode_ranks(table, t) for t in (text[:half], text[half:])])


def _ranks(parsed: dict, special: set[int]) -> dict[bytes, int] | None:
    """Bytes to id for what `train` makes: its own split, merges in the order of their ids."""
    model, split = parsed["model"], parsed.get("pre_tokenizer") or {}
    first = (split.get("pretokenizers") or [{}])[0]
    ours = first.get("pattern") == {"Regex": SPLIT} and first.get("behavior") == "Isolated"
    plain = parsed.get("normalizer") is None and not any(model.get(key) for key in NOT_PLAIN)
    if not (ours and plain and model["type"] == "BPE" and len(split["pretokenizers"]) == 2):
        return None
    vocabulary = model["vocab"]
    ranks = {_piece_bytes(piece, True): i for piece, i in vocabulary.items() if i not in special}
    merged = [vocabulary["".join(pair)] for pair in model["merges"]]
    in_order = merged == sorted(set(merged)) and len(merged) + 256 == len(ranks)
    return ranks if in_order and all(bytes([b]) in ranks for b in range(256)) else None


def _byte_alphabet() -> dict[str, int]:
    """Character to byte in byte-level vocabularies (GPT-2's: printable bytes are themselves)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


BYTE_OF = _byte_alphabet()


def _piece_bytes(piece: str, byte_level: bool) -> bytes:
    """The text of a vocabulary entry: byte-level, or SentencePiece's (blanks, byte fall-back)."""
    if byte_level and all(c in BYTE_OF for c in piece):
        return bytes(BYTE_OF[c] for c in piece)
    if byte_level:
        return piece.encode()
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode("utf-8")


def _hash(definition: str) -> str:
    canonical = json.dumps(json.loads(definition), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
