"""Exceptions that end a run or a command; the `ladder` command turns each into its exit code."""


class InputError(ValueError):
    """The user's input is wrong; the message is one line: what is wrong, where, how to mend it. Exit code 2.

    argument: the name of the argument that is wrong, for commands that call it by another name.
    """

    def __init__(self, message: str, argument: str | None = None):
        super().__init__(message)
        self.argument = argument


class DamagedError(InputError):
    """A file of a run directory or a corpus is not as it was written."""


class Preempted(Exception):
    """The run was stopped from outside, or another process trains it: try again. Exit code 75."""


class Diverged(Exception):
    """NaN or Inf in the loss or the gradients; the run is never used in a fit. Exit code 78."""


def check(ok: bool, message: str) -> None:
    """Raise InputError(message) unless `ok`."""
    if not ok:
        raise InputError(message)
