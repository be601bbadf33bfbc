"""Set fields of the dataclasses of config.py from "dotted.path=value" or JSON, with their types and names checked."""

import dataclasses
import json
import math
import re
import types
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ladder.errors import InputError

SUFFIXES = {"": 0, "K": 3, "M": 6, "B": 9, "G": 9, "T": 12}  # powers of ten
WHOLE = re.compile(r"\s*([+-]?[0-9]+)(?:\.([0-9]*))?(?:e\+?([0-9]{1,2}))?([KMBGT])?\s*", re.IGNORECASE)


def override(config, *assignments: str):
    """`config` with "dotted.path=value" assignments applied, all at once; values are parsed as the field's type.

    Raises InputError for an unknown key (with the nearest name), a wrong type, a key given twice or a missing "=".
    """
    tree: dict = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"override {assignment!r}: write it as dotted.path=value")
        *groups, last = path.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                raise InputError(f"override {path}: {group} is given a value and a member; leave one out")
        if last in node:
            raise InputError(f"override {path}: given twice; leave one out")
        node[last] = text
    return _apply(config, tree, "")


def _apply(config, tree: dict, prefix: str):
    """`config` with a nested dict of texts applied; one `replace` per dataclass, so that checks see all new values."""
    new = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        hint = _type_hint(type(config), key, path)
        if isinstance(value, dict):
            if item_class := _item_class(hint):
                new[key] = _apply_by_name(getattr(config, key), value, f"{path}.", item_class)
                continue
            if not dataclasses.is_dataclass(hint):
                raise InputError(f"override {path}: {key} has no members; write {path}=VALUE")
            new[key] = _apply(getattr(config, key), value, f"{path}.")
        elif dataclasses.is_dataclass(hint):
            members = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(hint))
            raise InputError(f"override {path}: names a group; its members are {members}")
        else:
            new[key] = _parse(value, hint, path)
    return dataclasses.replace(config, **new)


def _apply_by_name(items: tuple, tree: dict, prefix: str, item_class: type) -> tuple:
    """Dataclasses with a field `name`, and assignments to members of those that are named in `tree`."""
    if "name" not in item_class.__dataclass_fields__:
        raise InputError(f"override {prefix}{next(iter(tree))}: give {prefix.rstrip('.')} as JSON, a list of objects")
    by_name = {item.name: item for item in items}
    for name, value in tree.items():
        if name not in by_name:
            members = f"has {', '.join(by_name)}" if by_name else "is empty; give it as JSON, a list of objects"
            raise InputError(f"override {prefix}{name}: {prefix.rstrip('.')} {members}")
        if not isinstance(value, dict):
            members = ", ".join(f"{prefix}{name}.{f.name}" for f in dataclasses.fields(item_class))
            raise InputError(f"override {prefix}{name}: names a group; its members are {members}")
    return tuple(_apply(item, tree.get(name, {}), f"{prefix}{name}.") for name, item in by_name.items())


def _item_class(hint) -> type | None:
    """The dataclass of which `hint` is a tuple, or None."""
    item = get_args(hint)[0] if get_origin(hint) is tuple else None
    return item if dataclasses.is_dataclass(item) else None


def _parse_json(text: str, hint, path: str) -> tuple:
    """A tuple of dataclasses from a JSON list of objects."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        item = _item_class(hint)
        required = ", ".join(f'"{f.name}": ...' for f in dataclasses.fields(item) if f.default is dataclasses.MISSING)
        raise InputError(f"{path} = {text!r:.60}: write a JSON list of objects, [{{{required}}}, ...]")
    return _decode(value, hint, path, "")


def _type_hint(cls, key: str, path: str):
    hints = get_type_hints(cls)
    if key not in hints:
        near = get_close_matches(key, hints, n=1, cutoff=0.0)[0]
        raise InputError(f"{path}: {cls.__name__} has no {key!r}; did you mean {near!r}?")
    return hints[key]


def _parse(text: str, hint, path: str) -> Any:
    """Text from the command line as a value of the type `hint`."""
    if _is_optional(hint):
        return None if text.lower() == "none" else _parse(text, _without_none(hint), path)
    if _item_class(hint):
        return _parse_json(text, hint, path)
    if get_origin(hint) is tuple:
        item_hint = get_args(hint)[0]
        return tuple(_parse(part, item_hint, path) for part in text.split(",") if part)
    if hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if hint is int:
        return _whole(text, path)
    if hint is float:
        try:
            return _checked(float(text), float, path)
        except ValueError:
            raise InputError(f"{path} = {text!r}: needs a finite number") from None
    return _checked(text, hint, path)


def _whole(text: str, path: str) -> int:
    """A whole number as people write it: 4096, 4_096, 1e6, 1.3B. Exact, so no float on the way."""
    if match := WHOLE.fullmatch(text.replace("_", "")):
        digits, fraction, exponent, suffix = match[1], match[2] or "", int(match[3] or 0), match[4] or ""
        power = exponent + SUFFIXES[suffix.upper()] - len(fraction.rstrip("0"))
        if power >= 0:
            return int(digits + fraction.rstrip("0")) * 10**power
    raise InputError(f"{path} = {text!r}: needs a whole number, such as 1300000000, 1.3e9 or 1.3B")


def from_dict(cls, value: dict, path: str = "", where: str = ""):
    """A dataclass of config.py from what to_dict returned. Raises InputError, starting with the file name `where`."""
    location = f"{where}: {path}" if where else path
    if not isinstance(value, dict):
        raise InputError(f"{location.rstrip('.: ') or cls.__name__}: needs an object, found {value!r}")
    members = {
        key: _decode(item, _type_hint(cls, key, f"{location}{key}"), f"{path}{key}", where)
        for key, item in value.items()
    }
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in members]
    if missing:
        raise InputError(f"{location}{missing[0]} is missing")
    return cls(**members)


def _decode(value, hint, path: str, where: str):
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, f"{path}.", where)
    if _is_optional(hint):
        return None if value is None else _decode(value, _without_none(hint), path, where)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_decode(item, get_args(hint)[0], path, where) for item in value)
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


def _is_optional(hint) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _without_none(hint):
    return next(arg for arg in get_args(hint) if arg is not type(None))
