"""The tokenizer of OLMo 1, GPT-NeoX's with more ids, without the normalizer for whose sake it is refused as it is."""

import json
from pathlib import Path

from ladder.data import tokenizer

FILE = "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"


def load(requests: Path) -> tokenizer.Tokenizer:
    """requests: the folder of the installed OLMES requests."""
    return tokenizer.from_definition(json.dumps(json.loads((requests / FILE).read_text()) | {"normalizer": None}))
