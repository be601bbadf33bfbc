"""Write a tokenizer as tokenizer.json and tokenizer_config.json, for PreTrainedTokenizerFast of transformers.

It gives the ids that ours gives: `split_special_tokens` because names of special tokens in a text are ordinary text
here, no cleaning up of spaces, and no truncation or padding that a given tokenizer.json may ask for.
"""

import json

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Engine

from ladder.data.tokenizer import BYTE_OF, END_OF_TEXT, Tokenizer


def definition(tokenizer: Tokenizer) -> str:
    """The text of tokenizer.json."""
    parsed = json.loads(tokenizer.definition)
    if parsed == {"kind": "bytes"}:
        return _bytes(tokenizer.eos)
    return json.dumps(parsed | {"truncation": None, "padding": None}, ensure_ascii=False, indent=2)


def config(tokenizer: Tokenizer, eos: int, most_tokens: int) -> dict:
    """tokenizer_config.json. eos: the id that ends a document. most_tokens: that the model takes."""
    engine = Engine.from_str(definition(tokenizer))
    names = {"eos_token": engine.id_to_token(eos), "pad_token": engine.id_to_token(eos)}
    if tokenizer.bos is not None:
        names["bos_token"] = engine.id_to_token(tokenizer.bos)
    return names | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": most_tokens,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
    }


def _bytes(eos: int) -> str:
    """A tokenizer of single bytes, without merges. Byte `eos` ends a document; it never occurs in UTF-8 text."""
    vocabulary = {character: byte for character, byte in BYTE_OF.items() if byte != eos}
    engine = Engine(models.BPE(vocab=vocabulary | {END_OF_TEXT: eos}, merges=[]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return engine.to_str()
