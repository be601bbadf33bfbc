"""What is checked of the arguments of every verb before it starts: no long work ends in a mistyped file name."""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from fitting import files
from ladder.errors import InputError

# Flags that name a file to write. Their type is Path; --out of plan, a str, names a folder.
OUTPUTS = ("json", "plot", "out", "calibrate", "markdown", "seal")


def checked(verb: Callable) -> Callable:
    """The verb, which first raises InputError where a text is empty or an output cannot be written."""
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def run(*args, **kwargs):
        values = signature.bind(*args, **kwargs).arguments
        is_positional = {p.name: p.kind is p.POSITIONAL_ONLY for p in signature.parameters.values()}
        for name, value in values.items():
            for flag, text in _texts(name, value):
                if not text.strip():
                    shown = f"the argument {flag.upper()}" if is_positional[name] else f"--{flag.replace('_', '-')}"
                    raise InputError(
                        f"{shown} is empty; give it a value" + ("" if is_positional[name] else ", or leave it out")
                    )
        inputs = [text for name, value in values.items() if is_positional[name] for text in _each(value)]
        _check_outputs({name: values[name] for name in OUTPUTS if isinstance(values.get(name), Path)}, inputs)
        return verb(*args, **kwargs)

    return run


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """(flag, text) of an argument: itself, or the fields of a dataclass of flags."""
    if isinstance(value, str):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(field.name, getattr(value, field.name))


def _each(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _check_outputs(outputs: dict[str, Path], inputs: list) -> None:
    """Raises InputError where a file cannot be written, or is an input or another output too."""
    written: dict[str, str] = {}
    for name, path in outputs.items():
        files.check_writable(path)
        if name == "plot":
            _check_format(path)
        if any(isinstance(text, str) and _same_file(text, path) for text in inputs):
            raise InputError(f"{path}: is read by this command, and would be overwritten; name another file (--{name})")
        if (other := written.setdefault(os.path.realpath(path), name)) != name:
            raise InputError(f"{path}: named by both --{other} and --{name}; name two files")


def _check_format(path: Path) -> None:
    """Raises InputError where the name does not end in a format of figures."""
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise InputError(f"{path}: cannot be written: a figure's name ends in .png, .svg or .pdf (--plot)")


def _same_file(text: str, path: Path) -> bool:
    return os.path.isfile(path) and os.path.isfile(text) and os.path.samefile(text, path)
