"""Text to token ids and back, by one of: bytes, a BPE trained here, any lossless tokenizer.json.

One JSON text (`definition`) determines a tokenizer. A BPE trained here is an ordinary tokenizer.json. `tiktoken`
encodes it with the same ranks, 7 times as fast as `tokenizers`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tiktoken
from etils import epath
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from ladder.errors import InputError

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
END_OF_TEXT = "<|endoftext|>"
# Names of the document separator in published tokenizers, the most likely first.
SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
SEPARATORS += (
    "<|eos|>",
    "<EOS>",
    "[EOS]",
    "<|EOS|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
# Words with one leading mark or space; up to three digits; punctuation with its line ends; white space. As in Llama 3,
# but without the pattern for English contractions, which would split 'return' in code into 're and turn.
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# 4 MB of text for a vocabulary of 8,000. Twice as much gives 1 % fewer tokens and takes twice the time.
SAMPLE_BYTES_PER_TOKEN = 500
# Options of a BPE that tiktoken does not reproduce.
UNSUPPORTED_OPTIONS = ("dropout", "unk_token", "ignore_merges", "byte_fallback", "continuing_subword_prefix")
LISTED = 30  # special tokens in a message
PROBES = (
    "a",
    " a",
    "\n\n",
    'def f(x):\n    return {"é": "日本", 1: "🙂"}  # two  spaces\r\n\ttab 12345 <|endoftext|> ',
    # Capitals, characters that a normal form would replace by others, kinds of space.
    "The STONE of \u00c9lan",
    "\ufb01ne x\u00b2 \u212b \u2460 \uff26\uff55\uff4c\uff4c e\u0301 \u00e9",
    "a\u00a0b\u3000c\u2009d  ",
)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Converts text to token ids and back.

    eos: the id that ends a document. bos: the id that the tokenizer puts before a text, or None. token_bytes: int32[V],
    the number of UTF-8 bytes of each token, 0 for special tokens; over an encoded text they sum to the text's bytes,
    and one more where space_before: the tokenizer puts a space before each text (SentencePiece).
    hash: the first 16 hex digits of the sha256 of the definition, and of named_eos. named_eos: the name of the
    separator, where it is not the one that the definition alone gives.
    """

    vocab_size: int
    eos: int
    bos: int | None
    token_bytes: np.ndarray
    hash: str
    definition: str
    encode_ids: Callable[[str], np.ndarray | list[int]]
    decode_ids: Callable[[list[int]], str]
    space_before: bool = False
    named_eos: str | None = None

    @property
    def dtype(self) -> type:
        """uint16 if it holds every id, else int32."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.int32

    def encode(self, text: str) -> np.ndarray:
        """Ids without bos and eos. Names of special tokens in `text` are encoded as ordinary text."""
        return np.asarray(self.encode_ids(text)).astype(self.dtype)

    def encode_document(self, text: str) -> np.ndarray:
        """Ids of a document: bos, where the tokenizer has one, the text, eos."""
        bos = [] if self.bos is None else [self.bos]
        return np.concatenate([bos, self.encode_ids(text), [self.eos]], dtype=self.dtype, casting="unsafe")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Invalid UTF-8 becomes U+FFFD, special tokens are dropped."""
        return self.decode_ids([int(i) for i in ids])

    def save(self, directory) -> None:
        """Write tokenizer.json, for `load` and (except for "bytes") for other programs; and named_eos as they do."""
        directory = epath.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(self.definition, encoding="utf-8")
        if self.named_eos is not None:
            (directory / SETTINGS).write_text(json.dumps({"eos_token": self.named_eos}) + "\n", encoding="utf-8")


def load(spec, eos: str | None = None) -> Tokenizer:
    """The tokenizer "bytes", or that of a tokenizer.json or of a directory with one. Raises InputError if unusable.

    eos: the name of the token that ends a document; None: the one that the directory's tokenizer_config.json names,
    else the first of SEPARATORS.
    """
    if spec == "bytes":
        return byte_tokenizer()
    path = epath.Path(spec)
    if path.is_dir():
        eos, path = eos or _named_by(path / SETTINGS), path / FILE
    if not path.is_file():
        raise InputError(f'{path}: no such tokenizer; write "bytes" or the path of a tokenizer.json')
    try:
        return from_definition(path.read_text(encoding="utf-8"), eos)
    except (ValueError, RecursionError) as error:  # InputError, bad UTF-8 or bad JSON
        raise InputError(f"{path}: not a tokenizer.json that can be used: {_one_line(error)}") from None


