"""What this room says to a user: errors about his input, and warnings about a result."""


class InputError(ValueError):
    """A table, argument or law given by the user is wrong. One line: what, where, how to mend it.

    argument: the name of the argument that is wrong, for commands that call it by another name.
    """

    def __init__(self, message: str, argument: str | None = None):
        super().__init__(message)
        self.argument = argument


class FitWarning(UserWarning):
    """A result is not to be trusted in some respect: not converged, a parameter on its bound, few runs."""
