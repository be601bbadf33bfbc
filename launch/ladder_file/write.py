"""Writes the file of `ladder new`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import by_rules
from configs.olmo2 import TASKS
from ladder.errors import InputError
from ladder.flops import flops_per_token
from ladder.sizes import n_params
from launch.ladder_file.choose import Choice, choose, target_width

VOCAB_SIZE = 100_352  # of a tokenizer.json that is not there yet: the published ladder's
OF_TASKS = "from configs.olmo2 import TASKS\n"
IMPORTS = f"from configs.by_rules import by_rules\n{OF_TASKS}from ladder.config import Data, Ladder"
FILE = '''\
"""{count} runs that predict {label}, for {share:.2%} of its training FLOPs. Written by
{command}"""

{imports}

# d_model of each size; layers, heads, batch size and learning rate follow by the rules in configs/by_rules.py.
SIZES = {sizes}
MULTIPLES = {multiples}  # of 20 tokens per parameter
TARGET = ("{label}", {width}, {tokens:_})  # name, d_model, tokens
DATA = Data(text={text}, tokenizer={tokenizer}){tasks}


def ladder() -> Ladder:
    return by_rules("{name}", SIZES, MULTIPLES, TARGET, DATA, TASKS, vocab_size={vocab_size:_}, seq_len={seq_len})
'''


@dataclass(frozen=True)
class Request:
    """What `ladder new` was asked for. n, tokens: of the target. budget: "1%" of its training FLOPs, or a number."""

    label: str
    n: float
    tokens: int
    budget: str
    text: tuple[str, ...]
    tokenizer: str
    tasks: tuple[str, ...]
    seq_len: int


def write(path: Path, request: Request, command: str) -> Choice:
    """Write a ladder file. Raises InputError where it exists, or where no ladder is within the budget."""
    if path.exists():
        raise InputError(f"{path}: is there already; name another file")
    if path.suffix != ".py":
        raise InputError(f"{path}: a ladder file is Python; name it {path.stem or 'my'}.py")
    vocab_size = _vocab_size(request.tokenizer)
    shape = by_rules.model(target_width(request.n, vocab_size, request.seq_len), vocab_size, request.seq_len)
    whole = flops_per_token(shape) * request.tokens
    choice = choose(request.n, request.tokens, _budget(request.budget, whole), vocab_size, request.seq_len)
    sizes = {_size(width, vocab_size, request.seq_len): width for width in choice.widths}
    published = request.tasks == TASKS
    text = FILE.format(
        count=len(choice.widths) * len(choice.multiples),
        label=request.label,
        share=choice.flops / whole,
        command=command,
        sizes=_literal(sizes),
        multiples=choice.multiples,
        width=choice.target_width,
        tokens=request.tokens,
        text=_literal(request.text),
        tokenizer=json.dumps(request.tokenizer),
        imports=IMPORTS if published else IMPORTS.replace(OF_TASKS, ""),
        tasks="" if published else f"\nTASKS = {_literal(request.tasks)}",
        name=_name(path),
        vocab_size=vocab_size,
        seq_len=request.seq_len,
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return choice


def _budget(text: str, whole: float) -> float:
    """FLOPs from "1%" of `whole`, or from a number."""
    from fitting.errors import InputError as FitInputError
    from fitting.tables.quantities import quantity

    share = text.endswith("%")
    try:
        value = quantity(text.removesuffix("%")) * (whole / 100 if share else 1)
    except FitInputError:
        value = 0.0
    if not 0 < value < whole:
        form = f"a share of the target's FLOPs, such as 1%, or a number below {whole:.3g}"
        raise InputError(f"{text!r}: write {form}", "budget")
    return value


def _vocab_size(tokenizer: str) -> int:
    if tokenizer == "bytes":
        return 256
    kind, _, size = tokenizer.partition(":")
    if kind == "bpe" and size.isdecimal():
        return int(size)
    if not tokenizer.endswith(".json"):
        raise InputError(f"{tokenizer!r}: write bytes, bpe:SIZE or the path of a tokenizer.json", "tokenizer")
    if not Path(tokenizer).exists():
        return VOCAB_SIZE
    from ladder.data import tokenizer as tokenizers

    return 128 * -(-tokenizers.load(tokenizer).vocab_size // 128)


def _size(width: int, vocab_size: int, seq_len: int) -> str:
    """The name of a size: its parameters, "190M"; a name has no decimal point."""
    n = n_params(by_rules.model(width, vocab_size, seq_len))
    return f"{n / 1e6:.0f}M" if n >= 1e7 else f"{n / 1e3:.0f}K"


def _name(path: Path) -> str:
    """The ladder's name: the file's, in the letters that a ladder's name may have."""
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).lstrip("-0123456789")[:20].rstrip("-") or "mine"


def _literal(value: dict | Sequence[str]) -> str:
    """Python source with double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}": {number}' for name, number in value.items()) + "}"
    texts = ", ".join(map(json.dumps, value))
    return f"({texts},)" if len(value) == 1 else f"({texts})"
