"""A tree of values as YAML with comments. What it writes means the same in YAML 1.1 (PyYAML, OmegaConf) and 1.2."""

import json
import re
from dataclasses import dataclass
from typing import Any

# The value of a setting that the user must fill in.
FILL_IN = "FILL_IN"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True)
class Noted:
    """A value with a comment behind it (of a mapping: above it)."""

    value: Any
    comment: str


def fill_in(what: str) -> Noted:
    """A setting that the user must fill in with `what`."""
    return Noted(FILL_IN, f"FILL IN: {what}")


def text(comments: tuple[str, ...], tree: dict) -> str:
    """A file: the comments, one a line, then the tree. Mappings are indented blocks, lists stand on one line."""
    return "\n".join([*(f"# {line}".rstrip() for line in comments), *_lines(tree, "")]) + "\n"


def _lines(tree: dict, indent: str) -> list[str]:
    lines = []
    for key, value in tree.items():
        comment = ""
        if isinstance(value, Noted):
            value, comment = value.value, value.comment
        if isinstance(value, dict) and value:
            lines += [f"{indent}# {comment}"] if comment else []
            lines += [f"{indent}{_key(key)}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{_key(key)}: {_flow(value)}{f'  # {comment}' if comment else ''}")
    return lines


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) and key.lower() not in _NOT_TEXT else json.dumps(key, ensure_ascii=False)


def _flow(value) -> str:
    """A value on one line."""
    match value:
        case Noted():
            return _flow(value.value)
        case dict():
            return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case float():
            # YAML 1.1 takes 1e-05 for text: a number has a point.
            digits, exponent, power = repr(value).partition("e")
            return (digits if "." in digits else f"{digits}.0") + exponent + power
    return json.dumps(value, ensure_ascii=False)
