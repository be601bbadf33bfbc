"""A computation that is made when it is first asked for, and not again."""

from collections.abc import Callable

from fitting.errors import InputError


def once(compute: Callable) -> Callable:
    """A function that calls `compute` only the first time. Later it returns the same result, or raises the same
    InputError."""
    kept: list = []

    def result():
        if not kept:
            try:
                kept.append(compute())
            except InputError as error:
                kept.append(error)
        if isinstance(kept[0], InputError):
            raise kept[0]
        return kept[0]

    return result
