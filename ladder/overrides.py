"""Dotted paths and JSON into the dataclasses of config.py: typed, and unknown keys refused with the nearest name."""

import dataclasses
import math
import types
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ladder.errors import InputError


def override(config, *assignments: str):
    """`config` with "dotted.path=value" assignments applied, all at once; values are read as the type of the field.

    Raises InputError for an unknown key (naming the nearest), a wrong type, a key given twice or a missing "=".
    """
    tree: dict = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"override {assignment!r}: write it as dotted.path=value")
        *groups, last = path.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
            if not isinstance(branch, dict):
                raise InputError(f"override {path}: {group} is given a value and a member")
        if last in branch:
            raise InputError(f"override {path}: given twice")
        branch[last] = text
    return _replaced(config, tree, "")


def _replaced(config, tree: dict, prefix: str):
    """`config` with the tree of texts in it; one replacement for a group, so that it is checked when all are in."""
    new = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        hint = _hint(type(config), key, path)
        if isinstance(value, dict):
            if not dataclasses.is_dataclass(hint):
                raise InputError(f"override {path}: {key} has no members")
            new[key] = _replaced(getattr(config, key), value, f"{path}.")
        elif dataclasses.is_dataclass(hint):
            inner = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(hint))
            raise InputError(f"override {path}: names a group; its members are {inner}")
        else:
            new[key] = _parse(value, hint, path)
    return dataclasses.replace(config, **new)


def _hint(cls, key: str, path: str):
    hints = get_type_hints(cls)
    if key not in hints:
        near = get_close_matches(key, hints, n=1, cutoff=0.0)[0]
        raise InputError(f"{path}: {cls.__name__} has no {key!r}; did you mean {near!r}?")
    return hints[key]


def _parse(text: str, hint, path: str) -> Any:
    """Text from the command line as a value of the field's type."""
    if _optional(hint):
        return None if text.lower() == "none" else _parse(text, _some(hint), path)
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return tuple(_parse(part, item, path) for part in text.split(",") if part)
    if hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if hint is int:
        try:
            return int(text.replace("_", ""))
        except ValueError:
            raise InputError(f"{path} = {text!r}: needs a whole number") from None
    if hint is float:
        try:
            return _checked(float(text), float, path)
        except ValueError:
            raise InputError(f"{path} = {text!r}: needs a finite number") from None
    return _checked(text, hint, path)


def from_dict(cls, value: dict, path: str = "", where: str = ""):
    """A dataclass of config.py from what to_dict made; `where` (file) opens every message."""
    at = f"{where}: {path}" if where else path
    if not isinstance(value, dict):
        raise InputError(f"{at.rstrip('.: ') or cls.__name__}: needs an object, found {value!r}")
    members = {key: _decoded(item, _hint(cls, key, f"{at}{key}"), f"{path}{key}", where) for key, item in value.items()}
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in members]
    if missing:
        raise InputError(f"{at}{missing[0]} is missing")
    return cls(**members)


def _decoded(value, hint, path: str, where: str):
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, f"{path}.", where)
    if _optional(hint):
        return None if value is None else _decoded(value, _some(hint), path, where)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_decoded(item, get_args(hint)[0], path, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    return _checked(value, hint, f"{where}: {path}" if where else path)


def _checked(value, hint, path: str):
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise InputError(f"{path} = {value!r}: choose one of {', '.join(map(str, get_args(hint)))}")
    elif type(value) is not hint:
        raise InputError(f"{path} = {value!r}: needs {getattr(hint, '__name__', hint)}")
    elif hint is float and not math.isfinite(value):
        raise InputError(f"{path} = {value!r}: needs a finite number")
    return value


def _optional(hint) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _some(hint):
    return next(arg for arg in get_args(hint) if arg is not type(None))
