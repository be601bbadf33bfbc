"""Train and evaluate one rung. Imports nothing heavy until a name is used.

Start reading at loop/train.py, the loop, and config.py, what a rung is.
"""

import importlib

_MODULES = {
    "Model": "config",
    "Rung": "config",
    "Ladder": "config",
    "train": "loop.train",
    "evaluate": "loop.evaluate",
    "InputError": "errors",
    "Preempted": "errors",
    "Diverged": "errors",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'ladder' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"ladder.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