def _named_by(path) -> str | None:
    """The eos_token of a tokenizer_config.json; None where it names none."""
    if not path.is_file():
        return None
    try:
        token = json.loads(path.read_text(encoding="utf-8"))["eos_token"]
        token = token["content"] if isinstance(token, dict) else token
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token if isinstance(token, str) else None


def same_ids(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether two tokenizers give the same ids: the same lengths of all tokens, and the same ids of PROBES. What ends a
    document may differ."""
    if a.vocab_size != b.vocab_size:
        return False
    separators = [a.eos, b.eos]
    lengths = [np.delete(tokenizer.token_bytes, separators) for tokenizer in (a, b)]
    return np.array_equal(*lengths) and all(np.array_equal(a.encode(text), b.encode(text)) for text in PROBES)


def byte_tokenizer() -> Tokenizer:
    """256 ids, one for each byte. Byte 0xFF never occurs in UTF-8, so it is the document separator."""
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
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    return from_definition(engine.to_str())


def from_definition(definition: str, eos: str | None = None) -> Tokenizer:
    """The tokenizer that the text of a tokenizer.json defines. Raises ValueError; its message names no file.

    eos: the name of the special token that ends a document; None for the first of SEPARATORS.
    """
    parsed = json.loads(definition)
    if parsed == {"kind": "bytes"}:
        return byte_tokenizer()
    try:
        engine = Engine.from_str(definition)
    except Exception as error:  # tokenizers raises no narrower class
        raise InputError(_one_line(error)) from None
    engine.no_truncation()
    engine.no_padding()
    first_id = engine.encode("a").ids[:1]  # read before the next line, which turns special tokens off
    engine.encode_special_tokens = True

    vocabulary = engine.get_vocab(with_added_tokens=True)
    if len(set(vocabulary.values())) < len(vocabulary):  # tiktoken would panic, with a traceback
        raise InputError("it gives two tokens the same id")
    added = engine.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special}
    default = next((name for name in SEPARATORS if name in vocabulary), None)
    name, named_eos = eos or default, None if eos == default else eos
    _check_separator(name, named_eos, {added[i].content for i in special})
    eos = vocabulary[name]
    byte_level = "ByteLevel" in json.dumps([parsed.get("pre_tokenizer"), parsed.get("decoder")])
    byte_fallback = bool(parsed["model"].get("byte_fallback"))
    text_of = {
        i: piece.encode() if i in added else _piece_bytes(piece, byte_level, byte_fallback)
        for piece, i in vocabulary.items()
        if i not in special and i != eos
    }
    token_bytes = np.zeros(max(vocabulary.values()) + 1, np.int32)
    token_bytes[list(text_of)] = [len(content) for content in text_of.values()]

    bos = first_id[0] if first_id and first_id[0] in special else None
    encode = _encoder(engine, parsed, special)
    space_before = b"".join(text_of.get(int(i), b"") for i in encode("a")) == b" a"
    fields = (len(token_bytes), eos, bos, token_bytes, _hash(definition, named_eos), definition)
    tokenizer = Tokenizer(*fields, encode, engine.decode, space_before, named_eos)
    contents = sorted(token.content for token in added.values())
    _refuse_lossy(tokenizer, text_of, contents, ("<0x41>",) if byte_fallback else ())
    return tokenizer


def _check_separator(name: str | None, named: str | None, special: set[str]) -> None:
    """Raise InputError where no token ends a document, or the one that is `named` is not a special token."""
    listed = ", ".join(sorted(special)[:LISTED]) + (
        f" and {len(special) - LISTED} more" if len(special) > LISTED else ""
    )
    if named is not None and named not in special:
        raise InputError(
            f"{named!r} is none of its special tokens, which are {listed or 'none'}; name one to end documents"
        )
    if name is None:
        mend = f"; name one of its special tokens as data.eos: {listed}" if special else ""
        raise InputError(f"it has no token that ends a document (none of {', '.join(SEPARATORS)}){mend}")


def _refuse_lossy(tokenizer: Tokenizer, text_of: dict[int, bytes], added: list[str], more: tuple[str, ...]) -> None:
    """Raises InputError where the tokens of a text are not the text. text_of: of each token but the special ones.

    added: contents of the added tokens. more: texts to try besides PROBES.
    """

    def kept(text: str) -> bytes:
        whole = b"".join(text_of.get(int(i), b"") for i in tokenizer.encode(text))
        return whole[1:] if tokenizer.space_before else whole

    between_blanks = [f"x  {content}  y" for content in added]
    together = "\n".join(between_blanks)
    apart = () if kept(together) == together.encode() else (*between_blanks, together)
    for text in (*PROBES, *more, *apart):
        if (now := kept(text)) != text.encode():
            now = now.decode("utf-8", errors="replace")
            raise InputError(
                f"it loses bytes of {text!r:.60}, which becomes {now!r:.60}, so bits per byte cannot be counted; take"
                " its normalizer, and lstrip and rstrip of its added tokens, out of the file"
            )


def _encoder(engine: Engine, parsed: dict, special: set[int]) -> Callable:
    """Encodes with tiktoken if its merging by rank gives the same ids as the definition, else with `tokenizers`."""
    ranks = _ranks(parsed, special)
    if ranks is None:
        return lambda text: engine.encode(text, add_special_tokens=False).ids
    encoding = tiktoken.Encoding("bpe", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={})
    return partial(_encode_ranks, encoding)


def _encode_ranks(encoding: tiktoken.Encoding, text: str) -> np.ndarray:
    try:
        return encoding.encode_to_numpy(text, disallowed_special=())
    except ValueError:  # its regular expressions fail on a million spaces in a row: encode two halves
        half = len(text) // 2
        return np.concatenate([_encode_ranks(encoding, t) for t in (text[:half], text[half:])])


def _ranks(parsed: dict, special: set[int]) -> dict[bytes, int] | None:
    """{bytes: id} if the definition is as `train` writes it (same split, merges in the order of their ids), or None."""
    model, split = parsed["model"], parsed.get("pre_tokenizer") or {}
    first = (split.get("pretokenizers") or [{}])[0]
    same_split = first.get("pattern") == {"Regex": SPLIT} and first.get("behavior") == "Isolated"
    supported = parsed.get("normalizer") is None and not any(model.get(key) for key in UNSUPPORTED_OPTIONS)
    if not (same_split and supported and model["type"] == "BPE" and len(split["pretokenizers"]) == 2):
        return None
    vocabulary = model["vocab"]
    ranks = {_piece_bytes(piece, True, False): i for piece, i in vocabulary.items() if i not in special}
    merged = [vocabulary["".join(pair)] for pair in model["merges"]]
    in_order = merged == sorted(set(merged)) and len(merged) + 256 == len(ranks)
    return ranks if in_order and all(bytes([b]) in ranks for b in range(256)) else None


def _byte_alphabet() -> dict[str, int]:
    """{character: byte} of byte-level vocabularies (as in GPT-2: printable bytes stand for themselves)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


BYTE_OF = _byte_alphabet()


def _piece_bytes(piece: str, byte_level: bool, byte_fallback: bool) -> bytes:
    """The bytes of a vocabulary entry: byte-level, or SentencePiece's (U+2581 is a space; with byte_fallback, <0xNN> a
    byte)."""
    if byte_level and all(c in BYTE_OF for c in piece):
        return bytes(BYTE_OF[c] for c in piece)
    if byte_level:
        return piece.encode()
    if byte_fallback and re.fullmatch("<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode("utf-8")


def _hash(definition: str, named_eos: str | None = None) -> str:
    value = json.loads(definition)
    canonical = json.dumps(value if named_eos is None else [value, named_eos], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
